# SPDX-License-Identifier: Apache-2.0
"""Rules that extensions are reviewed by, read off the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ADDON = Path(__file__).parents[2] / "blender_addon"
SOURCES = sorted(ADDON.rglob("*.py"))
IN_BLENDER = [path for path in SOURCES if path.parent.name != "sidecar"]
NO_BPY = (
    "arrays.py",
    "backend.py",
    "cameras.py",
    "history.py",
    "language.py",
    "link.py",
    "request.py",
    "rows.py",
    "session.py",
    "uv_mask.py",
)
WITHOUT_BPY = [ADDON / name for name in NO_BPY]


def imports(path: Path) -> set[str]:
    """Names of the top-level modules that a file imports from outside of the extension."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("path", IN_BLENDER, ids=lambda path: path.name)
def test_no_threads_and_no_grpc_inside_blender(path: Path) -> None:
    assert not imports(path) & {"threading", "_thread", "concurrent", "asyncio", "grpc", "google"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_eval_no_pickle_no_module_path_tricks(path: Path) -> None:
    assert not imports(path) & {"pickle", "marshal", "shelve", "pip"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("sys", "path"), ("sys", "modules")}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__"}


@pytest.mark.parametrize("path", WITHOUT_BPY, ids=lambda path: path.name)
def test_the_logic_needs_no_blender(path: Path) -> None:
    assert "bpy" not in imports(path)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_file_names_its_licence(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# SPDX-License-Identifier: GPL-3.0-or-later"
