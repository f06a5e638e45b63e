# SPDX-License-Identifier: Apache-2.0
"""The command line: every command, each a thin layer over what it calls.

Exit codes: 0 done, 2 bad input, 3 server not reachable, 4 job failed, 130 cancelled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import platformdirs
import typer

from dreamsmith.errors import Cancelled, DreamsmithError, GenerationFailed, InvalidRequest
from dreamsmith.memory import keep_freed_memory
from dreamsmith.recipes import recipe_named
from dreamsmith.request import (
    METHODS,
    PRESETS,
    RECIPES,
    CameraRanges,
    DistillationSettings,
    GenerationRequest,
    Interval,
)

_UNEXPECTED: Final = 4
_INTERRUPTED: Final = 130
_DEFAULT_SERVER: Final = "127.0.0.1:50051"
_DEFAULTS: Final = GenerationRequest(prompt="")
# What typer raises for every wrong use; the class itself has no public name.
_UsageError: Final[Any] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="A prompt becomes a textured mesh.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

recipes_app = typer.Typer(help="The papers' settings.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipe")

Prompt = Annotated[str, typer.Argument(help="What to make, for instance 'a red mug'.")]
NegativePrompt = Annotated[str, typer.Option(help="What to avoid.")]
Method = Annotated[str, typer.Option(help=f"Estimator: {', '.join(METHODS)}.")]
OptionalMethod = Annotated[
    str | None,
    typer.Option(
        help=f"Estimator: {', '.join(METHODS)} [default: {_DEFAULTS.method}, or the recipe's]",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        help=f"A paper's settings: {', '.join(RECIPES)}; `dreamsmith recipe list` names them.",
    ),
]
Prior = Annotated[
    str,
    typer.Option(
        help="Diffusion model: bundled, a folder, a .safetensors file, or a model id; "
        "then @REVISION or @sha256:HASH if wanted."
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", help="FILE.safetensors or FILE:SCALE on top of the prior; repeatable."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="NAME=VALUE of the method, repeatable: guidance_scale, threshold, omega, "
        "time_schedule, negative_after, perp_neg, clip.",
    ),
]
Preset = Annotated[str, typer.Option(help=f"Effort: {', '.join(PRESETS)}.")]
Seed = Annotated[int, typer.Option(help="Same seed, same asset.")]
Variations = Annotated[int, typer.Option(help="Assets to make, 1 to 8: FILE.glb, FILE-2.glb, ...")]
Steps = Annotated[int | None, typer.Option(help="Steps of the field stage; else the preset's.")]
Resolution = Annotated[
    int | None, typer.Option(help="Largest edge of what the prior is shown; else the preset's.")
]


def _range_option(help_text: str, usual: Interval) -> Any:
    shown = f"{help_text} [default: {usual.low:g}:{usual.high:g}, or the recipe's]"
    return typer.Option(help=shown, metavar="LOW:HIGH", show_default=False)


_CAMERAS: Final = _DEFAULTS.cameras
Azimuth = Annotated[
    str | None, _range_option("Degrees; 0 is the front, 90 is +X.", _CAMERAS.azimuth_degrees)
]
Elevation = Annotated[
    str | None, _range_option("Degrees from the horizon.", _CAMERAS.elevation_degrees)
]
Distance = Annotated[str | None, _range_option("In object radii.", _CAMERAS.distance)]
Fov = Annotated[
    str | None, _range_option("Vertical field of view in degrees.", _CAMERAS.fov_degrees)
]
Height = Annotated[float, typer.Option(help="Of the finished mesh, in metres.")]
Faces = Annotated[int | None, typer.Option(help="Most triangles; else the preset's.")]
TextureSize = Annotated[int | None, typer.Option(help="Texels of an edge; else the preset's.")]
Start = Annotated[
    str,
    typer.Option(
        "--start", help="A GLB file whose mesh is painted: its shape, size and UVs are kept."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The .glb file to write.")]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="The .glb file to write; waits for the job.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Server = Annotated[str, typer.Option(envvar="DREAMSMITH_SERVER", help="HOST:PORT.")]
VramGib = Annotated[
    float | None,
    typer.Option(
        help="GiB that a job may take of the GPU, from 1 [default: all it has]", show_default=False
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="As `dreamsmith jobs` shows it.")]


# Field of `CameraRanges` -> option.
_RANGE_OPTIONS: Final = {
    "azimuth_degrees": "azimuth",
    "elevation_degrees": "elevation",
    "distance": "distance",
    "fov_degrees": "fov",
}


def _request(values: dict[str, Any]) -> GenerationRequest:
    """The request of the options that `generate` and `submit` share, not validated.

    What is not given is the recipe's, where there is one.
    """
    recipe = recipe_named(values["recipe"]) if values["recipe"] else None
    ranges = dataclasses.asdict(recipe.cameras if recipe else _DEFAULTS.cameras)
    ranges = {name: Interval(**ends) for name, ends in ranges.items()}
    for field, name in _RANGE_OPTIONS.items():
        if values[name] is not None:
            ranges[field] = Interval.parse(values[name], name)
    return GenerationRequest(
        prompt=values["prompt"],
        negative_prompt=values["negative_prompt"],
        method=values["method"] or (recipe.method if recipe else _DEFAULTS.method),
        recipe=values["recipe"],
        prior=values["prior"],
        loras=tuple(values.get("loras") or ()),
        preset=values["preset"],
        seed=values["seed"],
        variations=values["variations"],
        steps=values["steps"],
        start=values.get("start", ""),
        resolution=values["resolution"],
        cameras=CameraRanges(**ranges),
        distillation=DistillationSettings.parse(
            values["settings"] or (), recipe.distillation if recipe else None
        ),
        height_metres=values["height"],
        face_budget=values["faces"],
        texture_size=values["texture_size"],
    )


@app.command()
def generate(
    prompt: Prompt,
    output: Output,
    negative_prompt: NegativePrompt = "",
    method: OptionalMethod = None,
    recipe: RecipeName = "",
    prior: Prior = _DEFAULTS.prior,
    loras: Loras = None,
    preset: Preset = _DEFAULTS.preset,
    seed: Seed = _DEFAULTS.seed,
    variations: Variations = _DEFAULTS.variations,
    steps: Steps = None,
    start: Start = "",
    resolution: Resolution = None,
    azimuth: Azimuth = None,
    elevation: Elevation = None,
    distance: Distance = None,
    fov: Fov = None,
    settings: Settings = None,
    height: Height = _DEFAULTS.height_metres,
    faces: Faces = None,
    texture_size: TextureSize = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; else one beside the output.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    vram_gib: VramGib = None,
    as_json: Json = False,
) -> None:
    """Make an asset in this process: FILE.glb, FILE.turntable.png and FILE.webp."""
    request = _request(locals()).validated()
    from dreamsmith.console import reporter
    from dreamsmith.outputs import Outputs
    from dreamsmith.priors import check_prompt
    from dreamsmith.priors.memory import check_vram, cuda_bytes

    check_prompt(request)
    outputs = Outputs.at(output, request.variations)
    if vram_gib is not None:
        check_vram(vram_gib, cuda_bytes())
    if request.start:
        from dreamsmith.asset.glb import read_mesh

        read_mesh(Path(request.start))
    folder = workspace or outputs.workspace
    is_own_folder = not folder.exists()
    _make_folder(folder)
    from dreamsmith import checkpoint
    from dreamsmith.events import AssetReady
    from dreamsmith.generate import generate as run

    if request.recipe:
        from dreamsmith.presets import settings_for

        print(
            f"recipe {request.recipe}, scaled to the preset: {settings_for(request).field_steps} "
            f"steps of the field; `dreamsmith recipe show {request.recipe}` says what differs",
            file=sys.stderr,
        )
    if not resume:
        checkpoint.discard_checkpoint(folder)
    elif checkpoint.read_checkpoint(folder, request.fingerprint()) is None:
        print(f"no checkpoint of this request in {folder}: from the beginning", file=sys.stderr)
    made: list[int] = []
    with _stop_on_signal() as stopped, reporter(as_json) as shown:
        try:
            for event in run(
                request, workspace=folder, stop=lambda: bool(stopped), vram_gib=vram_gib
            ):
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


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 50051,
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs are kept.")] = None,
    reflection: Annotated[
        bool, typer.Option("--reflection", help="Tell clients what the API looks like.")
    ] = False,
    vram_gib: VramGib = None,
    as_json: Json = False,
) -> None:
    """Run a server until Ctrl-C."""
    from dreamsmith.service.server import ServerOptions, run_server

    def on_listening(host: str, port: int) -> None:
        if as_json:
            print(json.dumps({"event": "listening", "host": host, "port": port}), flush=True)
        else:
            name = f"[{host}]" if ":" in host else host
            print(f"listening on {name}:{port}", flush=True)

    options = ServerOptions(data_dir or default_data_dir(), host, port, reflection, vram_gib)
    run_server(options, on_listening)


@app.command()
def submit(
    prompt: Prompt,
    output: OptionalOutput = None,
    negative_prompt: NegativePrompt = "",
    method: OptionalMethod = None,
    recipe: RecipeName = "",
    prior: Prior = _DEFAULTS.prior,
    preset: Preset = _DEFAULTS.preset,
    seed: Seed = _DEFAULTS.seed,
    variations: Variations = _DEFAULTS.variations,
    steps: Steps = None,
    resolution: Resolution = None,
    azimuth: Azimuth = None,
    elevation: Elevation = None,
    distance: Distance = None,
    fov: Fov = None,
    settings: Settings = None,
    height: Height = _DEFAULTS.height_metres,
    faces: Faces = None,
    texture_size: TextureSize = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job ends.")] = False,
    server: Server = _DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Send a job to a server; prints its name."""
    request = _request(locals()).validated()
    from dreamsmith.client import Client
    from dreamsmith.console import job_values, reporter
    from dreamsmith.outputs import Outputs

    outputs = Outputs.at(output, request.variations) if output else None
    with Client(server) as client:
        job = client.create(request)
        with reporter(as_json) as shown:
            shown.result(job.name, event="job", **job_values(job))
        if wait or outputs:
            _watch(client, job.name, as_json)
        if outputs:
            _download(client, job.name, outputs, as_json)


