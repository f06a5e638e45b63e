# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from itertools import islice

from dreamsmith.evaluation.bench_surface import bench_surface


def test_the_bench_prints_what_each_stage_costs_and_the_priors_share_of_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "dreamsmith", "bench", "stages", "--steps", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["field", "surface", "texture"]
    assert all(0 < row["prior_share"] < 1 for row in rows)
    assert rows[0]["relative_cost"] == 1


def test_the_bench_of_the_surface_compares_and_says_what_is_missing() -> None:
    measured = list(islice(bench_surface(), 1))
    (row,) = measured
    assert (row.operation, row.peer) == ("rasterise", "embree rays")
    assert row.milliseconds > 0
    if importlib.util.find_spec("embreex") is None:
        assert row.ratio is None
    else:
        assert row.peer_milliseconds is not None
        assert row.ratio == row.peer_milliseconds / row.milliseconds


def test_the_bench_of_the_service_compares_with_what_does_the_same_without_one() -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "dreamsmith", "bench", "service"),
            *("--megabytes", "2", "--calls", "3", "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    peers = {row["peer_name"] for row in rows if row["ratio"]}
    assert peers == {"a bare gRPC stream", "a copy of the file, flushed", "two bare gRPC calls"}
    assert all(row["ours"] > 0 for row in rows)
    assert rows[-1]["unit"] == "events/s"
