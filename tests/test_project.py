# SPDX-License-Identifier: Apache-2.0
"""What holds for every file of the project."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("backend", "blender_addon", "protos", "tests", "tools")
CODE_SUFFIXES = {".py", ".proto", ".sh"}
TEXT_SUFFIXES = {*CODE_SUFFIXES, ".md", ".toml", ".txt", ".json", ".yaml", ""}
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")


def project_files() -> list[Path]:
    """Tracked files, and those that would be once added; all of them where git is not at hand."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        paths = [ROOT / line for line in answer.stdout.splitlines()]
    else:
        paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return [path for path in paths if path.is_file() and not GENERATED.search(path.name)]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sources() -> list[Path]:
    paths = [path for path in project_files() if path.suffix in CODE_SUFFIXES]
    assert len(paths) > 30
    return paths


def test_every_source_file_names_its_licence_in_its_first_lines() -> None:
    missing = []
    for path in sources():
        name = relative(path)
        in_blender = name.startswith(("blender_addon/", "build_addon.py", "tools/demo.py"))
        licence = "GPL-3.0-or-later" if in_blender else "Apache-2.0"
        head = path.read_text(encoding="utf-8").splitlines()[:2]
        if not any(line.endswith(f"SPDX-License-Identifier: {licence}") for line in head):
            missing.append(name)
    assert not missing


FORBIDDEN_MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "jsonpickle", "pickletools"),
    *("joblib", "marshal", "shelve"),
}
FORBIDDEN = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package"),
    *("np.load", "numpy.load", "np.save", "numpy.save", "pandas.read_pickle", "pd.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec"),
    *("allow_pickle", "trust_remote_code"),
}


def forbidden_uses(tree: ast.AST) -> list[str]:
    """Ways to run what a file says: pickle, torch.load, eval, exec, unsafe YAML, NumPy objects."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func)]
            names += [word.arg or "" for word in node.keywords]
        else:
            continue
        found += [name for name in names if name in FORBIDDEN]
        # Not the modules alone: `import pickle.x`, `from joblib.x import y`.
        found += [name for name in names if name.partition(".")[0] in FORBIDDEN_MODULES]
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import _pickle",
        "from joblib.numpy_pickle import load",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "yaml.load(text)",
        "from torch import load",
        "torch.load(path)",
        "eval(text)",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_forbidden_uses_are_found(code: str) -> None:
    assert forbidden_uses(ast.parse(code))


def test_nothing_is_unpickled_or_evaluated() -> None:
    found = {}
    for path in sources():
        if path.suffix == ".py":
            uses = forbidden_uses(ast.parse(path.read_text(encoding="utf-8")))
            if uses:
                found[relative(path)] = uses
    assert not found


def processes_that_pickle(tree: ast.AST) -> list[str]:
    """Pools, queues and pipes of objects, which pickle them on their way."""
    names = [
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)
    ]
    pickling = (
        r"(ProcessPoolExecutor|multiprocessing\.(?!connection|get_context).*|.*\.(send|recv)_pyobj)"
    )
    return [name for name in names if re.fullmatch(pickling, name)]


def test_only_our_own_processes_of_an_evaluation_talk_in_objects() -> None:
    found = {}
    for path in sources():
        if path.suffix == ".py" and relative(path).startswith(("backend/", "blender_addon/")):
            uses = processes_that_pickle(ast.parse(path.read_text(encoding="utf-8")))
            if uses:
                found[relative(path)] = uses
    # A pool between a command and its own children: nothing in it comes from outside.
    assert set(found) <= {"backend/dreamsmith/evaluation/matrix.py"}


def test_the_pipe_to_the_sidecar_carries_bytes_alone() -> None:
    """`Connection.send` pickles; `send_bytes` does not."""
    for name in ("link.py", "sidecar/__main__.py"):
        tree = ast.parse((ROOT / "blender_addon" / name).read_text(encoding="utf-8"))
        calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        on_pipes = [call for call in calls if re.search(r"(pipe|connection)\.(send|recv)", call)]
        assert on_pipes
        assert all(call.endswith("_bytes") for call in on_pipes)


def test_no_file_of_the_project_is_a_pickle() -> None:
    suffixes = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".joblib"}
    assert [relative(path) for path in project_files() if path.suffix in suffixes] == []
    begins = [path for path in project_files() if path.read_bytes()[:1] == b"\x80"]
    assert [relative(path) for path in begins] == []


# Folders that are somewhere else on any other machine.
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:home|Users|root|work)/\w")


def test_machine_paths_are_recognised() -> None:
    assert MACHINE_PATH.search("open('/home/someone/weights')")
    assert not MACHINE_PATH.search("see work/main and /usr/bin/python3")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in project_files():
        if path.suffix not in TEXT_SUFFIXES or path == Path(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if MACHINE_PATH.search(text):
            found.append(relative(path))
    assert not found


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for path in project_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{relative(path)}: {target}")
    assert not broken


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].replace("_", "-") for line in pins if "==" in line}
    names = {re.split(r"[<>=~! \[;]", entry)[0].replace("_", "-") for entry in wanted}
    assert names <= pinned


def test_versions_of_package_extension_and_changelog_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    manifest = (ROOT / "blender_addon" / "blender_manifest.toml").read_text(encoding="utf-8")
    assert tomllib.loads(manifest)["version"] == version
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    package = (ROOT / "backend" / "dreamsmith" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{version}"' in package