@app.command()
def watch(job: JobName, server: Server = _DEFAULT_SERVER, as_json: Json = False) -> None:
    """Show what happens to a job until it ends."""
    from dreamsmith.client import Client

    with Client(server) as client:
        _watch(client, job, as_json)


@app.command()
def jobs(server: Server = _DEFAULT_SERVER, as_json: Json = False) -> None:
    """List a server's jobs, newest first."""
    from dreamsmith.client import Client
    from dreamsmith.console import job_values

    with Client(server) as client:
        for job in client.list():
            if as_json:
                print(json.dumps(job_values(job), ensure_ascii=False))
            else:
                done = f"{job.progress.fraction:.0%}" if job.progress else ""
                print(f"{job.name}  {job.state.value:<10} {done:>4}  {job.request.prompt}")


@app.command()
def cancel(job: JobName, server: Server = _DEFAULT_SERVER, as_json: Json = False) -> None:
    """Stop a job for good."""
    from dreamsmith.client import Client
    from dreamsmith.console import job_values, reporter

    with Client(server) as client, reporter(as_json) as shown:
        stopped = client.cancel(job)
        shown.result(f"{stopped.name} {stopped.state.value}", event="job", **job_values(stopped))


@app.command()
def download(
    job: JobName, output: Output, server: Server = _DEFAULT_SERVER, as_json: Json = False
) -> None:
    """Fetch what a job made: FILE.glb, FILE.turntable.png and FILE.webp."""
    from dreamsmith.client import Client
    from dreamsmith.outputs import Outputs

    outputs = Outputs.at(output)
    with Client(server) as client:
        _download(client, job, outputs, as_json)


