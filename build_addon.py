#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the Blender extension: one installable zip per platform, the same bytes every time.

A zip holds the sources of ``blender_addon/``, the API as a descriptor set, and the wheels that
``addon_wheels.toml`` pins, for every Python that a supported Blender brings. Needs grpcio-tools and
pip in the Python that runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "blender_addon"
PROTOS = ROOT / "protos"
LOCK = ROOT / "addon_wheels.toml"
LICENSE = ROOT / "LICENSES" / "GPL-3.0-or-later.txt"
PLATFORMS = ("linux-x64", "windows-x64", "macos-arm64")
# Zip files know no earlier time; a real one would make every build another file.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SOURCE_SUFFIXES = {".py", ".toml"}


class BuildFailed(Exception):
    """The zip could not be built; the message says why in one line."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder for the zips")
    parser.add_argument(
        "--platform",
        action="append",
        choices=[*PLATFORMS, "current"],
        help="only this one; may be given more than once; default: all",
    )
    parser.add_argument(
        "--blender-python",
        type=Path,
        help="a Python that has the bpy wheel: its validator checks the zips",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        help="folder that becomes a static extension repository: the zips and their listing; wants "
        "--blender-python, and takes the place of --output",
    )
    parser.add_argument(
        "--cache", type=Path, default=ROOT / ".build" / "wheels", help="folder that keeps wheels"
    )
    arguments = parser.parse_args()
    if arguments.repository and not arguments.blender_python:
        parser.error("--repository wants --blender-python: Blender's own tool writes the listing")
    output = arguments.repository or arguments.output
    try:
        chosen = [
            current_platform() if name == "current" else name
            for name in arguments.platform or PLATFORMS
        ]
        for name in dict.fromkeys(chosen):
            path = build(name, output, arguments.cache)
            if arguments.blender_python:
                validate(path, arguments.blender_python)
            checked = "validated" if arguments.blender_python else "not validated"
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB, {checked})")
        if arguments.repository:
            list_repository(output, arguments.blender_python)
            print(f"{output / 'index.json'}: serve this folder, and add its address in Blender")
    except BuildFailed as error:
        print(f"build_addon: {error}", file=sys.stderr)
        return 1
    return 0


def build(platform_name: str, output: Path, cache: Path) -> Path:
    """Build the zip of one platform and return its path.

    Raises:
        BuildFailed: a wheel cannot be had or is another than the pinned one, or the API is broken.
    """
    wheels = [fetch(entry, cache) for entry in locked_wheels(platform_name)]
    manifest = (SOURCE / "blender_manifest.toml").read_text(encoding="utf-8")
    about = tomllib.loads(manifest)
    members = {
        path.relative_to(SOURCE).as_posix(): path.read_bytes()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix in _SOURCE_SUFFIXES and "__pycache__" not in path.parts
    }
    members["blender_manifest.toml"] = with_wheels(manifest, platform_name, wheels).encode()
    members["sidecar/service.fds"] = descriptor_set()
    members["LICENSE"] = LICENSE.read_bytes()
    members |= {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in wheels}

    output.mkdir(parents=True, exist_ok=True)
    name = f"{about['id']}-{about['version']}-{platform_name.replace('-', '_')}.zip"
    path = output / name
    part = path.with_suffix(".part")
    # Stored, not compressed: the wheels already are, and zlib's output depends on its version.
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(members):
            entry = zipfile.ZipInfo(member, _EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[member])
    part.replace(path)
    return path


def current_platform() -> str:
    """The name of the platform this runs on.

    Raises:
        BuildFailed: the extension is not built for it.
    """
    systems = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}
    machines = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}
    system, machine = platform.system(), platform.machine().lower()
    name = f"{systems.get(system, system)}-{machines.get(machine, machine)}"
    if name not in PLATFORMS:
        raise BuildFailed(f"no extension is built for {name}: known are {', '.join(PLATFORMS)}")
    return name


def with_wheels(manifest: str, platform_name: str, wheels: list[Path]) -> str:
    """The manifest with platform and wheels, put before its first table."""
    lines = [f'platforms = ["{platform_name}"]', "wheels = ["]
    lines += [f'  "./wheels/{wheel.name}",' for wheel in wheels]
    lines += ["]", ""]
    head, table, tail = manifest.partition("\n[")
    return head + "\n" + "\n".join(lines) + table + tail


def locked_wheels(platform_name: str) -> list[dict[str, str]]:
    """The pinned wheels that a platform needs: ``file`` and ``sha256`` of each."""
    with LOCK.open("rb") as file:
        entries = tomllib.load(file)["wheel"]
    return [entry for entry in entries if entry.get("platform", platform_name) == platform_name]


def fetch(entry: dict[str, str], cache: Path) -> Path:
    """The wheel of a lock entry, from the cache or else by pip, checked against its hash.

    Raises:
        BuildFailed: pip cannot get it, or it is another file than the pinned one.
    """
    path = cache / entry["file"]
    if not path.exists():
        download(entry["file"], cache)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entry["sha256"]:
        path.unlink()
        raise BuildFailed(
            f"{path.name} has the SHA-256 {found}, but {LOCK.name} pins {entry['sha256']}"
        )
    return path


def download(filename: str, cache: Path) -> None:
    """Get one wheel by its name and version, with pip as it is set up here."""
    name, version, python, abi, tags = filename.removesuffix(".whl").split("-")
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:"]
    if tags != "any":
        # A wheel of the stable interface names the oldest Python that it is for.
        command += ["--implementation", "cp", "--python-version", python.removeprefix("cp")]
        command += ["--abi", abi]
        for tag in tags.split("."):
            command += ["--platform", tag]
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        answer = subprocess.run(
            [*command, "--dest", folder, f"{name}=={version}"],
            capture_output=True,
            text=True,
            check=False,
        )
        wheel = Path(folder) / filename
        if not wheel.exists():
            lines = answer.stderr.strip().splitlines() or ["pip found another file"]
            raise BuildFailed(f"pip cannot get {filename}: {lines[-1]}")
        wheel.replace(cache / filename)


def descriptor_set() -> bytes:
    """The API and all it imports as a serialised FileDescriptorSet.

    Raises:
        BuildFailed: grpcio-tools is missing, or a proto file is wrong.
    """
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "service.fds"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
        command += ["--include_imports", f"--descriptor_set_out={path}", *sources]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise BuildFailed(f"protoc: {answer.stderr.strip()}")
        return path.read_bytes()


def validate(path: Path, blender_python: Path) -> None:
    """Check a zip with Blender's own validator.

    Raises:
        BuildFailed: it finds a fault, or that Python has no bpy.
    """
    extension_tool(blender_python, "validate", str(path))


def list_repository(folder: Path, blender_python: Path) -> None:
    """Write the listing of a folder of zips, with which Blender installs and updates from it.

    Raises:
        BuildFailed: Blender's tool cannot, or that Python has no bpy.
    """
    extension_tool(blender_python, "server-generate", "--repo-dir", str(folder))


def extension_tool(blender_python: Path, *arguments: str) -> None:
    """Run Blender's own tool for extensions, which needs no Blender but the wheel's files.

    Raises:
        BuildFailed: it fails, or that Python has no bpy.
    """
    find = (
        "import importlib.util, pathlib\n"
        "folder = pathlib.Path(importlib.util.find_spec('bpy').origin).parent\n"
        "print(next(folder.glob('*/scripts/addons_core/bl_pkg/cli/blender_ext.py')))"
    )
    found = subprocess.run(
        [blender_python, "-c", find], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise BuildFailed(f"{blender_python} has no bpy wheel: pip install bpy into it")
    answer = subprocess.run(
        [blender_python, found.stdout.strip(), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise BuildFailed(f"Blender's {arguments[0]}: {(answer.stdout + answer.stderr).strip()}")


if __name__ == "__main__":
    sys.exit(main())
