# SPDX-License-Identifier: GPL-3.0-or-later
"""What an object's texture is before it is changed, and which part of it may change."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from .language import say
from .start_mesh import CannotSend

LARGEST_TEXELS = 4096
# Of an object that has a colour and no texture, where nothing else is said.
_PLAIN_TEXELS = 1024
_PLAIN_LINEAR = (0.8, 0.8, 0.8)


@dataclass(frozen=True)
class Texture:
    """The base colour of an object.

    Attributes:
        texels: sRGB, uint8, shape (T, T, 3), row 0 at the top.
        layer: the UV layer that it lies in; empty where any will do.
    """

    texels: np.ndarray
    layer: str


def of(item: bpy.types.Object, plain_texels: int = 0) -> Texture:
    """The one texture that an object shows, or its one colour as a texture.

    Args:
        item: a mesh object.
        plain_texels: along an edge, where it has a colour only; 0: 1024.

    Raises:
        CannotSend: it has several, or one that cannot be sent.
    """
    found = {_base_color(material) for material in _materials(item)}
    if len(found) > 1:
        raise CannotSend(
            say(
                "the object has {count} different base colours or textures: only one can be kept",
                count=len(found),
            )
        )
    (source,) = found
    if isinstance(source, tuple):
        size = plain_texels or _PLAIN_TEXELS
        color = np.round(255 * _srgb(np.array(source))).astype(np.uint8)
        return Texture(np.broadcast_to(color, (size, size, 3)).copy(), "")
    return Texture(_texels(source.image), source.layer or _render_layer(item))


def weights(item: bpy.types.Object, group: str) -> np.ndarray:
    """Of all vertices in a vertex group, shape (V,), in [0, 1].

    Raises:
        CannotSend: there is no such group, or it is empty.
    """
    found = item.vertex_groups.get(group)
    if found is None:
        raise CannotSend(
            say("{name} has no vertex group {group}", name=item.name, group=repr(group))
        )
    values = np.zeros(len(item.data.vertices), np.float32)
    for vertex in item.data.vertices:
        for element in vertex.groups:
            if element.group == found.index:
                values[vertex.index] = element.weight
    if not values.any():
        raise CannotSend(
            say("the vertex group {group} is empty: its weights say what may change", group=group)
        )
    return values


@dataclass(frozen=True)
class _Picture:
    image: bpy.types.Image
    layer: str


def _materials(item: bpy.types.Object) -> list[bpy.types.Material | None]:
    """Those that faces really have."""
    slots = [slot.material for slot in item.material_slots]
    if not slots:
        return [None]
    used = np.empty(len(item.data.polygons), np.int32)
    item.data.polygons.foreach_get("material_index", used)
    return [slots[number] for number in np.unique(used.clip(0, len(slots) - 1))]


def _base_color(material: bpy.types.Material | None) -> _Picture | tuple[float, ...]:
    """A picture, or a linear colour."""
    if material is None:
        return _PLAIN_LINEAR
    # From 5.0 on always true, and asking for it warns.
    has_nodes = bpy.app.version >= (5, 0, 0) or material.use_nodes
    if not has_nodes or material.node_tree is None:
        return tuple(material.diffuse_color[:3])
    nodes = material.node_tree.nodes
    shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
    socket = shader.inputs["Base Color"] if shader is not None else None
    if socket is not None and not socket.is_linked:
        return tuple(socket.default_value[:3])
    source = socket.links[0].from_node if socket is not None else None
    if source is None or source.type != "TEX_IMAGE" or source.image is None:
        raise CannotSend(
            say(
                "the base colour of the material {name} is not one image: bake it into one first",
                name=material.name,
            )
        )
    return _Picture(source.image, _layer(material, source.inputs["Vector"]))


def _layer(material: bpy.types.Material, vector: bpy.types.NodeSocket) -> str:
    """The UV layer that a texture is looked up by; empty: the object's own choice."""
    if not vector.is_linked:
        return ""
    link = vector.links[0]
    if link.from_node.type == "UVMAP":
        return str(link.from_node.uv_map)
    if link.from_node.type == "TEX_COORD" and link.from_socket == link.from_node.outputs["UV"]:
        return ""
    raise CannotSend(
        say(
            "the texture of the material {name} is not laid by a UV map alone: bake it first",
            name=material.name,
        )
    )


def _render_layer(item: bpy.types.Object) -> str:
    found = next((layer.name for layer in item.data.uv_layers if layer.active_render), None)
    if found is None:
        raise CannotSend(say("the object has a texture, but no UV map that says where it lies"))
    return str(found)


def _texels(image: bpy.types.Image) -> np.ndarray:
    width, height = image.size
    if width != height or not 1 <= width <= LARGEST_TEXELS:
        raise CannotSend(
            say(
                "the texture {name} has {width} x {height} texels: only a square of at most "
                "{largest} can be kept",
                name=image.name,
                width=width,
                height=height,
                largest=LARGEST_TEXELS,
            )
        )
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    shaped = pixels.reshape(height, width, image.channels)
    color = shaped[..., :3] if image.channels >= 3 else shaped[..., :1].repeat(3, axis=-1)
    # Of a picture with bytes, Blender hands out what the file says; of others linear light.
    if image.is_float or image.colorspace_settings.name != "sRGB":
        color = _srgb(color)
    return np.ascontiguousarray(np.round(255 * color.clip(0, 1)).astype(np.uint8)[::-1])


def _srgb(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