@app.command()
def priors(as_json: Json = False) -> None:
    """List the diffusion models of this machine, the words they know, and what is not usable."""
    from dreamsmith.service.capabilities import installed_priors

    for prior in installed_priors():
        if as_json:
            print(json.dumps(dataclasses.asdict(prior) | {"folder": str(prior.folder)}))
            continue
        print(f"{prior.name}  {prior.folder}")
        revision = f", revision {prior.revision[:12]}" if prior.revision else ""
        print(f"  {prior.family}, {prior.size_bytes / 1e9:.2f} GB{revision}")
        if prior.refusal:
            print(f"  cannot be used: {prior.refusal}")
        else:
            print(f"  knows: {', '.join(prior.words)}" if prior.words else "  knows any text")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A .glb file, whoever made it.")],
    as_json: Json = False,
) -> None:
    """Say what is in a GLB: faces, closed or not, handles, pieces, size, UVs, texel density."""
    from dreamsmith.asset.inspection import describe, inspect_glb

    for mesh in inspect_glb(file):
        if as_json:
            print(json.dumps(dataclasses.asdict(mesh), ensure_ascii=False))
        else:
            print("\n".join(describe(mesh)))


@app.command()
def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs are kept.")] = None,
    as_json: Json = False,
) -> None:
    """Say what this installation is and what it found on this machine."""
    from dreamsmith.doctor import examine

    findings = examine(data_dir or default_data_dir())
    if as_json:
        print(json.dumps([{"name": name, "finding": finding} for name, finding in findings]))
        return
    for name, finding in findings:
        print(f"{name:<14}{finding}")


@recipes_app.command("list")
def recipe_list(as_json: Json = False) -> None:
    """List the recipes and the papers that they are of."""
    for name in RECIPES:
        found = recipe_named(name)
        print(
            json.dumps({"name": name, "title": found.title})
            if as_json
            else f"{name:<23}{found.title}"
        )


