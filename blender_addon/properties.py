# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person asks for: one description of the fields, for the panel and for the operator."""

from __future__ import annotations

from typing import Any

import bpy

from . import request

FIELDS = (
    "prompt",
    "negative_prompt",
    "method",
    "preset",
    "seed",
    "variations",
    "height",
    "steps",
    "prior",
    *request.RANGES,
)


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
        "method": p.EnumProperty(
            name="Method",
            description="How the diffusion model's opinion becomes a gradient",
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
            max=8,
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
            description="Diffusion model, as the server knows it: bundled, a model id such as "
            "DeepFloyd/IF-I-M-v1.0, or one of the server's own",
            default="bundled",
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
            default=(2.4, 3.0),
            min=1.5,
            max=10.0,
            precision=2,
            **common,
        ),
        "fov": p.FloatVectorProperty(
            name="Field of View",
            description="How wide the camera sees, in degrees from top to bottom, from and to",
            size=2,
            default=(40.0, 50.0),
            min=10.0,
            max=100.0,
            precision=0,
            step=500,
            **common,
        ),
    }


class DreamsmithSettings(bpy.types.PropertyGroup):
    """What the panel asks for; saved with the scene."""

    __annotations__ = fields()
