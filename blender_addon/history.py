# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs on disk, a folder each, so that none goes with a file, a session or a crash. No bpy here.

A folder is named by the job's request id and holds ``job.json``, the newest preview as
``preview.png``, and of each finished variation ``result-N.frame``, of its levels of detail
``result-N-lodL.frame``: the message of the sidecar as it came through the pipe, which the sidecar
has written before it sent it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import arrays
from . import request as asking
from .language import say
from .session import ACTIVE, Result, Session, Status
from .sidecar import frames

JOB_FILE = "job.json"
PICTURE_FILE = "preview.png"
MAXIMUM_JOBS = 500
_KEPT = (
    "request",
    "server",
    "connection",
    "created",
    "seconds",
    "server_version",
    "scene_name",
    "job",
    "fraction",
    "error",
)
_ESTIMATE_FROM = 9


class NoResult(Exception):
    """A job's result is not on this disk, or not whole."""


class History:
    """The folder that holds the jobs' folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, str] = {}

    def folder(self, request_id: str) -> Path:
        """Of one job; it need not exist yet."""
        return self._folder / str(uuid.UUID(request_id))

    def picture(self, request_id: str) -> Path:
        """The file of a job's newest preview; it need not exist."""
        return self.folder(request_id) / PICTURE_FILE

    def save(self, session: Session) -> None:
        """Write where a job is, if that is another thing than was written last.

        Raises:
            OSError: the disk is full or read-only.
        """
        values = {name: getattr(session, name) for name in _KEPT}
        values["status"] = session.status.value
        # The fraction alone changes many times a second and is worth no write.
        mark = json.dumps({**values, "fraction": round(session.fraction, 1)}, sort_keys=True)
        if self._written.get(session.request_id) == mark:
            return
        folder = self.folder(session.request_id)
        folder.mkdir(parents=True, exist_ok=True)
        # By another name first, so that the file is never half there.
        part = folder / f"{JOB_FILE}.{os.getpid()}"
        with part.open("w", encoding="utf-8") as file:
            json.dump(values, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / JOB_FILE)
        self._written[session.request_id] = mark

    def load(self) -> list[Session]:
        """The newest jobs, oldest first; what cannot be read is left where it is.

        A job that was running when Blender ended is AWAY: it went on at the server.
        """
        found = []
        for path in self._folder.glob(f"*/{JOB_FILE}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append(_session(json.loads(path.read_text(encoding="utf-8")), path.parent))
        return sorted(found, key=lambda session: session.created)[-MAXIMUM_JOBS:]

    def has_result(self, request_id: str) -> bool:
        """Whether something finished of the job is on disk."""
        return next(self.folder(request_id).glob("result-*.frame"), None) is not None

    def results(self, request_id: str) -> list[Result]:
        """The finished assets of a job, in the order of their numbers.

        Raises:
            NoResult: there is none, or a file is damaged.
        """
        found = []
        try:
            for path in self.folder(request_id).glob("result-*.frame"):
                found.append(Result.from_message(*frames.unpack(path.read_bytes())))
        except (OSError, frames.BadFrame, arrays.BadMesh, KeyError, TypeError, ValueError) as error:
            raise NoResult(say("the saved result cannot be read: {why}", why=error)) from None
        if not found:
            raise NoResult(say("the result is not on this machine's disk"))
        return sorted(found, key=lambda result: (result.variation, result.lod))

    def remove(self, request_id: str) -> None:
        """Delete all that is kept of a job."""
        self._written.pop(request_id, None)
        shutil.rmtree(self.folder(request_id), ignore_errors=True)


def _session(values: Mapping[str, Any], folder: Path) -> Session:
    session = Session(Status(values["status"]), **{name: values[name] for name in _KEPT})
    if session.request_id != folder.name or not isinstance(session.request["prompt"], str):
        raise ValueError(f"{folder} holds another job")
    session.moved_on = True
    if session.status in ACTIVE or session.status is Status.AWAY:
        # Why nobody could follow it last time need not hold any more.
        session.status, session.error = Status.AWAY, ""
    return session


def matches(session: Session, text: str) -> bool:
    """Whether every word of ``text`` is found in what was asked for, or in how it went."""
    request = session.request
    fields = [request.get(name, "") for name in ("prompt", "negative_prompt", "method", "recipe")]
    fields += [request.get("preset", ""), request.get("prior", ""), session.status.value]
    fields += [str(request.get("seed", "")), asking.lora_of(request), session.server]
    whole = " ".join(fields).lower()
    return all(word in whole for word in text.lower().split())


def finished(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    """How long jobs took, as a server tells it too: what `estimate` reads."""
    return [
        {**{name: session.request.get(name) for name in _ALIKE}, "seconds": session.seconds}
        for session in sessions
        if session.seconds > 0
    ]


_ALIKE = ("method", "preset", "prior", "recipe", "steps", "variations")


def estimate(past: Iterable[Mapping[str, Any]], wanted: Mapping[str, Any]) -> tuple[float, int]:
    """Seconds that a job will take, and from how many jobs like it that is known.

    Jobs of the same preset, prior, steps, method and recipe; where none is, of any method and
    recipe. The median of the newest, a variation. ``(0, 0)`` where nothing is known.

    Args:
        past: of finished jobs ``method``, ``preset``, ``prior``, ``recipe``, ``steps``,
            ``variations`` and ``seconds``, the newest first.
        wanted: of the job to be.
    """
    past = list(past)
    for names in (("preset", "prior", "steps", "method", "recipe"), ("preset", "prior", "steps")):
        alike = [
            float(job["seconds"]) / max(1, int(job["variations"] or 1))
            for job in past
            if all((job[name] or 0) == (wanted[name] or 0) for name in names)
        ][:_ESTIMATE_FROM]
        if alike:
            return statistics.median(alike) * max(1, int(wanted["variations"])), len(alike)
    return 0.0, 0
