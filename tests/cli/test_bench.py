# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys


def test_the_bench_prints_what_each_stage_costs_and_the_priors_share_of_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "dreamsmith", "bench", "--steps", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["stage"] for row in rows] == ["field", "surface", "texture"]
    assert all(0 < row["prior_share"] < 1 for row in rows)
    assert rows[0]["relative_cost"] == 1
