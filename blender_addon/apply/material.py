# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials: of the finished asset, and of the mesh while it grows."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from ..arrays import MeshArrays
from ..session import Result
from . import image
from .mesh import COLOR_NAME

PREVIEW_NAME = "Dreamsmith Preview"
_PREVIEW_ROUGHNESS = 0.7


def finished(
    name: str, result: Result, mean_srgb: Sequence[float] | None = None
) -> bpy.types.Material:
    """A Principled BSDF with the packed base colour texture.

    Args:
        name: of material and texture.
        result: the asset.
        mean_srgb: its mean colour, each channel in [0, 1]; None: read off the texture.
    """
    material, shader = _principled(name)
    tree = material.node_tree
    picture = image.packed(f"{name} Base Color", result.albedo_png)
    texture = _add_texture(tree, picture, (-320, 300))
    tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    if result.normal_png:
        _add_normal_map(tree, shader, name, result.normal_png)
    if result.metallic_roughness_png:
        _add_metallic_roughness(tree, shader, name, result)
    shader.inputs["Roughness"].default_value = result.roughness
    shader.inputs["Metallic"].default_value = result.metallic
    material.roughness = result.roughness
    material.metallic = result.metallic
    if mean_srgb is None:
        mean_srgb = image.mean_color(picture, result.mesh.corner_uv)
    _show_in_solid_view(material, np.asarray(mean_srgb))
    return material


def _add_texture(
    tree: bpy.types.NodeTree, picture: bpy.types.Image, location: tuple[float, float]
) -> bpy.types.ShaderNode:
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.image = picture
    texture.location = location
    return texture


def _add_metallic_roughness(
    tree: bpy.types.NodeTree, shader: bpy.types.ShaderNode, name: str, result: Result
) -> None:
    """As glTF packs them, and Blender's importer takes them apart: green and blue."""
    png = result.metallic_roughness_png
    picture = image.packed(f"{name} Metallic Roughness", png, "Non-Color")
    texture = _add_texture(tree, picture, (-520, 20))
    channels = tree.nodes.new("ShaderNodeSeparateColor")
    channels.location = (-220, 20)
    tree.links.new(texture.outputs["Color"], channels.inputs["Color"])
    tree.links.new(channels.outputs["Green"], shader.inputs["Roughness"])
    tree.links.new(channels.outputs["Blue"], shader.inputs["Metallic"])


def _add_normal_map(
    tree: bpy.types.NodeTree, shader: bpy.types.ShaderNode, name: str, normal_png: bytes
) -> None:
    picture = image.packed(f"{name} Normal", normal_png, "Non-Color")
    texture = _add_texture(tree, picture, (-520, -200))
    normal = tree.nodes.new("ShaderNodeNormalMap")
    normal.location = (-220, -200)
    tree.links.new(texture.outputs["Color"], normal.inputs["Color"])
    tree.links.new(normal.outputs["Normal"], shader.inputs["Normal"])


def preview(source: MeshArrays) -> bpy.types.Material:
    """The one material of growing meshes: it shows the colours of the vertices."""
    material = bpy.data.materials.get(PREVIEW_NAME)
    if material is None:
        material, shader = _principled(PREVIEW_NAME)
        colors = material.node_tree.nodes.new("ShaderNodeVertexColor")
        colors.layer_name = COLOR_NAME
        colors.location = (-240, 300)
        material.node_tree.links.new(colors.outputs["Color"], shader.inputs["Base Color"])
        shader.inputs["Roughness"].default_value = _PREVIEW_ROUGHNESS
    if source.mean_color is not None:
        _show_in_solid_view(material, source.mean_color)
    return material


def _principled(name: str) -> tuple[bpy.types.Material, bpy.types.ShaderNode]:
    material = bpy.data.materials.new(name)
    if bpy.app.version < (5, 0, 0):
        # From 5.0 on always true, and setting it warns.
        material.use_nodes = True
    # By type: the name is translated.
    shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    return material, shader


def _show_in_solid_view(material: bpy.types.Material, srgb: np.ndarray) -> None:
    """Solid view, the one Blender opens with, draws this one linear colour and no texture."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    material.diffuse_color = (*linear.tolist(), 1.0)
