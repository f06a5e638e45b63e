# SPDX-License-Identifier: Apache-2.0
"""Makes the API's Python modules from its proto files: at every build and editable install.

Run by hand, it does the same for a checkout: ``python hatch_build.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # By hand, hatchling need not be there.
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
PROTOS = ROOT / "protos"
PACKAGE = ROOT / "backend"


def generate(protos: Path, package: Path) -> list[Path]:
    """Write ``*_pb2.py``, ``*_pb2.pyi`` and ``*_pb2_grpc.py`` below ``package``; returns them.

    Raises:
        RuntimeError: a proto file is wrong; its place is on stderr.
    """
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted(protos.rglob("*.proto"))
    names = [source.relative_to(protos).as_posix() for source in sources]
    arguments = [
        "protoc",
        f"--proto_path={protos}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={package}",
        f"--pyi_out={package}",
        f"--grpc_python_out={package}",
        *names,
    ]
    if protoc.main(arguments):
        raise RuntimeError("protoc could not make the API's modules from protos/")
    stems = [package / Path(name).with_suffix("") for name in names]
    suffixes = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
    return [stem.with_name(stem.name + suffix) for stem in stems for suffix in suffixes]


class ProtoBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Called by hatchling."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the modules; they are ignored by git and so must be named to the wheel."""
        if self.target_name != "wheel":
            return
        made = generate(PROTOS, PACKAGE)
        build_data["artifacts"] += [f"/{path.relative_to(ROOT).as_posix()}" for path in made]


if __name__ == "__main__":
    print("\n".join(str(path) for path in generate(PROTOS, PACKAGE)), file=sys.stdout)
