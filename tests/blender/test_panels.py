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

    row = column = box = split = grid_flow = _part

    def template_list(self, kind: str, name: str, data: Any, prop: str, *_: Any, **__: Any) -> None:
        assert getattr(bpy.types, kind)
        self.log.append(("list", prop))

    def template_icon(self, icon: int, **_: Any) -> None:
        self.log.append(("picture", str(icon)))

    def prop(self, data: Any, name: str, **options: Any) -> None:
        assert name in data.bl_rna.properties, name
        self._check("prop", options)
        self.log.append(("prop" if self.enabled else "disabled", name))

    def prop_search(self, data: Any, name: str, owner: Any, choices: str, **options: Any) -> None:
        assert choices in owner.bl_rna.properties, choices
        self.prop(data, name, **options)

    def operator(self, name: str, **options: Any) -> SimpleNamespace:
        group, _, function = name.partition(".")
        getattr(getattr(bpy.ops, group), function).get_rna_type()
        self._check("operator", options)
        self.log.append(("operator" if self.enabled else "disabled", name))
        return SimpleNamespace()

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
        scene=bpy.context.scene,
        active_object=bpy.context.active_object,
        preferences=preferences,
        region=SimpleNamespace(width=260),
        window_manager=bpy.context.window_manager,
    )
    drawn = SimpleNamespace(layout=layout)
    kind = getattr(panels, name)
    for method in ("_draw_generate",):
        if hasattr(kind, method):
            setattr(drawn, method, getattr(kind, method).__get__(drawn))
    kind.draw(drawn, context)
    return layout


@pytest.fixture
def server(pump: ModuleType) -> Any:
    """What the chosen server has said of itself, when it was asked."""
    servers = importlib.import_module(f"{MODULE}.servers")
    facts = {
        "address": "127.0.0.1:50051",
        "latency_seconds": 0.002,
        "version": "0.1.0",
        "methods": ["ssd", "sds"],
        "presets": ["draft"],
        "recipes": ["ssd"],
        "loras": [],
        "priors": [{"name": "bundled", "words": ["a", "red", "mug"]}],
        "devices": [{"kind": "cpu", "name": "CPU", "memory_bytes": 0}],
        "limits": {
            "max_prompt_length": 2000,
            "max_steps": 100,
            "max_active_jobs": 4,
            "max_loras": 8,
        },
        "finished": [],
        "is_encrypted": False,
    }
    found = servers.of("127.0.0.1:50051")
    found.facts = facts
    return found


def add(pump: ModuleType, job: Any) -> Any:
    """Put a job into the list and select it."""
    joblist = importlib.import_module(f"{MODULE}.joblist")
    pump.jobs[job.request_id] = job
    joblist.select(job.request_id)
    return job


def test_the_panel_asks_for_everything(pump: ModuleType) -> None:
    main = draw("DREAMSMITH_PT_main")
    assert main.texts("prop") == [
        "prompt",
        "negative_prompt",
        "preset",
        "method",
        "recipe",
        "prior",
        "lora",
        "height",
        "variations",
        "seed",
        "lock_seed",
    ]
    assert main.texts("operator") == [
        "dreamsmith.choose_lora",
        "dreamsmith.roll_seed",
        "dreamsmith.generate",
        "dreamsmith.texture_selected",
        "dreamsmith.refine_selected",
    ]
    cameras = draw("DREAMSMITH_PT_cameras")
    assert {"azimuth", "elevation", "distance", "fov"} <= set(cameras.texts("prop"))
    advanced = draw("DREAMSMITH_PT_advanced")
    assert advanced.texts("prop") == [
        "texture_size",
        "face_budget",
        "smoothing",
        "normal_map",
        "pbr",
        "lods",
        "steps",
    ]


def test_what_stays_of_a_texture_is_asked_where_there_is_a_mesh(pump: ModuleType) -> None:
    assert "keep_texture" not in draw("DREAMSMITH_PT_main").texts("prop")
    bpy.ops.mesh.primitive_cube_add()
    assert draw("DREAMSMITH_PT_main").texts("prop")[-2:] == ["keep_texture", "mask"]


def test_a_running_job_shows_progress_and_cancel(pump: ModuleType) -> None:
    job = add(pump, meshes.session())
    job.stage, job.fraction, job.remaining_seconds = "field", 0.4, 65.0
    drawn = draw("DREAMSMITH_PT_jobs")
    assert drawn.texts("progress") == ["Shaping 40%, about 1 min 5 s left"]
    found = drawn.texts("operator")
    assert {"dreamsmith.cancel", "dreamsmith.pause", "dreamsmith.duplicate"} <= set(found)
    assert not {"dreamsmith.delete", "dreamsmith.import_result"} & set(found)
    # The next one can be begun meanwhile.
    assert "dreamsmith.generate" in draw("DREAMSMITH_PT_main").texts("operator")


