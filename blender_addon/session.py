# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running generation is at: live state, which no file may hold. No bpy here.

It lives in this module and not in the scene: a scene is saved, and a file that says "busy" would
say so for ever.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import arrays
from .language import deferred, say


class Status(enum.Enum):
    """Where the generation is in its life."""

    IDLE = "idle"
    STARTING = "starting"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    PAUSING = "pausing"
    PAUSED = "paused"
    # Nobody follows it: Blender was closed, or the server does not answer. It goes on there.
    AWAY = "away"
    # Finished and on disk, but in no file: the user says where it goes.
    READY = "ready"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    FAILED = "failed"


ACTIVE = frozenset(
    {
        Status.STARTING,
        Status.QUEUED,
        Status.RUNNING,
        Status.CANCELLING,
        Status.PAUSING,
        Status.PAUSED,
    }
)
ENDED = frozenset({Status.READY, Status.SUCCEEDED, Status.CANCELLED, Status.FAILED})
# What a bar that is on its way to somewhere else must not be called back from.
_LEAVING = frozenset({Status.CANCELLING, Status.PAUSING})
_STATES = {
    "queued": Status.QUEUED,
    "running": Status.RUNNING,
    "cancelling": Status.CANCELLING,
    "pausing": Status.PAUSING,
    "paused": Status.PAUSED,
}


@dataclass(frozen=True)
class Result:
    """One finished asset as it came from the server.

    Attributes:
        variation: its number, from 1.
        normal_png: its normal map; empty for none.
        lod: its level of detail; 0 for the asset itself.
        metallic_roughness_png: roughness in green, metallic in blue; empty where they are constant.
    """

    mesh: arrays.MeshArrays
    albedo_png: bytes
    roughness: float
    metallic: float
    variation: int = 1
    normal_png: bytes = b""
    lod: int = 0
    metallic_roughness_png: bytes = b""

    @classmethod
    def from_message(cls, header: Mapping[str, Any], blocks: Mapping[str, memoryview]) -> Result:
        """The asset of a ``result`` message.

        Raises:
            BadMesh, KeyError, TypeError, ValueError: it is none.
        """
        return cls(
            arrays.decode(header["arrays"], blocks),
            bytes(blocks["albedo"]),
            float(header["roughness"]),
            float(header["metallic"]),
            int(header["variation"]),
            bytes(blocks.get("normal", b"")),
            # Results of older versions on this disk do not say it.
            int(header.get("lod", 0)),
            bytes(blocks.get("metallic_roughness", b"")),
        )


