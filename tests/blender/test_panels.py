# SPDX-License-Identifier: Apache-2.0
"""What the panels draw; Blender's headless module draws none, so a recording layout does."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import bpy
import meshes
import pytest
from conftest import MODULE


class Recorder:
    """Takes calls like a `bpy.types.UILayout`, checks what they name, and keeps them."""

    def __init__(self, log: list[tuple[str, str]] | None = None) -> None:
        self.log = [] if log is None else log
        self.enabled = True

    def _part(self, **_: Any) -> Recorder:
        return Recorder(self.log)

    row = column = box = _part

    def prop(self, data: Any, name: str, **options: Any) -> None:
        assert name in data.bl_rna.properties, name
        self._check("prop", options)
        self.log.append(("prop" if self.enabled else "disabled", name))

    def operator(self, name: str, **options: Any) -> None:
        group, _, function = name.partition(".")
        getattr(getattr(bpy.ops, group), function).get_rna_type()
        self._check("operator", options)
        self.log.append(("operator", name))

    def label(self, **options: Any) -> None:
        self._check("label", options)
        self.log.append(("label", options["text"]))

    def progress(self, **options: Any) -> None:
        self._check("progress", options)
        self.log.append(("progress", options["text"]))

    def _check(self, function: str, options: dict[str, Any]) -> None:
        known = bpy.types.UILayout.bl_rna.functions[function].parameters
        assert set(options) <= set(known.keys())
        if "icon" in options:
            assert options["icon"] in known["icon"].enum_items.keys()  # noqa: SIM118

    def texts(self, kind: str) -> list[str]:
        return [text for found, text in self.log if found == kind]


def draw(name: str) -> Recorder:
    panels = importlib.import_module(f"{MODULE}.panels")
    layout = Recorder()
    # Without a window Blender knows no scale and no region.
    preferences = SimpleNamespace(
        addons=bpy.context.preferences.addons, system=SimpleNamespace(ui_scale=1.0)
    )
    context = SimpleNamespace(
        scene=bpy.context.scene, preferences=preferences, region=SimpleNamespace(width=260)
    )
    getattr(panels, name).draw(SimpleNamespace(layout=layout), context)
    return layout


def test_the_panel_asks_for_everything(pump: ModuleType) -> None:
    main = draw("DREAMSMITH_PT_main")
    assert main.texts("prop") == [
        "prompt",
        "negative_prompt",
        "method",
        "preset",
        "seed",
        "variations",
        "height",
    ]
    assert main.texts("operator") == ["dreamsmith.generate"]
    cameras = draw("DREAMSMITH_PT_cameras")
    assert set(cameras.texts("prop")) == {"azimuth", "elevation", "distance", "fov"}
    assert draw("DREAMSMITH_PT_advanced").texts("prop") == ["server", "prior", "steps"]


def test_while_it_runs_the_panel_shows_progress_and_cancel(pump: ModuleType) -> None:
    pump.current = meshes.session()
    pump.current.stage, pump.current.fraction = "field", 0.4
    pump.current.remaining_seconds = 65.0
    main = draw("DREAMSMITH_PT_main")
    assert main.texts("progress") == ["Shaping 40%, about 1 min 5 s left"]
    assert main.texts("operator") == ["dreamsmith.cancel"]
    assert not main.texts("prop")


def test_an_error_is_shown_in_full(pump: ModuleType) -> None:
    error = "No Dreamsmith server answers at 127.0.0.1:50051: start one with `dreamsmith serve`"
    pump.current = meshes.session()
    pump.current.fail(error)
    assert " ".join(draw("DREAMSMITH_PT_main").texts("label")) == error


def test_a_result_for_another_file_is_offered(pump: ModuleType) -> None:
    session = importlib.import_module(f"{MODULE}.session")
    pump.current = meshes.session()
    pump.current.status = session.Status.READY
    assert "dreamsmith.add_result" in draw("DREAMSMITH_PT_main").texts("operator")


@pytest.mark.parametrize("name", ["IDLE", "STARTING", "QUEUED", "CANCELLING", "CANCELLED"])
def test_the_panel_draws_in_every_state(pump: ModuleType, name: str) -> None:
    session = importlib.import_module(f"{MODULE}.session")
    pump.current = session.Session(session.Status[name])
    assert len(draw("DREAMSMITH_PT_main").texts("operator")) == 1
