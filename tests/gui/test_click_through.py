# SPDX-License-Identifier: Apache-2.0
"""An artist's first minute in a real Blender window: type, Generate, watch, undo, Cancel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import window
from PIL import Image

sys.path.insert(0, str(window.ROOT / "tools"))

import run_demo

KEPT = window.ROOT / ".build" / "gui"

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def blender() -> Iterator[window.Window]:
    """Blender with a window and the extension."""
    try:
        chroot = window.chroot()
    except window.NoWindow as error:
        pytest.skip(str(error))
    with window.opened(chroot) as opened:
        yield opened


def test_an_artist_makes_an_object_undoes_it_and_cancels_another(
    blender: window.Window, tmp_path: Path
) -> None:
    with run_demo.Server(Path(sys.executable), tmp_path / "data") as server:
        answer = blender.run("click_through.py", DREAMSMITH_SERVER=server.address)
    pictures = blender.pictures(KEPT)
    assert answer.returncode == 0, answer.stdout
    assert "CLICK-THROUGH PASSED" in answer.stdout
    assert len(pictures) >= 7
    for path in pictures:
        # Dead graphics give a black window, in which every click may still seem to work.
        assert np.asarray(Image.open(path)).mean() > 20, f"{path.name} is black"


def test_the_ends_of_the_camera_ranges_are_dragged_in_the_view(blender: window.Window) -> None:
    answer = blender.run("drag_handles.py")
    blender.pictures(KEPT)
    assert answer.returncode == 0, answer.stdout
    assert "CLICK-THROUGH PASSED" in answer.stdout


def test_blender_shows_the_texts_in_german_and_french(blender: window.Window) -> None:
    answer = blender.run("languages.py")
    blender.pictures(KEPT)
    assert answer.returncode == 0, answer.stdout
    assert "de: 0 of" in answer.stdout
    assert "fr: 0 of" in answer.stdout