@dataclass
class Session:
    """One generation, from the click to the mesh in the scene.

    Attributes:
        status: where it is in its life.
        request: what was asked for.
        server: the address it was sent to.
        connection: how that is reached, as the sidecar wants it.
        created: when it was asked for, in seconds since 1970.
        seconds: how long the server worked on it; 0 until it has succeeded.
        scene_name: of the scene that gets the mesh.
        job: the server's name of it; empty before it was accepted.
        fraction: of the whole, in [0, 1].
        sending: name of the file that is on its way to the server; empty for none.
        sent: how much of that, in [0, 1].
        error: one line for a person, once it failed.
        image_png: the newest preview picture; `take_image` hands it out once.
        preview: the newest preview mesh; `take_preview` hands it out once.
        preview_color: mean sRGB colour of the newest preview mesh, each channel in [0, 1]; None
            before the first.
        results: the finished assets, one for each variation, each followed by its levels of
            detail; complete once `status` is READY.
        moved_on: another file was opened since the job began, or another Blender.
    """

    status: Status = Status.IDLE
    request: dict[str, Any] = field(default_factory=dict)
    server: str = ""
    connection: dict[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    seconds: float = 0.0
    server_version: str = ""
    scene_name: str = ""
    job: str = ""
    stage: str = ""
    step: int = 0
    total_steps: int = 0
    fraction: float = 0.0
    remaining_seconds: float | None = None
    downloaded_bytes: float = 0.0
    download_bytes: float = 0.0
    sending: str = ""
    sent: float = 0.0
    error: str = ""
    image_png: bytes | None = None
    preview: arrays.MeshArrays | None = None
    preview_color: tuple[float, ...] | None = None
    results: list[Result] = field(default_factory=list)
    moved_on: bool = False

    @property
    def is_active(self) -> bool:
        """Whether the generation still runs."""
        return self.status in ACTIVE

    @property
    def request_id(self) -> str:
        """Of the request: a job's name before the server gives it one, and on disk."""
        return str(self.request.get("request_id", ""))

    def fail(self, message: str) -> None:
        """End with an error, which is made one sentence on one line."""
        self.status = Status.FAILED
        self.error = one_line(message)

    def lose(self, message: str) -> None:
        """Nobody follows the job any more; it goes on at the server."""
        self.status = Status.AWAY
        self.error = one_line(message)

    def take_image(self) -> bytes | None:
        """The newest picture, once."""
        image, self.image_png = self.image_png, None
        return image

    def take_preview(self) -> arrays.MeshArrays | None:
        """The newest preview mesh, once."""
        preview, self.preview = self.preview, None
        return preview

    def receive(self, header: Mapping[str, Any], blocks: Mapping[str, memoryview]) -> None:
        """Take in one message of the sidecar; messages of an earlier generation are ignored."""
        if not self.is_active or header.get("request_id") != self.request.get("request_id"):
            return
        try:
            self._receive(header, blocks)
        except (arrays.BadMesh, KeyError, TypeError, ValueError) as error:
            self.fail(str(error) or say("the server sent something that is not known"))

    def _receive(self, header: Mapping[str, Any], blocks: Mapping[str, memoryview]) -> None:
        event = header["event"]
        if event == "accepted":
            self.job, self.server_version = header["job"], header["server_version"]
            self.error = self.sending = ""
        elif event == "sending":
            self.sending, self.sent = str(header["file"]), float(header["fraction"])
        elif event == "state":
            self._enter(_STATES[header["state"]])
        elif event == "progress":
            self._advance(header)
        elif event == "preview_image":
            self.image_png = bytes(blocks["png"])
        elif event == "preview_mesh":
            self._show(arrays.decode(header["arrays"], blocks))
        elif event == "result":
            self._add(header, blocks)
        elif event == "cancelled":
            self.status = Status.CANCELLED
        elif event == "refused":
            # Of a command such as pausing: the job itself goes on.
            self.error = one_line(header["message"])
            if self.status in _LEAVING:
                self.status = Status.RUNNING
        elif event == "lost":
            self.lose(header["message"])
        elif event == "failed":
            self.fail(header["message"])

    def _show(self, preview: arrays.MeshArrays) -> None:
        self.preview = preview
        if preview.mean_color is not None:
            self.preview_color = tuple(preview.mean_color.tolist())

    def _advance(self, header: Mapping[str, Any]) -> None:
        if self.status not in _LEAVING and self.status is not Status.PAUSED:
            self.status = Status.RUNNING
        self.stage = str(header["stage"])
        self.step, self.total_steps = int(header["step"]), int(header["total_steps"])
        # A retried attempt begins at its checkpoint; a bar that falls looks like a fault.
        self.fraction = max(self.fraction, min(1.0, float(header["fraction"])))
        self.remaining_seconds = header["remaining_seconds"]
        self.downloaded_bytes = float(header["downloaded_bytes"])
        self.download_bytes = float(header["download_bytes"])

    def _add(self, header: Mapping[str, Any], blocks: Mapping[str, memoryview]) -> None:
        self.results.append(Result.from_message(header, blocks))
        if header["is_last"]:
            self.fraction, self.remaining_seconds = 1.0, 0.0
            self.seconds = float(header["seconds"])
            self.status = Status.READY

    def _enter(self, status: Status) -> None:
        if self.status is Status.CANCELLING and status is not Status.CANCELLING:
            return
        if self.status is Status.PAUSING and status in {Status.QUEUED, Status.RUNNING}:
            return
        self.status = status
        if status in {Status.QUEUED, Status.PAUSED}:
            self.remaining_seconds = None


def one_line(message: str) -> str:
    """A message as one sentence on one line."""
    line = " ".join(message.split())
    return line[:1].upper() + line[1:]


_WORDS = {
    Status.IDLE: "",
    Status.STARTING: deferred("Contacting the server"),
    Status.QUEUED: deferred("Waiting for a free worker"),
    Status.CANCELLING: deferred("Stopping"),
    Status.PAUSING: deferred("Pausing"),
    Status.AWAY: deferred("Not connected"),
    Status.READY: deferred("Ready to import"),
    Status.SUCCEEDED: deferred("Done"),
    Status.CANCELLED: deferred("Cancelled"),
    Status.FAILED: deferred("Failed"),
}
_STAGES = {
    "field": deferred("Shaping"),
    "surface": deferred("Carving the surface"),
    "texture": deferred("Painting"),
}


def describe(session: Session) -> str:
    """What the progress bar says, for instance ``Shaping 40 %, about 1 min 5 s left``."""
    if session.status is Status.STARTING and session.sending:
        share = f"{session.sent:.0%}"
        return say("Sending {name}, {share}", name=session.sending, share=share)
    if session.status in _WORDS:
        return say(_WORDS[session.status])
    if session.status is Status.PAUSED:
        return say("Paused at {share}", share=f"{session.fraction:.0%}")
    if session.download_bytes:
        done, total = session.downloaded_bytes / 1e9, session.download_bytes / 1e9
        return say(
            "Downloading the model, {done} of {total} GB", done=f"{done:.1f}", total=f"{total:.1f}"
        )
    stage = say(_STAGES.get(session.stage, session.stage.capitalize()))
    share = f"{session.fraction:.0%}"
    if session.remaining_seconds is None:
        return f"{stage} {share}"
    left = duration(session.remaining_seconds)
    return say("{stage} {share}, about {time} left", stage=stage, share=share, time=left)


def duration(seconds: float) -> str:
    """A time as a person says it: ``45 s``, ``1 min 5 s``, ``2 h 10 min``."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
