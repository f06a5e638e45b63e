# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says of itself: version, choices, devices, limits, and how long its jobs took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from channel import CannotConnect, Connection
from schema import Schema

_JOBS = 100


def ask(schema: Schema, command: Mapping[str, Any], send: Callable[..., None]) -> None:
    """Ask the server of ``command["connection"]`` and send what it says; never raises."""
    settings = command["connection"]
    answer = {"event": "server", "server": settings["address"]}
    try:
        connection = Connection(schema, settings)
    except CannotConnect as error:
        send({**answer, "message": str(error)})
        return
    try:
        facts = capabilities(connection) | {"finished": _finished(connection)}
        send({**answer, "facts": facts | {"is_encrypted": bool(settings["tls"])}})
    except grpc.RpcError as error:
        send({**answer, "message": connection.explain(error)})
    except Exception as error:
        send({**answer, "message": f"the helper process failed: {error!r}"})
    finally:
        connection.close()


def capabilities(connection: Connection) -> dict[str, Any]:
    """`GetCapabilities` as plain values, and how long it took over an open connection."""
    connection.call("CapabilityService", "GetCapabilities")
    began = time.monotonic()
    found = connection.call("CapabilityService", "GetCapabilities")
    latency = time.monotonic() - began
    return {
        "address": connection.address,
        "latency_seconds": latency,
        "version": found.server_version,
        "methods": list(found.methods),
        "presets": list(found.presets),
        "recipes": list(found.recipes),
        "priors": [{"name": item.name, "words": list(item.words)} for item in found.priors],
        "loras": list(found.loras),
        "devices": [
            {"kind": d.kind, "name": d.display_name, "memory_bytes": d.memory_bytes}
            for d in found.devices
        ],
        "limits": {
            "max_prompt_length": found.limits.max_prompt_length,
            "max_steps": found.limits.max_steps,
            "max_active_jobs": found.limits.max_active_jobs,
            "max_loras": found.limits.max_loras,
        },
    }


def _finished(connection: Connection) -> list[dict[str, Any]]:
    """Of the newest jobs that succeeded: what they were, and how long they took."""
    jobs = connection.call("GenerationService", "ListJobs", page_size=_JOBS).jobs
    succeeded = connection.schema.enum_value("Job.State", "STATE_SUCCEEDED")
    return [
        {
            "method": job.spec.method,
            "preset": job.spec.preset,
            "prior": job.spec.prior,
            "recipe": job.spec.recipe,
            "steps": job.spec.steps if job.spec.HasField("steps") else 0,
            "variations": max(1, job.spec.variations),
            "seconds": seconds(job),
        }
        for job in jobs
        if job.state == succeeded
    ]


def seconds(job: Any) -> float:
    """From the start of a job's first worker to its end."""
    nanos = job.end_time.ToNanoseconds() - job.start_time.ToNanoseconds()
    return max(0.0, nanos / 1e9)
