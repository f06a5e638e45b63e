# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from addon.session import Session, Status, describe, duration

SPECS: dict[str, dict[str, Any]] = {
    "positions": {"type": "float32", "components": 3, "count": 4},
    "triangles": {"type": "uint32", "components": 3, "count": 4},
}
POSITIONS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
TRIANGLES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]], np.uint32)


def running() -> Session:
    return Session(Status.RUNNING, {"request_id": "r", "prompt": "a red mug"}, job="jobs/1")


def send(
    session: Session, event: str, blocks: dict[str, bytes] | None = None, **header: Any
) -> None:
    views = {name: memoryview(block) for name, block in (blocks or {}).items()}
    session.receive({"event": event, "request_id": "r", **header}, views)


def mesh_blocks(triangles: np.ndarray = TRIANGLES) -> dict[str, bytes]:
    return {"positions": POSITIONS.tobytes(), "triangles": triangles.tobytes()}


def progress(session: Session, fraction: float, downloaded: float = 0, total: float = 0) -> None:
    send(session, "progress", stage="field", step=1, total_steps=9, fraction=fraction,
         remaining_seconds=65.0, downloaded_bytes=downloaded, download_bytes=total)  # fmt: skip


def test_a_generation_goes_from_accepted_to_ready() -> None:
    session = Session(Status.STARTING, {"request_id": "r"})
    send(session, "accepted", job="jobs/1", server_version="0.1.0")
    send(session, "state", state="queued")
    assert (session.job, session.status) == ("jobs/1", Status.QUEUED)
    progress(session, 0.25)
    assert session.status is Status.RUNNING
    uv = np.zeros((12, 2), np.float32)
    specs = SPECS | {"corner_uv": {"type": "float32", "components": 2, "count": 12}}
    blocks = mesh_blocks() | {"corner_uv": uv.tobytes(), "albedo": b"png"}
    result = {"arrays": specs, "roughness": 0.5, "metallic": 0.0, "seconds": 61.5}
    send(session, "result", blocks, variation=1, is_last=False, **result)
    assert session.status is Status.RUNNING
    send(session, "result", blocks, variation=3, is_last=True, **result)
    assert session.status is Status.READY
    assert session.results[0].mesh.triangles.tolist() == TRIANGLES.tolist()
    assert [found.variation for found in session.results] == [1, 3]
    assert session.seconds == 61.5


def test_messages_of_an_earlier_generation_are_ignored() -> None:
    session = running()
    session.receive({"event": "failed", "message": "old", "request_id": "other"}, {})
    assert session.status is Status.RUNNING


def test_nothing_changes_after_the_end() -> None:
    session = running()
    send(session, "cancelled")
    progress(session, 0.5)
    assert (session.status, session.fraction) == (Status.CANCELLED, 0.0)


def test_a_download_is_told_until_it_is_over() -> None:
    session = running()
    progress(session, 0.0, 1.25e9, 4.3e9)
    assert describe(session) == "Downloading the model, 1.2 of 4.3 GB"
    progress(session, 0.1)
    assert describe(session).startswith("Shaping 10%")


def test_progress_never_falls() -> None:
    session = running()
    progress(session, 0.5)
    progress(session, 0.2)
    assert session.fraction == 0.5


def test_progress_does_not_undo_a_cancellation() -> None:
    session = running()
    session.status = Status.CANCELLING
    progress(session, 0.5)
    assert session.status is Status.CANCELLING


def test_a_preview_is_handed_out_once() -> None:
    session = running()
    send(session, "preview_mesh", mesh_blocks(), arrays=SPECS)
    assert session.take_preview() is not None
    assert session.take_preview() is None


@pytest.mark.parametrize(
    ("specs", "blocks", "complaint"),
    [
        (SPECS, mesh_blocks(TRIANGLES + 4), "do not exist"),
        (SPECS, mesh_blocks(TRIANGLES - 1), "do not exist"),
        (SPECS, mesh_blocks(TRIANGLES[:3]), "only a part"),
        (SPECS, mesh_blocks() | {"positions": (POSITIONS * np.nan).tobytes()}, "no numbers"),
        ({"positions": SPECS["positions"]}, mesh_blocks(), "without surface"),
        (SPECS | {"positions": {**SPECS["positions"], "components": 2}}, mesh_blocks(),
         "not known"),
        (SPECS | {"colors": {"type": "uint8", "components": 3, "count": 1}},
         mesh_blocks() | {"colors": b"abc"}, "do not fit"),
    ],
)  # fmt: skip
def test_a_mesh_that_would_crash_blender_ends_the_generation_with_one_line(
    specs: dict, blocks: dict[str, bytes], complaint: str
) -> None:
    session = running()
    send(session, "preview_mesh", blocks, arrays=specs)
    assert session.status is Status.FAILED
    assert complaint in session.error


def test_an_error_is_put_on_one_line() -> None:
    session = running()
    session.fail("two\n  lines")
    assert session.error == "Two lines"


def test_the_bar_says_stage_share_and_time_left() -> None:
    session = running()
    progress(session, 0.4)
    assert describe(session) == "Shaping 40%, about 1 min 5 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 0 s"), (65, "1 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_job_pauses_and_goes_on() -> None:
    session = running()
    progress(session, 0.4)
    session.status = Status.PAUSING
    progress(session, 0.41)
    send(session, "state", state="running")
    assert session.status is Status.PAUSING
    send(session, "state", state="paused")
    assert describe(session) == "Paused at 41%"
    progress(session, 0.41)
    assert session.status is Status.PAUSED
    send(session, "state", state="queued")
    assert session.status is Status.QUEUED
    progress(session, 0.5)
    assert session.status is Status.RUNNING


def test_a_command_that_is_refused_lets_the_job_go_on() -> None:
    session = running()
    session.status = Status.PAUSING
    send(session, "refused", message="this server cannot pause jobs")
    assert session.status is Status.RUNNING
    assert "cannot pause" in session.error


def test_a_job_whose_server_is_gone_has_not_failed() -> None:
    session = running()
    send(session, "lost", message="the server does not answer")
    assert session.status is Status.AWAY
    assert session.error == "The server does not answer"


def test_a_file_on_its_way_is_shown_until_the_job_is_there() -> None:
    session = running()
    session.status = Status.STARTING
    send(session, "sending", file="clay.safetensors", fraction=0.4)
    assert describe(session) == "Sending clay.safetensors, 40%"
    send(session, "accepted", job="jobs/1", server_version="0.1.0")
    assert describe(session) == "Contacting the server"
