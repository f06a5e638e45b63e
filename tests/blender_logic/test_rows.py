# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from addon import request, rows

LIBRARY = str(uuid.UUID(int=1))


def table(folder: Path, text: str, name: str = "jobs.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_says_what_the_panel_would_hold(tmp_path: Path) -> None:
    text = (
        "prompt,name,seed,height,elevation,texture_size,tags,catalog\n"
        '"a red mug, chipped",Mug,7,0.1,-5:40,1024,kitchen; red,Props/Kitchen\n'
    )
    (row,), bad = rows.read(table(tmp_path, text))
    assert not bad
    assert (row.number, row.name, row.catalog) == (2, "Mug", "Props/Kitchen")
    assert row.tags == ("kitchen", "red")
    assert row.request["prompt"] == "a red mug, chipped"
    assert row.request["elevation_degrees"] == [-5.0, 40.0]
    assert (row.request["seed"], row.request["texture_size"]) == (7, 1024)
    assert row.request["height_metres"] == 0.1
    assert row.request["method"] == "ssd"


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    line = {"prompt": "a red mug", "seed": 7, "azimuth": [-90, 90], "tags": ["red"]}
    path = table(tmp_path, json.dumps(line) + "\n\n", "jobs.jsonl")
    (row,), bad = rows.read(path)
    assert not bad
    assert row.request["azimuth_degrees"] == [-90.0, 90.0]
    assert row.tags == ("red",)
    text = "prompt,seed,azimuth,tags\na red mug,7,-90:90,red\n"
    assert rows.read(table(tmp_path, text))[0][0].key == row.key


def test_defaults_are_those_of_the_panel(tmp_path: Path) -> None:
    (row,), _ = rows.read(table(tmp_path, "prompt\na red mug\n"))
    assert row.request == request.build({"prompt": "a red mug", **rows.DEFAULTS})


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("method\nxyz", "method: 'xyz' is none of ssd"),
        ("seed\n1.5", "seed: '1.5' is no whole number"),
        ("seed\nmany", "seed: "),
        ("elevation\n60:-10", "elevation 60 to -10 is the wrong way round"),
        ("elevation\n1:2:3", "LOW:HIGH"),
        ("variations\n9", "variations: 1 to 8"),
        ("face_budget\n7", "at least 100"),
        ("normal_map\nperhaps", "neither yes nor no"),
        ("lods\n5", "lods: 0 to 4"),
        ("smoothing\n101", "smoothing: 0 to 100"),
        ("pbr\nperhaps", "neither yes nor no"),
        ("texture_size\n500", "texture_size"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(
    tmp_path: Path, fields: str, complaint: str
) -> None:
    column, value = fields.split("\n")
    text = f"prompt,{column}\na red mug,\na blue mug,{value}\na green mug,\n"
    found, bad = rows.read(table(tmp_path, text))
    assert [row.number for row in found] == [2, 4]
    assert list(bad) == [3]
    assert complaint in bad[3]


def test_an_empty_prompt_and_too_many_fields_are_bad_rows(tmp_path: Path) -> None:
    _, bad = rows.read(table(tmp_path, "prompt,seed\n,3\na mug,1,2\n"))
    assert "prompt is empty" in bad[2]
    assert "more fields" in bad[3]


def test_a_line_that_is_no_json_is_a_bad_row(tmp_path: Path) -> None:
    path = table(tmp_path, '{"prompt": "a mug"}\n{"prompt"\n[1]\n{"promt": "x"}\n', "a.jsonl")
    found, bad = rows.read(path)
    assert len(found) == 1
    assert list(bad) == [2, 3, 4]
    assert "'promt'" in bad[4]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("promt\na mug\n", "'promt'"),
        ("seed\n3\n", "prompt is missing"),
        ("prompt\n", "no rows"),
        ("", "prompt is missing"),
        ('prompt\n"a mug\n', "no CSV"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(rows.BadBatch, match=complaint) as caught:
        rows.read(table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(rows.BadBatch, match="cannot be read"):
        rows.read(tmp_path / "nothing.csv")


def test_every_row_has_a_file_and_a_job_of_its_own_that_stay_the_same(tmp_path: Path) -> None:
    text = "prompt,seed\na red mug,1\na red mug,2\na red mug,1\n"
    found, _ = rows.read(table(tmp_path, text))
    again, _ = rows.read(table(tmp_path, text + "a new one,5\n"))
    assert len({row.file_stem for row in found}) == 3
    assert [row.file_stem for row in again[:3]] == [row.file_stem for row in found]
    ids = [row.request_id(LIBRARY) for row in found]
    assert len(set(ids)) == 3
    assert ids == [row.request_id(LIBRARY) for row in again[:3]]
    assert ids[0] != found[0].request_id(str(uuid.UUID(int=2)))


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    text = 'prompt,name\na mug,"../../etc/passwd"\na mug,"///"\n'
    found, _ = rows.read(table(tmp_path, text))
    for row in found:
        assert "/" not in row.file_stem
        assert not row.file_stem.startswith(".")


def test_a_lora_lies_beside_its_table_wherever_that_is(tmp_path: Path) -> None:
    text = "prompt,lora,lora_scale\na red mug,loras/clay.safetensors,0.5\na red mug,,\n"
    keys = []
    for name in ("here", "there"):
        folder = tmp_path / name
        (folder / "loras").mkdir(parents=True)
        (folder / "loras" / "clay.safetensors").write_bytes(b"weights")
        (row, plain), bad = rows.read(table(folder, text))
        assert not bad
        assert row.request["lora_file"] == str(folder / "loras" / "clay.safetensors")
        assert row.request["lora_scale"] == 0.5
        assert "lora_file" not in plain.request
        keys.append((row.key, plain.key))
    # A library that was moved with its table is not made anew.
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
    (tmp_path / "there" / "loras" / "clay.safetensors").unlink()
    _, bad = rows.read(table(tmp_path / "there", text))
    assert "there is no LoRA file" in bad[2]


def test_a_lora_of_the_server_is_named_in_a_table(tmp_path: Path) -> None:
    (row,), _ = rows.read(table(tmp_path, "prompt,lora\na red mug,clay\n"))
    assert (row.request["lora"], row.request["lora_scale"]) == ("clay", 1.0)
