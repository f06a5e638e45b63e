# SPDX-License-Identifier: Apache-2.0
"""Fields of a request: as a user types them, and as a path in the API's messages."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import GenerationRequest

# As they stand in errors -> the way to them in a `GenerationRequest`, and so in a `GenerationSpec`.
_WAYS: Final = {
    "prompt": "prompt",
    "negative prompt": "negative_prompt",
    "method": "method",
    "prior": "prior",
    "preset": "preset",
    "recipe": "recipe",
    "seed": "seed",
    "variations": "variations",
    "steps": "steps",
    "resolution": "resolution",
    "azimuth": "cameras.azimuth_degrees",
    "elevation": "cameras.elevation_degrees",
    "distance": "cameras.distance",
    "fov": "cameras.fov_degrees",
    "guidance scale": "distillation.guidance_scale",
    "guidance rescale": "distillation.guidance_rescale",
    "threshold": "distillation.threshold",
    "omega": "distillation.omega",
    "time schedule": "distillation.time_schedule",
    "negative after": "distillation.negative_after",
    "perp neg": "distillation.perp_neg",
    "clip": "distillation.clip",
    "surface pictures": "distillation.surface_pictures",
    "surface method": "distillation.surface_method",
    "lora objective": "distillation.lora_objective",
    "lora": "loras",
    "start": "start",
    "stages": "stages",
    "band": "band",
    "keep texture": "keep_texture",
    "mask": "mask",
    "height": "height_metres",
    "faces": "face_budget",
    "texture size": "texture_size",
    "smoothing": "smoothing",
    "normal map": "normal_map",
    "lods": "lods",
    "pbr": "pbr",
}
_NAMES: Final = {f"spec.{way}": name for name, way in _WAYS.items()}
_ALLOWED: Final = GenerationRequest(prompt="anything")


def field_path(name: str) -> str:
    """``texture size`` -> ``spec.texture_size``; what is no field of a spec stays as it is."""
    return f"spec.{_WAYS[name]}" if name in _WAYS else name


def field_name(path: str) -> str:
    """The inverse of `field_path`."""
    return _NAMES.get(path, path)


def validated_in_full(request: GenerationRequest) -> GenerationRequest:
    """The request as `GenerationRequest.validated` gives it.

    Raises:
        InvalidRequest: the first field that is not allowed, and with it all others that are not.
    """
    found: list[InvalidRequest] = []
    changed = request
    while True:
        try:
            normalised = changed.validated()
        except InvalidRequest as error:
            # One that is wrong even with an allowed value is wrong because of another.
            if error.field not in _WAYS or any(error.field == before.field for before in found):
                found.append(error)
                break
            found.append(error)
            changed = _with_allowed(changed, _WAYS[error.field].split("."))
        else:
            break
    if found:
        raise InvalidRequest(found[0].field, found[0].message, tuple(found[1:]))
    return normalised


def _with_allowed(request: Any, way: list[str], allowed: Any = _ALLOWED) -> Any:
    """The request with a value that is allowed in one place."""
    name, *rest = way
    value = getattr(allowed, name)
    if rest:
        value = _with_allowed(getattr(request, name), rest, value)
    return dataclasses.replace(request, **{name: value})
