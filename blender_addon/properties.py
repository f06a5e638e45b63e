# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person asks for: one description of the fields, for the panel and for the operator."""

from __future__ import annotations

from typing import Any

import bpy

from . import cameras, request, servers

FIELDS = (
    "prompt",
    "negative_prompt",
    "recipe",
    "method",
    "preset",
    "texture_size",
    "face_budget",
    "smoothing",
    "normal_map",
    "lods",
    "pbr",
    "seed",
    "variations",
    "height",
    "steps",
    "prior",
    "lora",
    "lora_scale",
    *request.RANGES,
)
# Of Texture Selected besides.
TEXTURE_FIELDS = ("keep_texture", "mask")


def fields(**common: Any) -> dict[str, Any]:
    """Annotations of all fields; ``common`` goes to every property, for instance ``options``."""
    p = bpy.props
    return {
        "prompt": p.StringProperty(
            name="Prompt",
            description='What to make, for instance "a red mug"',
            default="a red mug",
            **common,
        ),
        "negative_prompt": p.StringProperty(
            name="Avoid",
            description="What the object should not be (the negative prompt); may stay empty",
            **common,
        ),
        "recipe": p.EnumProperty(
            name="Recipe",
            description="Whose weights and schedules are used while the shape is found",
            items=request.RECIPES,
            default=request.OWN_RECIPE,
            **common,
        ),
        "method": p.EnumProperty(
            name="Method",
            description="How the diffusion model's opinion of a picture moves the shape",
            items=request.METHODS,
            default="ssd",
            **common,
        ),
        "preset": p.EnumProperty(
            name="Preset",
            description="How much time goes into steps, faces and texture",
            items=request.PRESETS,
            default="draft",
            **common,
        ),
        "texture_size": p.EnumProperty(
            name="Texture",
            description="Size of the colour texture",
            items=request.TEXTURE_SIZES,
            default=request.FROM_PRESET,
            **common,
        ),
        "face_budget": p.IntProperty(
            name="Faces",
            description="Most triangles of the finished mesh; 0 takes the preset's, which are 8000 "
            "for draft, 20000 for standard and 60000 for high",
            default=0,
            min=0,
            max=1_000_000,
            **common,
        ),
        "smoothing": p.IntProperty(
            name="Smoothing",
            description="Rounds of smoothing of the shape before its triangles are reduced. A few "
            "even out the steps of the grid that it was made on, many round its edges, 0 leaves "
            "it as it is",
            default=request.OF_SHAPE["smoothing"],
            min=0,
            max=request.MAXIMUM_SMOOTHING,
            **common,
        ),
        "normal_map": p.BoolProperty(
            name="Normal Map",
            description="Shade the finished mesh like the surface before its triangles were "
            "reduced to the face budget",
            default=False,
            **common,
        ),
        "pbr": p.BoolProperty(
            name="Roughness and Metallic",
            description="Optimise roughness and metallic with the colours, as a texture of their "
            "own, in place of one value each",
            default=False,
            **common,
        ),
        "lods": p.IntProperty(
            name="Levels of Detail",
            description="Coarser meshes to make besides, for when the object is far away: each has "
            "a quarter of the triangles and half the texture's edge of the one before, and comes "
            "hidden as a child of the object",
            default=0,
            min=0,
            max=request.MAXIMUM_LODS,
            **common,
        ),
        "seed": p.IntProperty(
            name="Seed",
            description="Another number gives another variation; the same one the same object",
            default=0,
            min=0,
            **common,
        ),
        "variations": p.IntProperty(
            name="Variations",
            description="Objects to make at once, side by side; each takes as long as one",
            default=1,
            min=1,
            max=request.MAXIMUM_VARIATIONS,
            **common,
        ),
        "height": p.FloatProperty(
            name="Height",
            description="Height of the finished object",
            default=1.0,
            min=0.001,
            max=1000.0,
            subtype="DISTANCE",
            unit="LENGTH",
            **common,
        ),
        "steps": p.IntProperty(
            name="Steps",
            description="Optimisation steps of the shape; 0 takes the preset's",
            default=0,
            min=0,
            max=100_000,
            **common,
        ),
        "prior": p.StringProperty(
            name="Prior",
            description="Diffusion model that judges the pictures. The list shows those that are "
            "at the server; a model id of the Hub, such as DeepFloyd/IF-I-M-v1.0, is fetched first",
            default="bundled",
            search=servers.suggest_priors,
            **common,
        ),
        "lora": p.StringProperty(
            name="LoRA",
            description="Style or subject on top of the prior: one that the server offers, which "
            "the list shows, or a .safetensors file of yours, which is sent there unless it is "
            "there already. It must have been trained on the prior's base model. Empty: none",
            search=servers.suggest_loras,
            **common,
        ),
        "lora_scale": p.FloatProperty(
            name="LoRA Scale",
            description="How strongly the LoRA counts: 1 as it was trained, 0 not at all, below 0 "
            "the other way round",
            default=1.0,
            min=-request.MAXIMUM_LORA_SCALE,
            max=request.MAXIMUM_LORA_SCALE,
            soft_min=0.0,
            soft_max=2.0,
            **common,
        ),
        "azimuth": p.FloatVectorProperty(
            name="Azimuth",
            description="From where around the object it is seen while it grows, in degrees: "
            "0 is the front, 90 its left side, from and to",
            size=2,
            default=(-180.0, 180.0),
            min=-360.0,
            max=360.0,
            precision=0,
            step=500,
            **common,
        ),
        "elevation": p.FloatVectorProperty(
            name="Elevation",
            description="From how high it is seen, in degrees above the horizon, from and to",
            size=2,
            default=(-10.0, 60.0),
            min=-90.0,
            max=90.0,
            precision=0,
            step=500,
            **common,
        ),
        "distance": p.FloatVectorProperty(
            name="Distance",
            description="From how far it is seen, in radii of the object, from and to",
            size=2,
            default=cameras.USUAL_DISTANCE,
            min=0.01,
            max=10.0,
            soft_min=1.5,
            precision=2,
            **common,
        ),
        "fov": p.FloatVectorProperty(
            name="Field of View",
            description="How wide the camera sees, in degrees from top to bottom, from and to",
            size=2,
            default=cameras.USUAL_FOV,
            min=10.0,
            max=100.0,
            precision=0,
            step=500,
            **common,
        ),
    }


