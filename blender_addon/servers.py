# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of each server that was asked: live state, which no file may hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import bpy

from . import request, session
from .language import deferred, say

# A server that did not answer is not asked again sooner, unless the user says so.
PATIENCE_SECONDS = 20.0


@dataclass
class Server:
    """What a server said of itself, or why it did not.

    Attributes:
        asked: when it was asked last, on the monotonic clock.
        error: one line for a person; empty once it has answered.
        facts: version, methods, presets, recipes, priors, devices, limits, latency_seconds,
            finished (how long its newest jobs took); empty before it has answered.
    """

    asked: float = 0.0
    is_asking: bool = False
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_due(self) -> bool:
        """Whether it should be asked: never before, or it did not answer a while ago."""
        if self.is_asking or self.facts:
            return False
        return not self.asked or time.monotonic() - self.asked > PATIENCE_SECONDS


known: dict[str, Server] = {}


def of(address: str) -> Server:
    """What is known of the server at an address."""
    return known.setdefault(address, Server())


def receive(header: Mapping[str, Any]) -> None:
    """Take in the sidecar's ``server`` message."""
    server = of(str(header["server"]))
    server.is_asking = False
    message = str(header.get("message", ""))
    server.error = session.one_line(message)
    server.facts = {} if message else dict(header["facts"])


def obstacle(server: Server, wanted: Mapping[str, Any]) -> str:
    """Why the server cannot do what is wanted; empty where it can, or where it is not known yet.

    Args:
        server: of `of`.
        wanted: values of the panel.
    """
    facts = server.facts
    if not facts:
        return server.error
    for name, choices, problem in (
        ("method", "methods", deferred("This server has no method {name}: it offers {offered}")),
        ("preset", "presets", deferred("This server has no preset {name}: it offers {offered}")),
        ("recipe", "recipes", deferred("This server has no recipe {name}: it offers {offered}")),
    ):
        offered = facts[choices]
        value = wanted[name]
        if offered and value != request.OWN_RECIPE and value not in offered:
            return say(problem, name=value, offered=", ".join(offered))
    limit = facts["limits"]["max_prompt_length"]
    if limit and len(wanted["prompt"]) > limit:
        return say("This server takes prompts of at most {count} characters", count=limit)
    if not facts["devices"]:
        return say("This server has no device to run on")
    return _lora_obstacle(server, wanted["lora"].strip())


def _lora_obstacle(server: Server, lora: str) -> str:
    if not lora:
        return ""
    problem = lora_problem(server)
    if problem or request.is_lora_file(lora):
        return problem
    offered = server.facts["loras"]
    if lora in offered:
        return ""
    if offered:
        names = ", ".join(offered)
        return say("This server has no LoRA {name}: it offers {offered}", name=lora, offered=names)
    return say(
        "This server offers no LoRA: choose a .safetensors file in place of {name}", name=lora
    )


def lora_problem(server: Server) -> str:
    """Why the server takes no LoRA; empty where it does, or where it is not known yet."""
    if server.facts and not server.facts["limits"]["max_loras"]:
        return say("This server takes no LoRA: it must be updated")
    return ""


def unknown_words(server: Server, prior: str, prompt: str) -> list[str]:
    """Words of the prompt that the chosen prior does not know, as far as that is told."""
    for item in server.facts.get("priors", ()):
        if item["name"] == prior and item["words"]:
            words = "".join(c if c.isalpha() else " " for c in prompt.lower()).split()
            return [word for word in words if word not in item["words"]]
    return []


def summary(server: Server) -> list[str]:
    """What a server is, in lines for a person."""
    facts = server.facts
    if not facts:
        return [server.error] if server.error else []
    limits = facts["limits"]
    latency = f"{facts['latency_seconds'] * 1e3:.0f}"
    devices = ", ".join(_device(item) for item in facts["devices"]) or say("no device")
    jobs, steps = limits["max_active_jobs"], limits["max_steps"]
    lines = [
        say(
            "Dreamsmith {version}, answers in {latency} ms",
            version=facts["version"],
            latency=latency,
        ),
        say("Runs on {devices}", devices=devices),
        say("Methods: {names}", names=", ".join(facts["methods"])),
        say("Priors: {names}", names=", ".join(item["name"] for item in facts["priors"])),
        say("Limits: {jobs} jobs at once, {steps} steps", jobs=jobs, steps=steps),
    ]
    if not facts["is_encrypted"] and not request.is_loopback(facts["address"]):
        lines.append(say("The connection is not encrypted"))
    return lines


def _device(item: Mapping[str, Any]) -> str:
    memory = f", {item['memory_bytes'] / 2**30:.0f} GiB" if item["memory_bytes"] else ""
    return f"{item['name'] or item['kind']}{memory}"


def suggest_priors(
    owner: Any, context: bpy.types.Context | None, text: str
) -> Iterator[tuple[str, str]]:
    """Names for the prior's field: of the server that is chosen, and what it says of each."""
    from . import preferences

    server = of(preferences.chosen(context or bpy.context).address)
    for item in server.facts.get("priors", ()):
        if text.lower() in item["name"].lower():
            count = len(item["words"])
            known_words = say("knows {count} words", count=count) if count else say("any words")
            yield item["name"], known_words


def suggest_loras(owner: Any, context: bpy.types.Context | None, text: str) -> Iterator[str]:
    """Names for the LoRA's field: those that the chosen server offers."""
    from . import preferences

    server = of(preferences.chosen(context or bpy.context).address)
    for name in server.facts.get("loras", ()):
        if text.lower() in name.lower():
            yield name
