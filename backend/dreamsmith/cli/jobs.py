# SPDX-License-Identifier: Apache-2.0
"""Commands that speak to a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamsmith.cli.connection import connects
from dreamsmith.cli.options import (
    DEFAULTS,
    Azimuth,
    Band,
    Distance,
    Elevation,
    Faces,
    Fov,
    Height,
    JobName,
    Json,
    KeepTexture,
    Lods,
    Loras,
    Mask,
    NegativePrompt,
    NormalMap,
    OptionalMethod,
    OptionalOutput,
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
    request_of,
    tell_recipe,
)
from dreamsmith.errors import Cancelled, GenerationFailed, InvalidRequest

if TYPE_CHECKING:
    from dreamsmith.wire.job import Job, State


@connects
def submit(
    client: Any,
    prompt: Prompt,
    output: OptionalOutput = None,
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
    priority: Annotated[
        int, typer.Option(help="-10 to 10: of your own waiting jobs the highest starts first.")
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job ends.")] = False,
    as_json: Json = False,
) -> None:
    """Send a job to a server; prints its name."""
    request = request_of(locals()).validated()
    from dreamsmith.console import job_values, reporter
    from dreamsmith.outputs import Outputs

    outputs = Outputs.at(output, request.variations, request.lods) if output else None
    tell_recipe(request)
    job = client.create(request, priority=priority)
    with reporter(as_json) as shown:
        shown.result(job.name, event="job", **job_values(job))
    if wait or outputs:
        _watch(client, job.name, as_json)
    if outputs:
        _download(client, client.get(job.name), outputs, as_json)


@connects
def watch(client: Any, job: JobName, as_json: Json = False) -> None:
    """Show what happens to a job until it ends."""
    _watch(client, job, as_json)


@connects
def jobs(
    client: Any,
    state: Annotated[
        list[str] | None, typer.Option(help="Only jobs in this state; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List a server's jobs, newest first."""
    from dreamsmith.console import job_values

    for job in client.list([_state(name) for name in state or ()]):
        if as_json:
            print(json.dumps(job_values(job), ensure_ascii=False))
        else:
            done = f"{job.progress.fraction:.0%}" if job.progress else ""
            owner = f"{job.owner}: " if job.owner else ""
            print(f"{job.name}  {job.state.value:<10} {done:>4}  {owner}{job.request.prompt}")


@connects
def cancel(client: Any, job: JobName, as_json: Json = False) -> None:
    """Stop a job for good."""
    _change(client.cancel, job, as_json)


@connects
def pause(client: Any, job: JobName, as_json: Json = False) -> None:
    """Have a job write a checkpoint and free its device; `resume` lets it go on."""
    _change(client.pause, job, as_json)


@connects
def resume(client: Any, job: JobName, as_json: Json = False) -> None:
    """Let a paused job go on from its checkpoint."""
    _change(client.resume, job, as_json)


@connects
def retry(client: Any, job: JobName, as_json: Json = False) -> None:
    """Try a job again that failed, from its last checkpoint, or was cancelled."""
    _change(client.retry, job, as_json)


@connects
def delete(client: Any, job: JobName, as_json: Json = False) -> None:
    """Forget a job that has ended or is paused, with its files on the server."""
    from dreamsmith.client import full_name
    from dreamsmith.console import reporter

    with reporter(as_json) as shown:
        client.delete(job)
        shown.result(f"{full_name(job)} deleted", event="deleted", name=full_name(job))


@connects
def download(client: Any, job: JobName, output: Output, as_json: Json = False) -> None:
    """Fetch what a job made: the model, and beside it FILE.turntable.png and FILE.webp."""
    from dreamsmith.outputs import Outputs

    found = client.get(job)
    outputs = Outputs.at(output, found.request.variations, found.request.lods)
    _download(client, found, outputs, as_json)


def _state(name: str) -> State:
    from dreamsmith.wire.job import State

    try:
        return State(name)
    except ValueError:
        known = ", ".join(state.value for state in State)
        raise InvalidRequest("state", f"state {name!r} is not known: choose {known}") from None


def _change(change: Callable[[str], Job], name: str, as_json: bool) -> None:
    """Have a server change a job, and say what state that has brought it to."""
    from dreamsmith.console import job_values, reporter

    with reporter(as_json) as shown:
        job = change(name)
        shown.result(f"{job.name} {job.state.value}", event="job", **job_values(job))


def _watch(client: Any, job: str, as_json: bool) -> None:
    from dreamsmith.console import reporter
    from dreamsmith.wire.job import Job, State

    last: Job | None = None
    with reporter(as_json) as shown:
        for event in client.watch(job, with_previews=False):
            if isinstance(event.body, Job):
                last = event.body
            shown.show(event.body)
    if last is not None and last.state is State.FAILED and last.error is not None:
        raise GenerationFailed(f"{last.name} failed: {last.error.message}")
    if last is not None and last.state is State.CANCELLED:
        raise Cancelled(f"{last.name} was cancelled")


def _download(client: Any, job: Job, outputs: Any, as_json: bool) -> None:
    from dreamsmith.console import reporter
    from dreamsmith.outputs import glb_beside, take_glb
    from dreamsmith.wire.job import ANIMATION, MODEL, TURNTABLE, artifact_of

    there = {artifact.name for artifact in job.artifacts}
    with reporter(as_json) as shown:
        for number in range(1, job.request.variations + 1):
            # The first is asked for in any case: where it is missing, the server says why.
            if number > 1 and artifact_of(MODEL, number) not in there:
                continue
            files = outputs.variation(number)
            client.download(job.name, artifact_of(TURNTABLE, number), files.turntable)
            client.download(job.name, artifact_of(ANIMATION, number), files.animation)
            # The model last: who finds it finds the others, too.
            for lod in range(files.lods, -1, -1):
                path = files.models[lod]
                name = artifact_of(MODEL, number, lod)
                model = client.download(job.name, name, glb_beside(path))
                take_glb(path)
            shown.result(
                f"{files.model}: {model.size_bytes} bytes; beside it "
                f"{files.turntable.name} and {files.animation.name}",
                event="asset",
                variation=number,
                model=str(files.model),
                levels=[str(path) for path in files.models[1:]],
                turntable=str(files.turntable),
                animation=str(files.animation),
                size_bytes=model.size_bytes,
                sha256=model.sha256.hex(),
            )
