# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
TAGS = {"linux-x64": "manylinux", "windows-x64": "win_amd64", "macos-arm64": "macosx"}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_addon", ROOT / "build_addon.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_addon = load()


@pytest.mark.parametrize("platform", build_addon.PLATFORMS)
def test_a_platform_gets_its_wheels_for_each_python_and_no_others(platform: str) -> None:
    names = [entry["file"] for entry in build_addon.locked_wheels(platform)]
    pythons = {"cp311", "cp313"}
    if platform == "linux-x64":
        # Of distributions, which build Blender with their own.
        pythons.add("cp314")
    assert {name.split("-")[2] for name in names if name.startswith("grpcio")} == pythons
    assert sorted(name.split("-")[0] for name in names) == [
        *["grpcio"] * len(pythons),
        "protobuf",
        "typing_extensions",
    ]
    assert all(TAGS[platform] in name or name.endswith("-none-any.whl") for name in names)


def test_the_manifest_names_platform_and_wheels_before_its_tables() -> None:
    manifest = (build_addon.SOURCE / "blender_manifest.toml").read_text(encoding="utf-8")
    wheel = Path("cache/grpcio-1-cp311-cp311-win_amd64.whl")
    found = tomllib.loads(build_addon.with_wheels(manifest, "windows-x64", [wheel]))
    assert found["platforms"] == ["windows-x64"]
    assert found["wheels"] == ["./wheels/grpcio-1-cp311-cp311-win_amd64.whl"]
    assert set(found["permissions"]) == {"network", "files"}


def test_a_wheel_that_is_another_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"something else")
    entry = {"file": "a-1-py3-none-any.whl", "sha256": "0" * 64}
    with pytest.raises(build_addon.BuildFailed, match="pins 0000"):
        build_addon.fetch(entry, tmp_path)
    assert not list(tmp_path.iterdir())