def test_an_error_is_shown_in_full(pump: ModuleType) -> None:
    error = "No Dreamsmith server answers at 127.0.0.1:50051: start one with `dreamsmith serve`"
    add(pump, meshes.session()).fail(error)
    drawn = draw("DREAMSMITH_PT_jobs")
    assert " ".join(drawn.texts("label")) == f"Failed {error}"
    assert "dreamsmith.retry" in drawn.texts("operator")


@pytest.mark.parametrize(
    ("status", "operator"),
    [("READY", "import_result"), ("PAUSED", "resume"), ("AWAY", "reconnect"), ("FAILED", "retry")],
)
def test_a_job_offers_what_can_be_done_with_it(
    pump: ModuleType, status: str, operator: str
) -> None:
    session = importlib.import_module(f"{MODULE}.session")
    add(pump, meshes.session()).status = session.Status[status]
    found = draw("DREAMSMITH_PT_jobs").texts("operator")
    assert {f"dreamsmith.{operator}", "dreamsmith.delete"} <= set(found)


def test_the_panels_draw_in_every_state(pump: ModuleType) -> None:
    session = importlib.import_module(f"{MODULE}.session")
    for status in session.Status:
        add(pump, meshes.session()).status = status
        assert draw("DREAMSMITH_PT_jobs").texts("list") == ["dreamsmith_jobs"]


def test_what_the_server_cannot_do_is_greyed_out_with_the_reason(
    pump: ModuleType, server: Any
) -> None:
    settings = bpy.context.scene.dreamsmith
    assert "dreamsmith.generate" in draw("DREAMSMITH_PT_main").texts("operator")
    settings.method = "vsd"
    drawn = draw("DREAMSMITH_PT_main")
    assert "dreamsmith.generate" in drawn.texts("disabled")
    assert "This server has no method vsd: it offers ssd, sds" in " ".join(drawn.texts("label"))


def test_a_word_that_the_prior_does_not_know_is_said_before_it_costs_time(
    pump: ModuleType, server: Any
) -> None:
    bpy.context.scene.dreamsmith.prompt = "a red dragon"
    drawn = draw("DREAMSMITH_PT_main")
    assert "does not know: dragon" in " ".join(drawn.texts("label"))
    assert "dreamsmith.generate" in drawn.texts("operator")


def test_the_time_is_told_from_jobs_like_it(pump: ModuleType, server: Any) -> None:
    assert "Time not known yet" in draw("DREAMSMITH_PT_main").texts("label")
    like_it = {"method": "ssd", "preset": "draft", "prior": "bundled", "recipe": "", "steps": 0}
    server.facts["finished"] = [
        {**like_it, "variations": 1, "seconds": 60.0},
        {**like_it, "variations": 2, "seconds": 160.0},
    ]
    bpy.context.scene.dreamsmith.variations = 2
    assert "About 2 min 20 s, by 2 like it" in draw("DREAMSMITH_PT_main").texts("label")


def test_a_server_that_does_not_answer_offers_to_start_one(pump: ModuleType) -> None:
    servers = importlib.import_module(f"{MODULE}.servers")
    servers.of("127.0.0.1:50051").error = "No Dreamsmith server answers"
    drawn = draw("DREAMSMITH_PT_main")
    assert "No Dreamsmith server answers" in " ".join(drawn.texts("label"))
    # It may answer by now: a click tries it.
    assert "dreamsmith.generate" in drawn.texts("operator")
    assert "dreamsmith.start_backend" in drawn.texts("operator")


def test_the_server_panel_says_what_it_is(pump: ModuleType, server: Any) -> None:
    text = " ".join(draw("DREAMSMITH_PT_server").texts("label"))
    assert "Dreamsmith 0.1.0, answers in 2 ms" in text
    assert "Priors: bundled" in text


def test_the_list_is_searched_and_shows_the_newest_first(pump: ModuleType) -> None:
    joblist = importlib.import_module(f"{MODULE}.joblist")
    for number, prompt in enumerate(("a red mug", "a blue table", "a red table")):
        job = meshes.session()
        job.request |= {
            "prompt": prompt,
            "request_id": f"00000000-0000-4000-8000-00000000000{number}",
        }
        add(pump, job)
    shown = SimpleNamespace(filter_name="red tab", use_filter_invert=False, bitflag_filter_item=1)
    manager = bpy.context.window_manager
    flags, order = joblist.DREAMSMITH_UL_jobs.filter_items(
        shown, bpy.context, manager, "dreamsmith_jobs"
    )
    there = [pump.jobs[item.name].request["prompt"] for item in manager.dreamsmith_jobs]
    assert [text for text, flag in zip(there, flags, strict=True) if flag] == ["a red table"]
    assert there[order.index(0)] == "a red table"


