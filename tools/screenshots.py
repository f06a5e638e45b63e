#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes the pictures of docs/tour.md in a real Blender window, with a server of its own.

All but the prompts is what happens: the jobs run on the bundled prior, twenty minutes in all on a
CPU core. Look at each picture before you keep it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "gui"))

import run_demo  # noqa: E402
import window  # noqa: E402

PARTS = ("connect", "ranges", "make", "assets", "suzanne")
# What `make` has made, for `assets`.
KEPT = ROOT / ".build" / "tour"
FILE = "tour.blend"
SIZE = (1200, 900)
LIMIT_SECONDS = 4 * 3600


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="only this one; default: all of them"
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="of each job, to try the script; 0: the preset's"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures" / "tour")
    arguments = parser.parse_args()
    try:
        chroot = window.chroot()
    except window.NoWindow as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1
    KEPT.mkdir(parents=True, exist_ok=True)
    with window.opened(chroot) as blender, tempfile.TemporaryDirectory() as folder:
        output = blender.shared / "output"
        if (KEPT / FILE).is_file():
            shutil.copy(KEPT / FILE, output)
        with run_demo.Server(Path(sys.executable), Path(folder) / "data") as server:
            for part in arguments.part or PARTS:
                answer = blender.run(
                    "tour.py",
                    SIZE,
                    DREAMSMITH_SERVER=server.address,
                    DREAMSMITH_TOUR_PART=part,
                    DREAMSMITH_TOUR_STEPS=str(arguments.steps),
                    DREAMSMITH_GUI_SECONDS=str(LIMIT_SECONDS),
                )
                if (output / FILE).is_file():
                    shutil.copy(output / FILE, KEPT)
                if answer.returncode:
                    blender.pictures(KEPT)
                    print(f"screenshots: {part} failed:\n{answer.stdout}", file=sys.stderr)
                    return 1
        for path in blender.pictures(Path(folder) / "pictures"):
            keep(path, arguments.output / path.name)
    return 0


def keep(picture: Path, target: Path) -> None:
    """Write a picture with a palette, and without the finest differences, which are but noise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(picture) as image:
        coarse = image.convert("RGB").point([min(255, 4 * round(n / 4)) for n in range(256)] * 3)
    reduced = coarse.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    reduced.save(target, optimize=True)
    print(f"{target}  ({target.stat().st_size / 1e3:.0f} kB)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
