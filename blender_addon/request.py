# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person asks for, as plain values. The server checks it all; no bpy here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .language import deferred, say

METHODS = (
    (
        "ssd",
        "Stable (SSD)",
        "Stable score distillation: clean shapes, natural colours. Good for nearly everything, and "
        "the default",
    ),
    (
        "sds",
        "Classic (SDS)",
        "Score distillation sampling, the first of its kind: dependable shapes, smooth surfaces, "
        "loud colours. Good for a quick idea of a form",
    ),
    (
        "vsd",
        "Detailed (VSD)",
        "Variational score distillation: the most detail and the truest colours, and the slowest. "
        "Several variations keep away from each other. Good for the final asset",
    ),
    (
        "csd",
        "Faithful (CSD)",
        "Classifier score distillation: follows the words most closely. Good where a prompt's "
        "details get lost with the others",
    ),
)
OWN_RECIPE = "own"
RECIPES = (
    (OWN_RECIPE, "Our Own", "Weights and schedules tuned for this backend. Good for most things"),
    (
        "dreamfusion",
        "DreamFusion",
        "The settings of the DreamFusion paper: shaded and textureless views make solid forms. "
        "Good with the classic method",
    ),
    (
        "prolificdreamer",
        "ProlificDreamer",
        "The settings of the ProlificDreamer paper: fine detail, long runs. Good with the "
        "detailed method and a full diffusion model",
    ),
    (
        "prolificdreamer-scene",
        "ProlificDreamer Scene",
        "A room around the cameras in place of an object between them; distances are then 0.01 to "
        "0.9. Good for interiors, with a full diffusion model",
    ),
    ("ssd", "SSD", "The settings of the stable score distillation paper. Good with its method"),
    (
        "mvdream",
        "MVDream",
        "The settings of the MVDream paper, for its multi-view model: no second face at the back. "
        "Good for characters and animals",
    ),
)
PRESETS = (
    ("draft", "Draft", "A quick look: about two minutes without a graphics card"),
    ("standard", "Standard", "The usual quality"),
    ("high", "High", "The most steps, faces and texture"),
)
FROM_PRESET = "preset"
TEXTURE_SIZES = (
    (FROM_PRESET, "As Preset", "Draft 512, standard 1024, high 2048 texels a side"),
    *((str(n), str(n), "Texels a side") for n in (256, 512, 1024, 2048, 4096)),
)
MINIMUM_FACES = 100
MAXIMUM_VARIATIONS = 8
MAXIMUM_LODS = 4
MAXIMUM_SMOOTHING = 100
MAXIMUM_LORA_SCALE = 10.0
LORA_SUFFIX = ".safetensors"
OFFLINE_HINT = deferred(
    "Blender's online access is off: allow it in Preferences > System > Network"
)
RANGES = ("azimuth", "elevation", "distance", "fov")
RANGE_FIELDS = {
    "azimuth": "azimuth_degrees",
    "elevation": "elevation_degrees",
    "distance": "distance",
    "fov": "fov_degrees",
}
_PLAIN = ("prompt", "negative_prompt", "method", "preset", "seed", "variations", "steps", "prior")
_OF_TEXTURE = ("keep_texture", "mask")
# Of a shape that is made or refined, with what is usual: a mesh that is painted keeps its own.
OF_SHAPE: dict[str, Any] = {"face_budget": 0, "smoothing": 4, "normal_map": False, "lods": 0}
# Of a job that begins with an object of the scene; the last two are files that it sends.
START_FILES = ("start_file", "mask_file")
START_FIELDS = ("own_object", "own_place", "stages", "band", *_OF_TEXTURE, *START_FILES)
SCENE_RECIPE = "prolificdreamer-scene"


class BadRequest(Exception):
    """Something that can be said to be wrong without asking the server."""


def build(values: Mapping[str, Any]) -> dict[str, Any]:
    """The request from the values of the panel or the operator.

    Raises:
        BadRequest: the prompt is empty, a range is the wrong way round, a number makes no mesh, or
            the LoRA's file is not there.
    """
    request = {name: values[name] for name in _PLAIN}
    request["prompt"] = request["prompt"].strip()
    if not request["prompt"]:
        raise BadRequest(say('the prompt is empty: say what to make, for instance "a red mug"'))
    request["height_metres"] = as_written(values["height"])
    request["recipe"] = "" if values["recipe"] == OWN_RECIPE else values["recipe"]
    size = values["texture_size"]
    request["texture_size"] = 0 if size == FROM_PRESET else int(size)
    request |= {name: type(usual)(values[name]) for name, usual in OF_SHAPE.items()}
    if 0 < request["face_budget"] < MINIMUM_FACES:
        raise BadRequest(
            say(
                "a face budget of {count} is too small for a closed mesh: give at least {least}, "
                "or 0 for the preset's",
                count=request["face_budget"],
                least=MINIMUM_FACES,
            )
        )
    request["pbr"] = bool(values["pbr"])
    request |= _lora(values)
    for name in RANGES:
        low, high = map(as_written, values[name])
        if low > high:
            raise BadRequest(
                say(
                    "{name} {low} to {high} is the wrong way round",
                    name=name,
                    low=f"{low:g}",
                    high=f"{high:g}",
                )
            )
        request[RANGE_FIELDS[name]] = [low, high]
    return request