def test_every_line_of_the_list_draws(pump: ModuleType) -> None:
    joblist = importlib.import_module(f"{MODULE}.joblist")
    session = importlib.import_module(f"{MODULE}.session")
    for status in session.Status:
        job = add(pump, meshes.session())
        job.status = status
        layout = Recorder()
        (item,) = bpy.context.window_manager.dreamsmith_jobs
        joblist.DREAMSMITH_UL_jobs.draw_item(
            SimpleNamespace(), bpy.context, layout, None, item, 0, None, ""
        )
        assert "a red mug" in layout.texts("label")


def test_a_job_fills_the_panel_again(pump: ModuleType) -> None:
    job = add(pump, meshes.session())
    job.request |= {"prompt": "a green vase", "seed": 41, "recipe": "ssd", "texture_size": 1024}
    settings = bpy.context.scene.dreamsmith
    bpy.ops.dreamsmith.duplicate(job=job.request_id)
    assert (settings.prompt, settings.seed, settings.recipe) == ("a green vase", 41, "ssd")
    assert settings.texture_size == "1024"
    assert tuple(settings.elevation) == (-10.0, 60.0)
    assert settings.lock_seed


def test_a_preview_is_there_large_and_as_an_icon(pump: ModuleType) -> None:
    picture = importlib.import_module(f"{MODULE}.picture")
    job = add(pump, meshes.session())
    picture.show(job.request_id, meshes.png(200, 20, 20, 128))
    entry = picture._pictures[job.request_id]
    assert (tuple(entry.image_size), tuple(entry.icon_size)) == ((128, 128), (32, 32))
    assert entry.icon_pixels_float[0] == pytest.approx(200 / 255, abs=0.01)
    picture.forget(job.request_id)
    assert job.request_id not in picture._pictures


def test_a_fingerprint_takes_the_place_of_an_authority(pump: ModuleType) -> None:
    module = importlib.import_module(f"{MODULE}.preferences")
    found = bpy.context.preferences.addons[MODULE].preferences
    bpy.ops.dreamsmith.add_server()
    item = found.servers[-1]
    item.tls = False

    def drawn() -> Recorder:
        layout = Recorder()
        panel = SimpleNamespace(layout=layout, servers=[item], bl_rna=found.bl_rna)
        module.DreamsmithPreferences.draw(panel, bpy.context)
        return layout

    assert "fingerprint" not in drawn().texts("prop")
    item.tls = True
    assert {"fingerprint", "ca_file", "token_file"} <= set(drawn().texts("prop"))
    item.fingerprint = "sha256:00"
    assert drawn().texts("disabled") == ["ca_file"]
    assert "fingerprint" in drawn().texts("prop")


def test_a_lora_has_a_scale_and_is_greyed_out_where_the_server_takes_none(server: Any) -> None:
    assert "lora_scale" not in draw("DREAMSMITH_PT_main").texts("prop")
    bpy.context.scene.dreamsmith.lora = "/clay.safetensors"
    assert "lora_scale" in draw("DREAMSMITH_PT_main").texts("prop")
    server.facts["limits"]["max_loras"] = 0
    problem = "This server takes no LoRA: it must be updated"
    drawn = draw("DREAMSMITH_PT_main")
    # What is there can be taken out again.
    assert "lora" in drawn.texts("prop")
    assert "dreamsmith.generate" in drawn.texts("disabled")
    assert " ".join(drawn.texts("label")).startswith(problem)
    bpy.context.scene.dreamsmith.lora = ""
    drawn = draw("DREAMSMITH_PT_main")
    assert {"lora", "dreamsmith.choose_lora"} <= set(drawn.texts("disabled"))
    assert " ".join(drawn.texts("label")).startswith(problem)
    assert "dreamsmith.generate" in drawn.texts("operator")


def test_a_lora_is_one_that_the_server_offers_or_a_file(server: Any) -> None:
    servers = importlib.import_module(f"{MODULE}.servers")
    settings = bpy.context.scene.dreamsmith
    server.facts["loras"] = ["clay", "felt", "old-clay"]
    assert list(servers.suggest_loras(None, None, "CLAY")) == ["clay", "old-clay"]
    for lora, may in (("clay", True), ("wool", False), ("/wool.safetensors", True), ("", True)):
        settings.lora = lora
        kind = "operator" if may else "disabled"
        assert "dreamsmith.generate" in draw("DREAMSMITH_PT_main").texts(kind), lora
    settings.lora = "wool"
    wanted = {"method": "ssd", "preset": "draft", "recipe": "ssd", "prompt": "a mug"}
    wanted["lora"] = "wool"
    assert servers.obstacle(server, wanted) == (
        "This server has no LoRA wool: it offers clay, felt, old-clay"
    )
    server.facts["loras"] = []
    assert "offers no LoRA" in servers.obstacle(server, wanted)
