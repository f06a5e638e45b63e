# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person asks for, as plain values. The server checks it all; no bpy here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

METHODS = (
    ("ssd", "SSD", "Stable score distillation: clean shapes and colours; the default"),
    ("sds", "SDS", "Score distillation sampling: the classic, smooth and saturated"),
    ("vsd", "VSD", "Variational score distillation: the most detail, the slowest"),
    ("csd", "CSD", "Classifier score distillation: follows the words most closely"),
)
PRESETS = (
    ("draft", "Draft", "A quick look: about two minutes without a graphics card"),
    ("standard", "Standard", "The usual quality"),
    ("high", "High", "The most steps, faces and texture"),
)
RANGES = ("azimuth", "elevation", "distance", "fov")
RANGE_FIELDS = {
    "azimuth": "azimuth_degrees",
    "elevation": "elevation_degrees",
    "distance": "distance",
    "fov": "fov_degrees",
}
_PLAIN = ("prompt", "negative_prompt", "method", "preset", "seed", "variations", "steps", "prior")


class BadRequest(Exception):
    """Something that can be said to be wrong without asking the server."""


def build(values: Mapping[str, Any]) -> dict[str, Any]:
    """The request from the values of the panel or the operator.

    Raises:
        BadRequest: the prompt is empty or a range is the wrong way round.
    """
    request = {name: values[name] for name in _PLAIN}
    request["prompt"] = request["prompt"].strip()
    if not request["prompt"]:
        raise BadRequest('the prompt is empty: say what to make, for instance "a red mug"')
    request["height_metres"] = float(values["height"])
    for name in RANGES:
        low, high = (float(end) for end in values[name])
        if low > high:
            raise BadRequest(f"{name} {low:g} to {high:g} is the wrong way round")
        request[RANGE_FIELDS[name]] = [low, high]
    return request


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
            *RANGE_FIELDS.values(),
        )
    }
    values |= {"job": job, "server": server, "server_version": server_version}
    values["variation"] = variation
    return {f"dreamsmith_{name}": value for name, value in values.items()}
