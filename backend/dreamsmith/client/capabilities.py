# SPDX-License-Identifier: Apache-2.0
"""What a server can do, as plain values."""

from __future__ import annotations

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
        priors: diffusion models that are there.
        devices: where jobs run.
        maximum_prompt_length: in characters.
        maximum_steps: of one job.
        maximum_active_jobs: that wait or run, of all callers together.
        defaults: a request that says nothing but a prompt.
    """

    server_version: str
    methods: tuple[str, ...]
    presets: tuple[str, ...]
    priors: tuple[Prior, ...]
    devices: tuple[Device, ...]
    maximum_prompt_length: int
    maximum_steps: int
    maximum_active_jobs: int
    defaults: GenerationRequest

    @classmethod
    def from_message(cls, message: api.GetCapabilitiesResponse) -> Capabilities:
        """The values of a server's answer."""
        return cls(
            server_version=message.server_version,
            methods=tuple(message.methods),
            presets=tuple(message.presets),
            priors=tuple(Prior(prior.name, tuple(prior.words)) for prior in message.priors),
            devices=tuple(
                Device(device.kind, device.display_name, device.memory_bytes)
                for device in message.devices
            ),
            maximum_prompt_length=message.limits.max_prompt_length,
            maximum_steps=message.limits.max_steps,
            maximum_active_jobs=message.limits.max_active_jobs,
            defaults=convert.spec_to_request(message.defaults),
        )
