# SPDX-License-Identifier: Apache-2.0
"""``dreamsmith generate``: an asset made in this process."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dreamsmith.cli.options import (
    DEFAULTS,
    Azimuth,
    Band,
    Distance,
    Elevation,
    Faces,
    Fov,
    Height,
    Json,
    KeepTexture,
    Lods,
    Loras,
    Mask,
    NegativePrompt,
    NormalMap,
    OptionalMethod,
    Output,
    Pbr,
    Preset,
    Prior,
    Prompt,
    RecipeName,
    Resolution,
    Seed,
    Settings,
    Smoothing,
    Stages,
    Start,
    Steps,
    TextureSize,
    Variations,
    VramGib,
    make_folder,
    request_of,
    tell_recipe,
)
from dreamsmith.errors import Cancelled


def generate(
    prompt: Prompt,
    output: Output,
    negative_prompt: NegativePrompt = "",
    method: OptionalMethod = None,
    recipe: RecipeName = "",
    prior: Prior = DEFAULTS.prior,
    loras: Loras = None,
    preset: Preset = DEFAULTS.preset,
    seed: Seed = DEFAULTS.seed,
    variations: Variations = DEFAULTS.variations,
    steps: Steps = None,
    start: Start = "",
    stages: Stages = "",
    band: Band = DEFAULTS.band,
    keep_texture: KeepTexture = False,
    mask: Mask = "",
    resolution: Resolution = None,
    azimuth: Azimuth = None,
    elevation: Elevation = None,
    distance: Distance = None,
    fov: Fov = None,
    settings: Settings = None,
    height: Height = DEFAULTS.height_metres,
    faces: Faces = None,
    texture_size: TextureSize = None,
    smoothing: Smoothing = DEFAULTS.smoothing,
    normal_map: NormalMap = False,
    pbr: Pbr = False,
    lods: Lods = 0,
    workspace: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; else one beside the output.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    vram_gib: VramGib = None,
    as_json: Json = False,
) -> None:
    """Make an asset in this process: the model, and beside it FILE.turntable.png and FILE.webp."""
    request = request_of(locals()).validated()
    from dreamsmith.outputs import Outputs
    from dreamsmith.priors import check_prompt

    # A typo is answered before what takes seconds to import.
    check_prompt(request)
    outputs = Outputs.at(output, request.variations, request.lods)
    from dreamsmith import checkpoint
    from dreamsmith.console import reporter
    from dreamsmith.events import AssetReady
    from dreamsmith.generate import generate as run

    folder = workspace or outputs.workspace
    stopped: list[int] = []
    # Refuses what cannot be, before anything is written.
    events = run(request, workspace=folder, stop=lambda: bool(stopped), vram_gib=vram_gib)
    is_own_folder = not folder.exists()
    make_folder(folder)

    tell_recipe(request)
    if not resume:
        checkpoint.discard_checkpoint(folder)
    elif checkpoint.read_checkpoint(folder, request.fingerprint()) is None:
        print(f"no checkpoint of this request in {folder}: from the beginning", file=sys.stderr)
    made: list[int] = []
    with _stop_on_signal(stopped), reporter(as_json) as shown:
        try:
            for event in events:
                shown.show(event)
                if isinstance(event, AssetReady):
                    made.append(event.variation)
                    files = outputs.variation(event.variation)
                    files.write(event.asset)
                    mesh = event.asset.mesh
                    values: dict[str, object] = {
                        "event": "asset",
                        "variation": event.variation,
                        "model": str(files.model),
                        "levels": [str(path) for path in files.models[1:]],
                        "turntable": str(files.turntable),
                        "animation": str(files.animation),
                        "vertices": len(mesh.positions),
                        "faces": len(mesh.triangles),
                        "provenance": event.asset.provenance,
                    }
                    line = f"{files.model}: {len(mesh.triangles)} faces; beside it "
                    line += f"{files.turntable.name} and {files.animation.name}"
                    shown.result(line, **values)
        except Cancelled:
            again = [word for word in sys.argv[1:] if word != "--resume"]
            command = shlex.join(["dreamsmith", *again, "--resume"])
            raise Cancelled(f"stopped; go on with: {command}") from None
    if len(made) < request.variations:
        lost = set(range(1, request.variations + 1)) - set(made)
        print(f"no surface was found for variation {sorted(lost)}", file=sys.stderr)
    checkpoint.discard_checkpoint(folder)
    if is_own_folder or folder == outputs.workspace:
        with contextlib.suppress(OSError):  # Not empty: the user keeps something there.
            folder.rmdir()


@contextlib.contextmanager
def _stop_on_signal(received: list[int]) -> Iterator[None]:
    """Add to a list on Ctrl-C and SIGTERM; the second one ends the program at once."""

    def stop(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        print("stopping at the next step; once more to stop at once", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