@recipes_app.command("show")
def recipe_show(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """Show a paper's settings, where each number stands, and what it becomes here."""
    from rich.console import Console
    from rich.table import Table

    found = recipe_named(name)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return
    table = Table("setting", "paper", "source", "here", title=found.title)
    for number in found.numbers:
        table.add_row(number.name, number.paper, number.source, number.here or "the same")
    Console().print(table)


@app.command()
def evaluate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; what lies there is not made again.")
    ] = Path("evaluation"),
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Repeatable; else sixteen of our own.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(METHODS),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1",
    preset: Preset = "draft",
    prior: Prior = _DEFAULTS.prior,
    steps: Steps = None,
    settings: Settings = None,
    vary: Annotated[
        str | None,
        typer.Option(help="NAME=VALUE,...: a row each; variations, resolution, or as --set."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Four prompts, the default method, one seed.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Generations at a time.")] = 1,
    scorer: Annotated[str, typer.Option(help="vocabulary, or clip for open prompts.")] = (
        "vocabulary"
    ),
    clip: Annotated[Path | None, typer.Option(help="Folder of the CLIP model.")] = None,
    as_json: Json = False,
) -> None:
    """Make many assets and measure them: tables and pictures in OUTPUT; run again, it goes on."""
    from dreamsmith.evaluation.command import Plan, evaluate_plan

    plan = Plan.make(
        prompts=prompts or (),
        methods=methods,
        seeds=seeds,
        preset=preset,
        prior=prior,
        steps=steps,
        settings=settings or (),
        vary=vary,
        quick=quick,
        scorer=scorer,
        clip_folder=clip,
    )
    _make_folder(output)
    evaluate_plan(plan, output, workers, as_json)


@app.command()
def bench(
    prompt: Annotated[str, typer.Argument(help="What to make meanwhile.")] = "a red mug",
    preset: Preset = "draft",
    method: Method = "ssd",
    steps: Annotated[int, typer.Option(help="Steps of each stage.", min=1)] = 40,
    as_json: Json = False,
) -> None:
    """Time the stages, and how much of each is the prior's own forward passes: their limit."""
    from dreamsmith.evaluation.bench import bench_stages

    request = GenerationRequest(prompt, preset=preset, method=method)
    for speed in bench_stages(request, steps):
        if as_json:
            print(json.dumps(dataclasses.asdict(speed)), flush=True)
            continue
        print(
            f"{speed.stage:<8} {speed.step_milliseconds:6.0f} ms a step, "
            f"{speed.prior_share:4.0%} of it in the prior, "
            f"{speed.relative_cost:.2f} of a step of the field",
            flush=True,
        )


def default_data_dir() -> Path:
    """Where a server keeps its jobs unless it is told."""
    return Path(platformdirs.user_data_dir("dreamsmith", appauthor=False))


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


def _download(client: Any, job: str, outputs: Any, as_json: bool) -> None:
    from dreamsmith.console import reporter
    from dreamsmith.wire.job import ANIMATION, MODEL, TURNTABLE, artifact_of

    found = client.get(job)
    there = {artifact.name for artifact in found.artifacts}
    with reporter(as_json) as shown:
        for number in range(1, found.request.variations + 1):
            # The first is asked for in any case: where it is missing, the server says why.
            if number > 1 and artifact_of(MODEL, number) not in there:
                continue
            files = outputs.variation(number)
            client.download(job, artifact_of(TURNTABLE, number), files.turntable)
            client.download(job, artifact_of(ANIMATION, number), files.animation)
            model = client.download(job, artifact_of(MODEL, number), files.model)
            shown.result(
                f"{files.model}: {model.size_bytes} bytes; beside it "
                f"{files.turntable.name} and {files.animation.name}",
                event="asset",
                variation=number,
                model=str(files.model),
                turntable=str(files.turntable),
                animation=str(files.animation),
                size_bytes=model.size_bytes,
                sha256=model.sha256.hex(),
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            "workspace",
            f"cannot make the folder {str(folder)!r}: {error.strerror}; name another with "
            "--workspace",
        ) from None


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM; the second one ends the program at once."""
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        print("stopping at the next step; once more to stop at once", file=sys.stderr)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _write_log(error: Exception) -> Path:
    """Keep the traceback where the user can find it."""
    folder = Path(platformdirs.user_log_dir("dreamsmith", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir())
    path = folder / f"dreamsmith-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code. Errors are one line on standard error."""
    try:
        code = app(args=arguments, prog_name="dreamsmith", standalone_mode=False)
    except _UsageError as error:
        message = " ".join(error.format_message().split())
        return _fail(f"{message} (`dreamsmith --help` lists what there is)", 2)
    except DreamsmithError as error:
        return _fail(error.message, error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", _INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has gone; Python must not complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _fail(
            f"unexpected {type(error).__name__}: please report it with {_write_log(error)}",
            _UNEXPECTED,
        )
    return code if isinstance(code, int) else 0


def _fail(message: str, exit_code: int) -> int:
    print(f"dreamsmith: {message}", file=sys.stderr)
    return exit_code


def main() -> None:
    """The program ``dreamsmith``."""
    keep_freed_memory()
    # Libraries' own notices would stand between our lines.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(run(sys.argv[1:]))
