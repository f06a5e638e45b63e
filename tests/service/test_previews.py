# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from dreamsmith.errors import InvalidRequest
from dreamsmith.events import PreviewImage
from dreamsmith.service.previews import MAXIMUM_RATE, LatestPreviews, PreviewPace
from dreamsmith.v1 import generation_pb2 as api
from service.scripted_worker import Script, scripted_request
from service.server_process import ServerProcess


def picture(step: int) -> api.WatchJobResponse:
    return api.WatchJobResponse(preview_image=api.PreviewImage(step=step))


def mesh(step: int) -> api.WatchJobResponse:
    return api.WatchJobResponse(preview_mesh=api.PreviewMesh(step=step))


def test_each_watcher_gets_the_newest_at_its_own_rate() -> None:
    clock = [0.0]
    latest = LatestPreviews()
    quick, slow = PreviewPace(8.0, lambda: clock[0]), PreviewPace(1.0, lambda: clock[0])
    got: dict[str, list[int]] = {"quick": [], "slow": []}
    for step in range(40):
        latest.put(picture(step))
        for name, pace in (("quick", quick), ("slow", slow)):
            got[name] += [message.preview_image.step for message in pace.due(latest.newest())]
        clock[0] += 1 / 16
    assert got["quick"] == list(range(0, 40, 2))
    assert got["slow"] == [0, 16, 32]


def test_one_that_was_held_back_is_due_later_and_sent_once() -> None:
    clock = [0.0]
    latest, pace = LatestPreviews(), PreviewPace(2.0, lambda: clock[0])
    assert pace.wait() == math.inf
    latest.put(picture(1))
    assert len(pace.due(latest.newest())) == 1
    latest.put(picture(2))
    assert pace.due(latest.newest()) == []
    assert pace.wait() == 0.5
    clock[0] = 0.5
    assert [message.preview_image.step for message in pace.due(latest.newest())] == [2]
    assert pace.due(latest.newest()) == [] and pace.wait() == math.inf


def test_pictures_and_meshes_do_not_hold_each_other_back() -> None:
    latest, pace = LatestPreviews(), PreviewPace(1.0, lambda: 0.0)
    latest.put(picture(1))
    latest.put(mesh(1))
    kinds = [message.WhichOneof("event") for message in pace.due(latest.newest())]
    assert kinds == ["preview_image", "preview_mesh"]


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf, MAXIMUM_RATE + 1])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InvalidRequest, match="max_preview_rate must be 0 to 30"):
        PreviewPace(rate)


def test_a_slow_watcher_misses_previews_and_no_event(scripted: ServerProcess) -> None:
    steps = 60
    with scripted.client() as client:
        request = scripted_request(Script.PREVIEWS, steps=steps, step_milliseconds=20)
        job = client.create(request).name
        events = list(client.watch(job, preview_rate=0.5))
    previews = [event.body.step for event in events if isinstance(event.body, PreviewImage)]
    assert 1 <= len(previews) < steps / 2
    assert previews == sorted(set(previews))
    numbers = [event.sequence for event in events if event.sequence]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > steps
