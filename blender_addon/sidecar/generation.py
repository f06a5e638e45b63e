# SPDX-License-Identifier: GPL-3.0-or-later
"""One generation at the server: create the job, follow it, fetch what it made."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
import local_token
from schema import Schema

CALL_TIMEOUT_SECONDS = 15.0
# A stream is asked for anew this often, so that a dead connection is noticed. Nothing is lost.
WATCH_TIMEOUT_SECONDS = 120.0
LOST_AFTER_SECONDS = 60.0
RETRY_SECONDS = 0.5
MAXIMUM_MESSAGE_BYTES = 32 << 20
_COMPONENT_TYPES = {
    "COMPONENT_TYPE_FLOAT32": ("float32", 4),
    "COMPONENT_TYPE_UINT32": ("uint32", 4),
    "COMPONENT_TYPE_UINT8": ("uint8", 1),
}
_RANGES = ("azimuth_degrees", "elevation_degrees", "distance", "fov_degrees")
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


class GenerationEnded(Exception):
    """The generation cannot go on; the message is one line for a person."""


class Generation:
    """Runs in a thread of its own, and tells all through ``send(header, blocks)``."""

    def __init__(
        self, schema: Schema, command: Mapping[str, Any], send: Callable[..., None]
    ) -> None:
        self._schema = schema
        self._server: str = command["server"]
        self._request: dict[str, Any] = command["request"]
        self._is_local: bool = command["is_local"]
        self._send_message = send
        self._job = ""
        self._cancelled = threading.Event()
        self._channel = grpc.insecure_channel(
            self._server, options=_channel_options(self._is_local)
        )

    def run(self) -> None:
        """From the request to the result; never raises."""
        try:
            self._create()
            if self._cancelled.is_set():
                self._cancel_job()
            self._follow()
        except GenerationEnded as error:
            self._send("failed", message=str(error))
        except grpc.RpcError as error:
            self._send("failed", message=self._explain(error))
        except Exception as error:
            self._send("failed", message=f"the helper process failed: {error!r}")
        finally:
            self._channel.close()

    def cancel(self) -> None:
        """Ask the server to stop the job, now or as soon as it is known; does not block."""
        self._cancelled.set()
        if self._job:
            threading.Thread(target=self._cancel_job, daemon=True).start()

    def _create(self) -> None:
        capabilities = self._call("CapabilityService", "GetCapabilities")
        answer = self._call(
            "GenerationService",
            "CreateJob",
            spec=self._spec(),
            request_id=self._request["request_id"],
        )
        self._job = answer.job.name
        self._send("accepted", job=self._job, server_version=capabilities.server_version)

    def _spec(self) -> Any:
        request = self._request
        interval = self._schema.message("Interval")
        spec = self._schema.message("GenerationSpec")(
            prompt=request["prompt"],
            negative_prompt=request["negative_prompt"],
            method=request["method"],
            preset=request["preset"],
            prior=request["prior"],
            seed=request["seed"],
            variations=request["variations"],
            height_metres=request["height_metres"],
            cameras=self._schema.message("CameraRanges")(
                **{name: interval(low=request[name][0], high=request[name][1]) for name in _RANGES}
            ),
        )
        if request["steps"]:
            spec.steps = request["steps"]
        return spec

    def _cancel_job(self) -> None:
        try:
            self._call("GenerationService", "CancelJob", name=self._job)
        except (grpc.RpcError, ValueError):
            # Whoever follows the job meets the same error and tells of it. ValueError: the channel
            # is closed, so the job has ended.
            return

    def _follow(self) -> None:
        """Follow the job to its end, over as many connections as that takes."""
        watch = self._schema.method(self._channel, "GenerationService", "WatchJob")
        ask = self._schema.message("WatchJobRequest")
        newest = 0
        heard = time.monotonic()
        while True:
            try:
                request = ask(name=self._job, resume_after=newest)
                metadata = self._metadata()
                for event in watch(request, timeout=WATCH_TIMEOUT_SECONDS, metadata=metadata):
                    heard = time.monotonic()
                    newest = max(newest, event.sequence)
                    if self._handle(event):
                        return
            except grpc.RpcError as error:
                # A server that starts anew has a new token.
                is_new_server = (
                    error.code() is grpc.StatusCode.UNAUTHENTICATED and metadata != self._metadata()
                )
                is_passing = error.code() in _PASSING or is_new_server
                if not is_passing or self._cancelled.is_set():
                    raise
            if time.monotonic() - heard > LOST_AFTER_SECONDS:
                raise GenerationEnded(
                    f"the server at {self._server} does not answer any more: start it again, "
                    f"and {self._job} goes on there"
                )
            time.sleep(RETRY_SECONDS)

    def _handle(self, event: Any) -> bool:
        """Pass one event on; whether it was the last."""
        kind = event.WhichOneof("event")
        if kind == "progress":
            self._send_progress(event.progress)
        elif kind == "preview_image":
            image = event.preview_image
            self._send("preview_image", {"png": image.png}, stage=image.stage, step=image.step)
        elif kind == "preview_mesh":
            arrays, blocks = self._arrays(event.preview_mesh.arrays, event.preview_mesh.data)
            self._send("preview_mesh", blocks, arrays=arrays)
        elif kind == "job":
            return self._handle_state(event.job)
        return False

    def _send_progress(self, progress: Any) -> None:
        remaining = None
        if progress.HasField("remaining"):
            remaining = progress.remaining.seconds + progress.remaining.nanos / 1e9
        self._send(
            "progress",
            stage=progress.stage,
            step=progress.step,
            total_steps=progress.total_steps,
            fraction=progress.fraction,
            remaining_seconds=remaining,
            # While the server fetches the model; 0 at all other times.
            downloaded_bytes=progress.metrics.get("downloaded_bytes", 0.0),
            download_bytes=progress.metrics.get("download_bytes", 0.0),
        )

    def _handle_state(self, job: Any) -> bool:
        state = self._schema.enum_label("Job.State", job.state)
        if state == "STATE_QUEUED":
            self._send("queued")
        elif state == "STATE_SUCCEEDED":
            self._send_result()
        elif state == "STATE_FAILED":
            raise GenerationEnded(job.error.message or "the job failed at the server")
        elif state == "STATE_CANCELLED":
            self._send("cancelled")
        return state in {"STATE_SUCCEEDED", "STATE_CANCELLED"}

    def _send_result(self) -> None:
        job = self._call("GenerationService", "GetJob", name=self._job).job
        artifacts = {item.name.rpartition("/")[2]: item for item in job.artifacts}
        # One may be missing, if nothing came of it; of a single one all must be there.
        numbers = [
            number
            for number in range(1, max(1, job.spec.variations) + 1)
            if _named("mesh", number) in artifacts
        ]
        if not numbers:
            raise GenerationEnded("the server's result has no mesh")
        for number in numbers:
            self._send_variation(artifacts, number, is_last=number == numbers[-1])

    def _send_variation(self, artifacts: Mapping[str, Any], number: int, *, is_last: bool) -> None:
        files = {}
        for name in ("mesh", "albedo.png", "model.glb"):
            if _named(name, number) not in artifacts:
                raise GenerationEnded(f"the server's result has no {_named(name, number)}")
            files[name] = artifacts[_named(name, number)]
        arrays, blocks = self._arrays(files["mesh"].arrays, self._read(files["mesh"]))
        blocks["albedo"] = self._read(files["albedo.png"])
        roughness, metallic = self._material(files["model.glb"])
        self._send(
            "result",
            blocks,
            arrays=arrays,
            roughness=roughness,
            metallic=metallic,
            variation=number,
            is_last=is_last,
        )

    def _material(self, glb: Any) -> tuple[float, float]:
        """Roughness and metallic, from the beginning of the GLB: a glTF document in JSON."""
        head = self._read_range(glb.name, 0, 20)
        (length,) = struct.unpack_from("<I", head, 12)
        document = json.loads(self._read_range(glb.name, 20, length))
        material = document["materials"][0]["pbrMetallicRoughness"]
        # glTF's own defaults for what is not said.
        return material.get("roughnessFactor", 1.0), material.get("metallicFactor", 1.0)

    def _read(self, artifact: Any) -> bytes:
        data = self._read_range(artifact.name, 0, 0)
        if hashlib.sha256(data).digest() != artifact.sha256:
            raise GenerationEnded(f"{artifact.name} arrived damaged: generate again")
        return data

    def _read_range(self, name: str, offset: int, limit: int) -> bytes:
        read = self._schema.method(self._channel, "GenerationService", "ReadArtifact")
        ask = self._schema.message("ReadArtifactRequest")
        request = ask(name=name, read_offset=offset, read_limit=limit)
        pieces = read(request, timeout=WATCH_TIMEOUT_SECONDS, metadata=self._metadata())
        return b"".join(piece.data for piece in pieces)

    def _arrays(
        self, specs: Iterable[Any], data: bytes
    ) -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
        found, blocks = {}, {}
        for spec in specs:
            label = self._schema.enum_label("ArraySpec.ComponentType", spec.component_type)
            if label not in _COMPONENT_TYPES:
                raise GenerationEnded(f"the server sent an array of {label}, which is not known")
            name, size = _COMPONENT_TYPES[label]
            end = spec.offset + spec.count * spec.components * size
            found[spec.name] = {"type": name, "components": spec.components, "count": spec.count}
            blocks[spec.name] = data[spec.offset : end]
        return found, blocks

    def _call(self, service: str, method: str, **fields: Any) -> Any:
        request = self._schema.message(f"{method}Request")(**fields)
        call = self._schema.method(self._channel, service, method)
        return call(request, timeout=CALL_TIMEOUT_SECONDS, metadata=self._metadata())

    def _metadata(self) -> list[tuple[str, str]]:
        return local_token.metadata(self._server) if self._is_local else []

    def _send(self, event: str, blocks: Mapping[str, bytes] | None = None, **fields: Any) -> None:
        header = {"event": event, "request_id": self._request["request_id"], **fields}
        self._send_message(header, blocks)

    def _explain(self, error: grpc.RpcError) -> str:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.UNAVAILABLE:
            return (
                f"no Dreamsmith server answers at {self._server}: start one with "
                "`dreamsmith serve`, or change the server address"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (
                f"the server at {self._server} did not answer within {CALL_TIMEOUT_SECONDS:.0f} s: "
                "try again, or change the server address"
            )
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return (
                f"the server at {self._server} is no Dreamsmith server that this extension knows: "
                "change the address, or update the older of the two"
            )
        return details or f"the server answered {code.name}"


def _named(name: str, variation: int) -> str:
    """An artifact of a variation: ``model.glb``, ``model-2.glb``, ..."""
    stem, dot, suffix = name.partition(".")
    return name if variation == 1 else f"{stem}-{variation}{dot}{suffix}"


def _channel_options(is_local: bool) -> list[tuple[str, int]]:
    options = [("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES)]
    if is_local:
        # A proxy that the environment names cannot reach this machine's own addresses.
        options.append(("grpc.enable_http_proxy", 0))
    return options
