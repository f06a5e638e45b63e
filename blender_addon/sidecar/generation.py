# SPDX-License-Identifier: GPL-3.0-or-later
"""One generation at the server: create the job, follow it, fetch what it made."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import artifacts
import edges
import frames
import grpc
import upload
from artifacts import GenerationEnded
from channel import CannotConnect, Connection
from schema import Schema

# A stream is asked for anew this often, so that a dead connection is noticed. Nothing is lost.
WATCH_TIMEOUT_SECONDS = 120.0
LOST_AFTER_SECONDS = 60.0
# Of one that was cancelled: the user waits, but a connection that only stumbles is not given up.
CANCEL_LOST_AFTER_SECONDS = 10.0
RETRY_SECONDS = 0.5
_RANGES = ("azimuth_degrees", "elevation_degrees", "distance", "fov_degrees")
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


_CONTROLS = {
    "cancel": "CancelJob",
    "pause": "PauseJob",
    "resume": "ResumeJob",
    "retry": "RetryJob",
}
_STATES = {
    "STATE_QUEUED": "queued",
    "STATE_RUNNING": "running",
    "STATE_CANCELLING": "cancelling",
    "STATE_PAUSING": "pausing",
    "STATE_PAUSED": "paused",
}


class ServerLost(Exception):
    """The job can be followed no longer, but it is kept at the server; the message says why."""


class Generation:
    """Runs in a thread of its own, and tells all through ``send(header, blocks)``.

    Args:
        schema: of the API.
        command: ``connection``; ``request``; ``folder``, which gets previews and results; ``job``,
            the server's name of one that is there already, or empty; ``first``, what to ask of
            one that has come to nothing before it is followed: ``retry`` or nothing.
        send: to Blender.
    """

    def __init__(
        self, schema: Schema, command: Mapping[str, Any], send: Callable[..., None]
    ) -> None:
        self._schema = schema
        self._settings: dict[str, Any] = command["connection"]
        self._request: dict[str, Any] = command["request"]
        self._folder = Path(command["folder"])
        self._send_message = send
        self._job: str = command["job"]
        self._first: str = command["first"]
        self._newest = 0
        self._cancelled = threading.Event()
        self._commands: list[threading.Thread] = []
        self._connection: Connection | None = None
        self.has_ended = False

    def run(self) -> None:
        """From the request to the result; never raises."""
        was_known = bool(self._job)
        try:
            self._connection = Connection(self._schema, self._settings)
            if was_known:
                self._attach()
            else:
                self._create()
            if self._cancelled.is_set():
                self.control("cancel")
            self._follow()
        except upload.Stopped:
            self._send("cancelled")
        except (GenerationEnded, CannotConnect) as error:
            self._send("failed", message=str(error))
        except ServerLost as error:
            self._send("lost", message=str(error))
        except grpc.RpcError as error:
            lost = was_known and error.code() in _PASSING
            self._send("lost" if lost else "failed", message=self._reachable().explain(error))
        except Exception as error:
            self._send("failed", message=f"the helper process failed: {error!r}")
        finally:
            self.has_ended = True
            if self._connection is not None:
                self._connection.close()

    def control(self, action: str) -> None:
        """Cancel, pause or resume the job, now or as soon as it is known; does not block."""
        if action == "cancel":
            self._cancelled.set()
        if self._job and self._connection is not None:
            thread = threading.Thread(target=self._control, args=(action,), daemon=True)
            self._commands.append(thread)
            thread.start()

    @property
    def is_settled(self) -> bool:
        """Whether the server knows all that Blender has asked for."""
        if self.has_ended:
            return True
        # A cancel that came before the job was known is told once it is.
        is_told = bool(self._commands) or not self._cancelled.is_set()
        return is_told and not any(thread.is_alive() for thread in self._commands)

    def _control(self, action: str) -> None:
        try:
            self._command(action)
        except GenerationEnded as error:
            self._send("refused", message=str(error))
        except grpc.RpcError as error:
            self._send("refused", message=self._reachable().explain(error))
        except ValueError:
            # The channel is closed, so the job has ended.
            return

    def _command(self, action: str) -> Any:
        method = _CONTROLS[action]
        connection = self._reachable()
        if not self._schema.has_method("GenerationService", method):
            raise GenerationEnded(f"jobs cannot be told to {action} yet: update the extension")
        try:
            return connection.call("GenerationService", method, name=self._job).job
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise GenerationEnded(
                    f"this server cannot {action} jobs: update it to a newer version"
                ) from None
            raise

    def _reachable(self) -> Connection:
        if self._connection is None:
            raise GenerationEnded("there is no connection")
        return self._connection

    def _create(self) -> None:
        capabilities = self._call("CapabilityService", "GetCapabilities")
        spec = self._spec()
        if "start_file" in self._request:
            spec.start = self._sent(self._request["start_file"])
        if "mask_file" in self._request:
            spec.mask = self._sent(self._request["mask_file"])
        if "lora_scale" in self._request:
            if not capabilities.limits.max_loras:
                raise GenerationEnded("this server takes no LoRA: it must be updated")
            lora = spec.loras.add(scale=self._request["lora_scale"])
            if "lora" in self._request:
                lora.name = self._request["lora"]
            else:
                lora.upload = self._sent(self._request["lora_file"])
        answer = self._call(
            "GenerationService",
            "CreateJob",
            spec=spec,
            request_id=self._request["request_id"],
        )
        self._job = answer.job.name
        job = answer.job
        state = self._schema.enum_label("Job.State", job.state)
        if self._first and state in {"STATE_FAILED", "STATE_CANCELLED"}:
            # The request was sent before, and came to nothing.
            job = self._command(self._first)
        self._join(job, capabilities.server_version)

    def _sent(self, path: str) -> str:
        """The upload's name of a file, once the server has it."""
        file = Path(path)

        def tell(fraction: float) -> None:
            self._send("sending", file=file.name, fraction=fraction)

        return upload.send(self._reachable(), file, tell, self._cancelled.is_set)

    def _attach(self) -> None:
        """Go on with a job that is at the server."""
        capabilities = self._call("CapabilityService", "GetCapabilities")
        if self._first:
            job = self._command(self._first)
        else:
            try:
                job = self._call("GenerationService", "GetJob", name=self._job).job
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise GenerationEnded("the server has forgotten this job") from None
                raise
        self._join(job, capabilities.server_version)

    def _join(self, job: Any, server_version: str) -> None:
        """Begin with a job as it is now: what lies behind it is not told again."""
        self._newest = job.latest_sequence
        self._send("accepted", job=self._job, server_version=server_version)
        if job.HasField("progress"):
            self._send_progress(job.progress)

    def _spec(self) -> Any:
        request = self._request
        interval = self._schema.message("Interval")
        spec = self._schema.message("GenerationSpec")(
            prompt=request["prompt"],
            negative_prompt=request["negative_prompt"],
            method=request["method"],
            preset=request["preset"],
            recipe=request["recipe"],
            prior=request["prior"],
            seed=request["seed"],
            variations=request["variations"],
            height_metres=request["height_metres"],
            cameras=self._schema.message("CameraRanges")(
                **{name: interval(low=request[name][0], high=request[name][1]) for name in _RANGES}
            ),
        )
        for name in ("steps", "texture_size", "face_budget", "lods"):
            if request.get(name):
                setattr(spec, name, request[name])
        spec.stages.extend(request.get("stages", ()))
        for name in ("band", "smoothing"):
            if name in request:
                setattr(spec, name, request[name])
        for name in ("keep_texture", "normal_map", "pbr"):
            if request.get(name):
                setattr(spec, name, True)
        return spec

    def _follow(self) -> None:
        """Follow the job to its end, over as many connections as that takes."""
        connection = self._reachable()
        heard = time.monotonic()
        while True:
            metadata = connection.metadata()
            try:
                events = connection.stream(
                    "GenerationService",
                    "WatchJob",
                    WATCH_TIMEOUT_SECONDS,
                    name=self._job,
                    resume_after=self._newest,
                )
                for event in events:
                    heard = time.monotonic()
                    self._newest = max(self._newest, event.sequence)
                    if self._handle(event):
                        return
            except grpc.RpcError as error:
                # A server on this machine that starts anew has a new token.
                is_new_server = (
                    error.code() is grpc.StatusCode.UNAUTHENTICATED
                    and metadata != connection.metadata()
                )
                if error.code() not in _PASSING and not is_new_server:
                    raise
                is_cancelled = self._cancelled.is_set()
                patience = CANCEL_LOST_AFTER_SECONDS if is_cancelled else LOST_AFTER_SECONDS
                if time.monotonic() - heard > patience:
                    raise ServerLost(
                        f"the server at {self._settings['address']} does not answer any more: "
                        "start it again, then reconnect; the job goes on there"
                    ) from None
            time.sleep(RETRY_SECONDS)

    def _handle(self, event: Any) -> bool:
        """Pass one event on; whether it was the last."""
        kind = event.WhichOneof("event")
        if kind == "progress":
            self._send_progress(event.progress)
        elif kind == "preview_image":
            image = event.preview_image
            # Only a picture: one that cannot be written, for instance on a full disk, is shown all
            # the same.
            with contextlib.suppress(OSError):
                artifacts.write(self._folder / "preview.png", image.png, durable=False)
            self._send("preview_image", {"png": image.png}, stage=image.stage, step=image.step)
        elif kind == "preview_mesh":
            mesh = event.preview_mesh
            arrays, blocks = artifacts.arrays(self._schema, mesh.arrays, mesh.data)
            edges.add(arrays, blocks)
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
        if state in _STATES:
            self._send("state", state=_STATES[state])
        elif state == "STATE_SUCCEEDED":
            self._send_result()
        elif state == "STATE_FAILED":
            raise GenerationEnded(job.error.message or "the job failed at the server")
        elif state == "STATE_CANCELLED":
            self._send("cancelled")
        return state in {"STATE_SUCCEEDED", "STATE_CANCELLED"}

    def _send_result(self) -> None:
        """Fetch what was made; on disk before Blender has seen it: a crash there costs nothing."""
        job = self._call("GenerationService", "GetJob", name=self._job).job
        artifacts.keep_picture(self._reachable(), job, self._folder / "preview.png")
        for header, blocks in artifacts.results(self._reachable(), job):
            header |= {"event": "result", "request_id": self._request["request_id"]}
            level = f"-lod{header['lod']}" if header["lod"] else ""
            path = self._folder / f"result-{header['variation']}{level}.frame"
            try:
                artifacts.write(path, frames.pack(header, blocks), durable=True)
            except OSError as error:
                raise ServerLost(
                    f"the result cannot be written to {path.parent}: {error.strerror}. It is kept "
                    "at the server: make room, then reconnect"
                ) from None
            self._send_message(header, blocks)

    def _call(self, service: str, method: str, **fields: Any) -> Any:
        return self._reachable().call(service, method, **fields)

    def _send(self, event: str, blocks: Mapping[str, bytes] | None = None, **fields: Any) -> None:
        header = {"event": event, "request_id": self._request["request_id"], **fields}
        self._send_message(header, blocks)


def delete(schema: Schema, command: Mapping[str, Any]) -> None:
    """Have the server forget a job, where it can and wants to; in Blender it is gone already."""
    with contextlib.suppress(CannotConnect, grpc.RpcError):
        connection = Connection(schema, command["connection"])
        try:
            if schema.has_method("GenerationService", "DeleteJob"):
                connection.call("GenerationService", "DeleteJob", name=command["job"])
        finally:
            connection.close()