def as_written(number: float) -> float:
    """A number of Blender's, which are in single precision, as a person writes it.

    A distance of 2.4 is 2.4000000953674316 there. Every other client sends 2.4, and what the two
    lead to, with the same seed, is not the same asset.
    """
    return float(str(np.float32(number)))


def is_lora_file(text: str) -> bool:
    """Whether a text says where a LoRA file lies."""
    return text.lower().endswith(LORA_SUFFIX) or "/" in text or "\\" in text


def _lora(values: Mapping[str, Any]) -> dict[str, Any]:
    """``lora``, a name at the server, or ``lora_file``, a path here; and ``lora_scale``.

    Nothing where there is none.
    """
    text, scale = str(values["lora"]).strip(), as_written(values["lora_scale"])
    if not text:
        return {}
    is_file = is_lora_file(text)
    if is_file:
        _check_lora_file(text)
    if not abs(scale) <= MAXIMUM_LORA_SCALE:
        raise BadRequest(
            say(
                "the scale of a LoRA must be {least} to {most}, not {scale}",
                least=f"{-MAXIMUM_LORA_SCALE:g}",
                most=f"{MAXIMUM_LORA_SCALE:g}",
                scale=f"{scale:g}",
            )
        )
    return {"lora_file" if is_file else "lora": text, "lora_scale": scale}


def _check_lora_file(text: str) -> None:
    path = Path(text)
    if path.suffix.lower() != LORA_SUFFIX:
        raise BadRequest(
            say("{path} is no LoRA: choose a .safetensors file, or leave it empty", path=text)
        )
    if not path.is_absolute():
        raise BadRequest(
            say(
                "the path of the LoRA {path} depends on where this file is saved: save it first, "
                "or choose the LoRA again",
                path=text,
            )
        )
    if not path.is_file():
        raise BadRequest(say("there is no LoRA file {path}: choose another one", path=text))


def lora_of(request: Mapping[str, Any]) -> str:
    """The LoRA of a request, as the panel has it; empty for none."""
    return str(request.get("lora") or request.get("lora_file") or "")


def values_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the panel that lead to a request: the way back of `build`.

    Requests of an older version lack what it did not know.
    """
    values = {name: request[name] for name in (*_PLAIN, *_OF_TEXTURE) if name in request}
    if "height_metres" in request:
        values["height"] = request["height_metres"]
    values["recipe"] = request.get("recipe") or OWN_RECIPE
    values["texture_size"] = str(request.get("texture_size") or FROM_PRESET)
    values |= {name: request.get(name, usual) for name, usual in OF_SHAPE.items()}
    values["pbr"] = request.get("pbr", False)
    values["lora"] = lora_of(request)
    values["lora_scale"] = request.get("lora_scale", 1.0)
    for name, field in RANGE_FIELDS.items():
        if field in request:
            values[name] = tuple(request[field])
    return values


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` is on this machine; anything else needs Blender's online access."""
    host = re.sub(r":\d+$", "", address.strip()).strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def provenance(
    request: Mapping[str, Any], job: str, server: str, server_version: str, variation: int
) -> dict[str, Any]:
    """Where an object came from, as custom properties for it."""
    values = {
        name: request[name]
        for name in (
            "prompt",
            "negative_prompt",
            "method",
            "preset",
            "seed",
            "prior",
            "recipe",
            "steps",
            "height_metres",
            "texture_size",
            "face_budget",
            *RANGE_FIELDS.values(),
        )
    }
    values |= {"job": job, "server": server, "server_version": server_version}
    if lora := lora_of(request):
        # Not the folder: what is made goes to others.
        name = re.split(r"[/\\]", lora)[-1]
        values |= {"lora": name, "lora_scale": request["lora_scale"]}
    values["variation"] = variation
    return {f"dreamsmith_{name}": value for name, value in values.items()}
