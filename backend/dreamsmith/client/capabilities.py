# SPDX-License-Identifier: Apache-2.0
"""What a server can do, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreamsmith.request import GenerationRequest
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert


@dataclass(frozen=True, slots=True)
class Prior:
    """A diffusion model: its name, and the only words it knows (none: any text)."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A place where a job can run: ``cpu`` or ``cuda``, its name, its own memory in bytes."""

    kind: str
    display_name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do.

    Attributes:
        server_version: of the server program.
        methods: estimators, the default first.
        presets: from quick to good.
        recipes: of papers, besides our own settings.
        priors: diffusion models that are there.
        loras: names of LoRAs that it offers: ``server:NAME`` in `GenerationRequest.loras`.
        devices: where jobs run.
        maximum_prompt_length: in characters.
        maximum_steps: of one job.
        maximum_active_jobs: that wait or run, of all callers together.
        defaults: a request that says nothing but a prompt.
        limits: all that the server accepts, by the API's names.
        server_time: of its clock, in seconds since 1970.
        caller: who we are to it; empty where it is there for one user alone.
        scope: what we may do: read, submit or admin.
    """

    server_version: str
    methods: tuple[str, ...]
    presets: tuple[str, ...]
    recipes: tuple[str, ...]
    priors: tuple[Prior, ...]
    loras: tuple[str, ...]
    devices: tuple[Device, ...]
    maximum_prompt_length: int
    maximum_steps: int
    maximum_active_jobs: int
    defaults: GenerationRequest
    limits: Mapping[str, int]
    server_time: float
    caller: str
    scope: str

    @classmethod
    def from_message(cls, message: api.GetCapabilitiesResponse) -> Capabilities:
        """The values of a server's answer."""
        return cls(
            server_version=message.server_version,
            methods=tuple(message.methods),
            presets=tuple(message.presets),
            recipes=tuple(message.recipes),
            priors=tuple(Prior(prior.name, tuple(prior.words)) for prior in message.priors),
            loras=tuple(message.loras),
            devices=tuple(
                Device(device.kind, device.display_name, device.memory_bytes)
                for device in message.devices
            ),
            maximum_prompt_length=message.limits.max_prompt_length,
            maximum_steps=message.limits.max_steps,
            maximum_active_jobs=message.limits.max_active_jobs,
            defaults=convert.spec_to_request(message.defaults),
            limits={field.name: int(value) for field, value in message.limits.ListFields()},
            server_time=message.server_time.ToNanoseconds() / 1e9,
            caller=message.caller.name,
            scope=message.caller.scope,
        )
