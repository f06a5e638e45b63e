# SPDX-License-Identifier: GPL-3.0-or-later
"""``blender -c dreamsmith``: a table of prompts becomes a library of assets.

A run that was stopped, however it was, is gone on with by the same command: each row has a file of
its own, which is there only when it is whole, and a request id that is the same in every run, so
that the server makes no job twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import bpy

from . import preferences, pump, request
from .apply import asset, scene
from .history import NoResult
from .rows import BadBatch, Row, read
from .session import Session, Status

DONE, BAD_INPUT, NO_SERVER, JOB_FAILED, CANCELLED = 0, 2, 3, 4, 130
STATE_FILE = "dreamsmith-batch.json"
LOG_FILE = "dreamsmith-batch.jsonl"
_ANSWER_SECONDS = 130.0
_INTERVAL_SECONDS = 0.05


def main(argv: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="blender -c dreamsmith",
        description="Makes an asset library of a table of prompts. Run it again to go on.",
    )
    parser.add_argument(
        "--csv",
        "--table",
        dest="table",
        type=Path,
        required=True,
        help="CSV with a header line, or JSON lines (.jsonl); columns are the panel's fields and "
        "name, catalog, tags",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the library")
    parser.add_argument("--server", default="", help="name or HOST:PORT; default: the chosen one")
    parser.add_argument("--parallel", type=int, default=4, help="jobs at the server at once; 4")
    parser.add_argument("--catalog", default=asset.DEFAULT_CATALOG, help="of rows that name none")
    parser.add_argument("--log", type=Path, help=f"JSON lines; default: {LOG_FILE} in --out")
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return DONE if stop.code in {0, None} else BAD_INPUT
    try:
        with_log = arguments.log or arguments.out / LOG_FILE
        with_log.parent.mkdir(parents=True, exist_ok=True)
        with with_log.open("a", encoding="utf-8") as log:
            return Batch(arguments, log).run()
    except BadBatch as error:
        print(f"dreamsmith: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"dreamsmith: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("dreamsmith: stopped; run the same command again to go on", file=sys.stderr)
        return CANCELLED


class Batch:
    """One run over a table."""

    def __init__(self, arguments: argparse.Namespace, log: TextIO) -> None:
        if arguments.parallel < 1:
            raise BadBatch(f"--parallel must be at least 1, not {arguments.parallel}")
        self._rows, self._bad = read(arguments.table)
        self._out: Path = arguments.out
        self._server: str = arguments.server
        self._parallel: int = arguments.parallel
        self._catalog: str = arguments.catalog
        self._log = log
        self._library = _library_id(self._out)
        self._failed = 0
        self._unreached = False

    def run(self) -> int:
        """Make what is missing; the exit code."""
        for number, problem in sorted(self._bad.items()):
            self._say("bad_row", f"line {number}: {problem}", line=number, error=problem)
        waiting = []
        for row in self._rows:
            if self._file(row).is_file():
                self._tell("skipped", row, f"{self._file(row).name} is there already")
            else:
                waiting.append(row)
        try:
            connection = preferences.connection(preferences.named(bpy.context, self._server))
        except request.BadRequest as error:
            raise BadBatch(str(error)) from None
        pump.ask(connection)
        pump.wait_for_answer(connection["address"], _ANSWER_SECONDS)
        facts = pump.servers.of(connection["address"])
        if waiting and not facts.facts:
            self._say("no_server", facts.error, error=facts.error)
            return NO_SERVER
        if facts.facts:
            limit = facts.facts["limits"]["max_active_jobs"]
            self._parallel = min(self._parallel, limit or self._parallel)
        self._make(waiting, connection)
        return self._end()

    def _make(self, waiting: list[Row], connection: dict[str, Any]) -> None:
        running: dict[str, Row] = {}
        while waiting or running:
            while waiting and len(running) < self._parallel and not self._unreached:
                row = waiting.pop(0)
                running[self._begin(row, connection).request_id] = row
            if self._unreached and not running:
                return
            if not pump.step():
                time.sleep(_INTERVAL_SECONDS)
            for name in [n for n in running if not pump.jobs[n].is_active]:
                self._finish(running.pop(name), pump.jobs[name])

    def _begin(self, row: Row, connection: dict[str, Any]) -> Session:
        wanted = {**row.request, "request_id": row.request_id(self._library)}
        # What an earlier run knew of it: the server is asked again, and has it still.
        earlier = pump.jobs.get(wanted["request_id"])
        if earlier is not None:
            pump.drop(earlier)
        job = pump.start(wanted, connection, bpy.context.scene.name, first="retry")
        job.moved_on = True
        self._tell("started", row, row.request["prompt"])
        return job

    def _finish(self, row: Row, job: Session) -> None:
        if job.status is not Status.READY:
            if job.status is Status.AWAY:
                self._unreached = True
            self._failed += 1
            problem = job.error or job.status.value
            self._tell("failed", row, problem, job=job.job, error=problem)
            pump.drop(job)
            return
        try:
            items = self._write(row, job)
        except (OSError, NoResult) as error:
            self._failed += 1
            self._tell("failed", row, str(error), job=job.job, error=str(error))
            return
        file = self._file(row).name
        self._tell("done", row, file, job=job.job, file=file, assets=items, seconds=job.seconds)
        pump.drop(job)

    def _write(self, row: Row, job: Session) -> list[str]:
        thumbnail = pump.history().picture(job.request_id)
        png = thumbnail.read_bytes() if thumbnail.is_file() else b""
        pump.import_result(job)
        made = [o for o in bpy.data.objects if o.get("dreamsmith_job") == job.job]
        items = [item for item in made if scene.LOD_KEY not in item]
        items.sort(key=lambda item: item["dreamsmith_variation"])
        try:
            catalog_id = asset.catalog(self._out, row.catalog or self._catalog)
            for item in items:
                number = item["dreamsmith_variation"]
                item.name = row.name if number == 1 else f"{row.name} {number}"
                for level in scene.with_levels([item])[1:]:
                    level.name = f"{item.name}_LOD{level[scene.LOD_KEY]}"
                item.location = (0, 0, 0)
                # The preview shows the first variation.
                shown = png if number == 1 else b""
                asset.mark(item, catalog_id=catalog_id, tags=row.tags, thumbnail_png=shown)
            names = [item.name for item in items]
            asset.write(self._file(row), scene.with_levels(items))
            return names
        finally:
            for item in made:
                bpy.data.objects.remove(item)
            bpy.data.orphans_purge(do_recursive=True)

    def _file(self, row: Row) -> Path:
        return self._out / f"{row.file_stem}.blend"

    def _end(self) -> int:
        there = sum(self._file(row).is_file() for row in self._rows)
        text = f"{there} of {len(self._rows) + len(self._bad)} rows are in {self._out}"
        self._say("end", text, done=there, bad=len(self._bad), failed=self._failed)
        if self._unreached:
            return NO_SERVER
        if self._failed:
            return JOB_FAILED
        return BAD_INPUT if self._bad else DONE

    def _tell(self, event: str, row: Row, text: str, **values: Any) -> None:
        self._say(event, f"line {row.number}: {text}", line=row.number, name=row.name, **values)

    def _say(self, event: str, text: str, **values: Any) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._log.write(json.dumps({"time": stamp, "event": event, **values}) + "\n")
        self._log.flush()
        print(f"dreamsmith: {event.replace('_', ' ')}: {text}", flush=True)


def _library_id(out: Path) -> str:
    """A library's own id, in a file beside its assets: it survives moving the folder."""
    file = out / STATE_FILE
    try:
        return str(uuid.UUID(json.loads(file.read_text(encoding="utf-8"))["library"]))
    except FileNotFoundError:
        out.mkdir(parents=True, exist_ok=True)
        made = str(uuid.uuid4())
        part = file.with_suffix(".part")
        part.write_text(json.dumps({"library": made}) + "\n", encoding="utf-8")
        part.replace(file)
        return made
    except (ValueError, KeyError, TypeError):
        raise BadBatch(
            f"{file} is damaged: remove it, and rows without a file are made anew"
        ) from None


_command: Any = None


def register() -> None:
    """Make ``blender -c dreamsmith`` known."""
    global _command  # noqa: PLW0603
    _command = bpy.utils.register_cli_command("dreamsmith", main)


def unregister() -> None:
    """Take the command away."""
    global _command  # noqa: PLW0603
    if _command is not None:
        bpy.utils.unregister_cli_command(_command)
        _command = None
