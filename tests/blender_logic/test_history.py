# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from addon import history
from addon.session import Session, Status
from addon.sidecar import frames


def session(status: Status = Status.RUNNING, **request: Any) -> Session:
    asked = {"prompt": "a red mug", "request_id": str(uuid.uuid4()), **request}
    return Session(status, asked, "127.0.0.1:1", {"address": "127.0.0.1:1"}, job="jobs/1")


def test_a_job_that_was_running_is_away_when_it_is_read_again(tmp_path: Path) -> None:
    store = history.History(tmp_path)
    for status in (Status.RUNNING, Status.SUCCEEDED, Status.READY):
        store.save(session(status))
    found = history.History(tmp_path).load()
    assert sorted(job.status.value for job in found) == ["away", "ready", "succeeded"]
    assert all(job.moved_on for job in found)


def test_results_come_back_with_their_levels_of_detail_in_order(tmp_path: Path) -> None:
    store, job = history.History(tmp_path), session()
    store.save(job)
    folder = store.folder(job.request_id)
    triangles = np.array([[0, 1, 2]], "<u4")
    blocks = {
        "positions": np.eye(3, dtype="<f4").tobytes(),
        "triangles": triangles.tobytes(),
        "albedo": b"png",
    }
    arrays = {
        "positions": {"type": "float32", "components": 3, "count": 3},
        "triangles": {"type": "uint32", "components": 3, "count": 1},
    }
    for variation, lod, name in ((2, 0, "2"), (1, 1, "1-lod1"), (1, None, "1")):
        header = {"arrays": arrays, "roughness": 0.5, "metallic": 0.0, "variation": variation}
        # One of a version that knew no levels has none.
        header |= {} if lod is None else {"lod": lod}
        (folder / f"result-{name}.frame").write_bytes(frames.pack(header, blocks))
    found = [(result.variation, result.lod) for result in store.results(job.request_id)]
    assert found == [(1, 0), (1, 1), (2, 0)]


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    store, job = history.History(tmp_path), session()
    store.save(job)
    path = store.folder(job.request_id) / history.JOB_FILE
    path.unlink()
    job.fraction = 0.01
    store.save(job)
    assert not path.exists()
    job.status = Status.FAILED
    store.save(job)
    assert path.exists()
    assert [p.name for p in path.parent.iterdir()] == [history.JOB_FILE]


@pytest.mark.parametrize("name", ["../x", "", "x" * 36])
def test_no_request_id_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        history.History(tmp_path).folder(name)


def test_a_folder_of_another_name_is_no_job(tmp_path: Path) -> None:
    store, job = history.History(tmp_path), session()
    store.save(job)
    store.folder(job.request_id).rename(tmp_path / str(uuid.uuid4()))
    assert not store.load()


def test_every_word_of_a_search_must_be_found() -> None:
    job = session(method="vsd", seed=41)
    assert history.matches(job, "")
    assert history.matches(job, "Red vsd")
    assert history.matches(job, "41 running")
    assert not history.matches(job, "red table")


def job_values(seconds: float, **changed: Any) -> dict[str, Any]:
    values = {"method": "ssd", "preset": "draft", "prior": "bundled", "recipe": "", "steps": 0}
    return {**values, "variations": 1, "seconds": seconds, **changed}


def test_the_estimate_is_the_median_of_jobs_like_it() -> None:
    past = [job_values(60), job_values(80), job_values(400), job_values(9000, preset="high")]
    assert history.estimate(past, job_values(0)) == (80, 3)


def test_a_variation_counts_as_a_job() -> None:
    assert history.estimate([job_values(200, variations=2)], job_values(0, variations=3)) == (
        300,
        1,
    )


def test_another_method_is_better_than_nothing_and_another_preset_is_not() -> None:
    past = [job_values(60, method="vsd")]
    assert history.estimate(past, job_values(0)) == (60, 1)
    assert history.estimate(past, job_values(0, preset="high")) == (0, 0)
    assert history.estimate(past, job_values(0, steps=5)) == (0, 0)
    assert history.estimate([*past, job_values(30)], job_values(0)) == (30, 1)
