# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import bpy
import pytest
from conftest import MODULE, ROOT


def test_blenders_own_validator_accepts_the_zip(archive: Path) -> None:
    scripts = Path(bpy.utils.system_resource("SCRIPTS"))
    tool = scripts / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    answer = subprocess.run(
        [sys.executable, tool, "validate", archive], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_two_builds_are_the_same_bytes(archive: Path, backend_python: Path, tmp_path: Path) -> None:
    command = [backend_python, ROOT / "build_addon.py", "--platform", "current"]
    subprocess.run([*command, "--output", tmp_path], check=True)
    again = next(tmp_path.glob("*.zip"))
    assert again.name == archive.name
    assert again.read_bytes() == archive.read_bytes()


def test_a_repository_is_a_folder_that_blender_installs_from(
    archive: Path, backend_python: Path, tmp_path: Path
) -> None:
    command = [backend_python, ROOT / "build_addon.py", "--platform", "current"]
    command += ["--blender-python", sys.executable]
    for name in ("one", "two"):
        subprocess.run([*command, "--repository", tmp_path / name], check=True)
    one, two = (tmp_path / name for name in ("one", "two"))
    assert sorted(path.name for path in one.iterdir()) == [archive.name, "index.json"]
    assert (one / "index.json").read_bytes() == (two / "index.json").read_bytes()
    listing = json.loads((one / "index.json").read_text(encoding="utf-8"))
    (item,) = listing["data"]
    zipped = one / item["archive_url"]
    assert zipped.read_bytes() == archive.read_bytes()
    digest = hashlib.sha256(zipped.read_bytes()).hexdigest()
    assert item["archive_hash"] == f"sha256:{digest}"
    listed = bpy.context.preferences.extensions.repos
    found = listed.new(name="Studio", module="studio", remote_url=f"{one.as_uri()}/index.json")
    try:
        bpy.context.preferences.system.use_online_access = True
        bpy.ops.extensions.repo_sync(repo_index=list(listed).index(found))
        answer = bpy.ops.extensions.package_install(
            repo_index=list(listed).index(found), pkg_id="dreamsmith", enable_on_install=False
        )
        assert answer == {"FINISHED"}
        where = Path(bpy.utils.user_resource("EXTENSIONS", path="studio")) / "dreamsmith"
        assert (where / "blender_manifest.toml").is_file()
        bpy.ops.extensions.package_uninstall(
            repo_index=list(listed).index(found), pkg_id="dreamsmith"
        )
    finally:
        bpy.context.preferences.system.use_online_access = False
        listed.remove(found)


def test_the_zip_holds_the_api_and_no_generated_code(archive: Path) -> None:
    names = zipfile.ZipFile(archive).namelist()
    assert "sidecar/service.fds" in names
    assert "LICENSE" in names
    assert not [name for name in names if "_pb2" in name or "__pycache__" in name]


def test_the_wheels_come_from_the_zip(addon: ModuleType) -> None:
    found = importlib.util.find_spec("grpc")
    assert found is not None
    assert found.origin is not None
    assert bpy.utils.resource_path("USER") in found.origin


def test_grpc_is_not_loaded_into_blender(addon: ModuleType) -> None:
    assert "grpc" not in sys.modules


def test_it_can_be_disabled_and_enabled_again(addon: ModuleType) -> None:
    for _ in range(2):
        bpy.ops.preferences.addon_disable(module=MODULE)
        assert not hasattr(bpy.types.Scene, "dreamsmith")
        bpy.ops.preferences.addon_enable(module=MODULE)
        assert bpy.context.scene.dreamsmith.method == "ssd"
    names = [handler.__module__ for handler in bpy.app.handlers.undo_post]
    assert names.count(f"{MODULE}.pump") == 1


def test_blender_finds_no_policy_violation(
    addon: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    import addon_utils

    addon_utils.extensions_refresh(ensure_wheels=True)
    bpy.ops.preferences.addon_disable(module=MODULE)
    bpy.ops.preferences.addon_enable(module=MODULE)
    output = capfd.readouterr()
    assert "violation" not in (output.out + output.err).lower()