def texture_fields(**common: Any) -> dict[str, Any]:
    """Annotations of what Texture Selected asks for besides; ``common`` as in `fields`."""
    return {
        "keep_texture": bpy.props.BoolProperty(
            name="Keep Texture",
            description="Begin with the texture that the object has and change it gently, keeping "
            "its size and detail. Off: it is painted anew",
            default=False,
            **common,
        ),
        "mask": bpy.props.StringProperty(
            name="Only Where",
            description="Vertex group of the object whose weights say how far its texture may "
            "change; elsewhere every texel stays. Empty: it may everywhere",
            **common,
        ),
    }


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    """The values, the LoRA's path being none any more that is relative to the open file."""
    path = values.get("lora", "")
    return values | {"lora": bpy.path.abspath(path)} if path.startswith("//") else values


class DreamsmithSettings(bpy.types.PropertyGroup):
    """What the panel asks for; saved with the scene."""

    __annotations__ = {
        **fields(),
        **texture_fields(),
        "lock_seed": bpy.props.BoolProperty(
            name="Lock Seed",
            description="Generate uses this seed again, so that the same words give the same "
            "object. Off: every click on Generate draws a new one",
            default=False,
        ),
        "show_cameras": bpy.props.BoolProperty(
            name="Show in Viewport",
            description="Draw the region that the cameras are taken from around the 3D cursor, "
            "with some of the cameras in it, and arrows that drag its ends. Nothing of it is "
            "rendered or saved as an object",
            default=False,
        ),
    }


def fill(settings: DreamsmithSettings, values: dict[str, Any]) -> None:
    """Set the panel's fields, as far as ``values`` names them; what is no choice here is left."""
    for name in (*FIELDS, *TEXTURE_FIELDS):
        if name in values:
            try:
                setattr(settings, name, values[name])
            except TypeError:
                # An enum's value of another version.
                continue
