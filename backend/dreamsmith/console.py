# SPDX-License-Identifier: Apache-2.0
"""What a command shows while it works: bars in a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from dreamsmith import events
from dreamsmith.wire.job import Artifact, Job

_PLAIN_STEP = 0.05
_Body = events.Event | Job | Artifact


class Reporter(Protocol):
    """Shows events; to be used as a context."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""

    def show(self, body: _Body) -> None:
        """Show an event."""

    def result(self, line: str, **values: object) -> None:
        """Show what the command was asked for: a line for people, values for programs."""


def reporter(as_json: bool) -> Reporter:
    """The one that suits where the output goes."""
    if as_json:
        return JsonReporter()
    return BarReporter() if sys.stderr.isatty() else PlainReporter()


class JsonReporter:
    """One JSON object a line, on standard output."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to leave."""

    def show(self, body: _Body) -> None:
        """Show an event."""
        values = event_values(body)
        if values is not None:
            self.result("", **values)

    def result(self, line: str, **values: object) -> None:
        """Show the values."""
        print(json.dumps(values, ensure_ascii=False), flush=True)


class PlainReporter:
    """Lines on standard error, a few for each stage; results on standard output."""

    def __init__(self) -> None:
        self._shown: tuple[str, float] = ("", 0.0)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to leave."""

    def show(self, body: _Body) -> None:
        """Show an event."""
        if isinstance(body, Job):
            print(f"{body.name} {body.state.value}", file=sys.stderr, flush=True)
        download = download_in(body)
        if download is not None:
            self._show(download.model, share(download), download_line(download))
            return
        if not isinstance(body, events.Progress):
            return
        self._show(body.stage, body.fraction, progress_line(body))

    def _show(self, what: str, fraction: float, line: str) -> None:
        shown, before = self._shown
        if what == shown and fraction - before < _PLAIN_STEP:
            return
        self._shown = (what, fraction)
        print(line, file=sys.stderr, flush=True)

    def result(self, line: str, **values: object) -> None:
        """Show the line."""
        print(line, flush=True)


class BarReporter:
    """One bar a stage, on standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[remaining]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Begin."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars where they are."""
        self._progress.stop()

    def show(self, body: _Body) -> None:
        """Show an event."""
        if isinstance(body, Job):
            self._progress.console.print(Text(f"{body.name} {body.state.value}"))
        download = download_in(body)
        if download is not None:
            done, total = download.done_bytes, download.total_bytes
            self._show("download", done, total, f"{bytes_text(download)}  {download.model}", "")
        elif isinstance(body, events.Progress):
            count = f"{body.step:>5}/{body.total_steps}"
            self._show(body.stage, body.step, body.total_steps, count, remaining_text(body))

    def _show(self, what: str, done: int, total: int, count: str, beside: str) -> None:
        if what not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, remaining="")
            self._tasks[what] = self._progress.add_task(what, count="", remaining="")
        self._progress.update(
            self._tasks[what], completed=done, total=total, count=count, remaining=beside
        )

    def result(self, line: str, **values: object) -> None:
        """Show the line."""
        self._progress.stop()
        print(line, flush=True)


def event_values(body: _Body) -> dict[str, object] | None:
    """An event for programs; None for what only people look at."""
    match body:
        case events.Download():
            return {
                "event": "download",
                "model": body.model,
                "done_bytes": body.done_bytes,
                "total_bytes": body.total_bytes,
            }
        case events.Progress():
            return {
                "event": "progress",
                "stage": body.stage,
                "step": body.step,
                "total_steps": body.total_steps,
                "fraction": round(body.fraction, 4),
                "remaining_seconds": body.remaining_seconds,
                "metrics": body.metrics,
            }
        case events.CheckpointSaved():
            return {
                "event": "checkpoint",
                "stage": body.stage,
                "step": body.step,
                "path": str(body.path),
            }
        case Job():
            return {"event": "job", **job_values(body)}
        case Artifact():
            return {
                "event": "artifact",
                "name": body.name,
                "media_type": body.media_type,
                "size_bytes": body.size_bytes,
                "sha256": body.sha256.hex(),
            }
    return None


def job_values(job: Job) -> dict[str, object]:
    """A job for programs."""
    return {
        "name": job.name,
        "state": job.state.value,
        "prompt": job.request.prompt,
        "attempt": job.attempt,
        "owner": job.owner,
        "priority": job.priority,
        "fraction": job.progress.fraction if job.progress else 0.0,
        "error": None
        if job.error is None
        else {"reason": job.error.reason, "message": job.error.message},
        "artifacts": [artifact.name for artifact in job.artifacts],
        "create_time": job.create_time,
        "start_time": job.start_time,
        "end_time": job.end_time,
    }


def download_in(body: _Body) -> events.Download | None:
    """A download of our own, or of a server, which has it among the numbers of its progress."""
    if isinstance(body, events.Download):
        return body
    if isinstance(body, events.Progress) and "download_bytes" in body.metrics:
        done, total = (int(body.metrics[f"{word}_bytes"]) for word in ("downloaded", "download"))
        return events.Download("the model", done, total)
    return None


def share(download: events.Download) -> float:
    """How much of it is done, 0 to 1."""
    return download.done_bytes / max(1, download.total_bytes)


def download_line(download: events.Download) -> str:
    """For instance ``downloading owner/name, 1.2 of 4.3 GB``."""
    return f"downloading {download.model}, {bytes_text(download)}"


def bytes_text(download: events.Download) -> str:
    """For instance ``1.2 of 4.3 GB``; of less than a tenth of that, in MB."""
    unit, name = (1e9, "GB") if download.total_bytes >= 1e8 else (1e6, "MB")
    return f"{download.done_bytes / unit:.1f} of {download.total_bytes / unit:.1f} {name}"


def progress_line(progress: events.Progress) -> str:
    """For instance ``field 120/240, 34 %, 1:12 left``."""
    line = f"{progress.stage} {progress.step}/{progress.total_steps}, {progress.fraction:.0%}"
    remaining = remaining_text(progress)
    return f"{line}, {remaining}" if remaining else line


def remaining_text(progress: events.Progress) -> str:
    """For instance ``1:12 left``; empty while there is nothing to base it on."""
    if progress.remaining_seconds is None:
        return ""
    minutes, seconds = divmod(round(progress.remaining_seconds), 60)
    return f"{minutes}:{seconds:02d} left"
