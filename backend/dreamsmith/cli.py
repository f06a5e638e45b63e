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
from dreamsmith.request import (
    METHODS,
    PRESETS,
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

Prompt = Annotated[str, typer.Argument(help="What to make, for instance 'a red mug'.")]
NegativePrompt = Annotated[str, typer.Option(help="What to avoid.")]
Method = Annotated[str, typer.Option(help=f"Estimator: {', '.join(METHODS)}.")]
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
Steps = Annotated[int | None, typer.Option(help="Steps of the field stage; else the preset's.")]
Azimuth = Annotated[str, typer.Option(help="LOW:HIGH in degrees; 0 is the front, 90 is +X.")]
Elevation = Annotated[str, typer.Option(help="LOW:HIGH in degrees from the horizon.")]
Distance = Annotated[str, typer.Option(help="LOW:HIGH in object radii.")]
Fov = Annotated[str, typer.Option(help="LOW:HIGH, vertical field of view in degrees.")]
Height = Annotated[float, typer.Option(help="Of the finished mesh, in metres.")]
Faces = Annotated[int | None, typer.Option(help="Most triangles; else the preset's.")]
TextureSize = Annotated[int | None, typer.Option(help="Texels of an edge; else the preset's.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The .glb file to write.")]
OptionalOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="The .glb file to write; waits for the job.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Server = Annotated[str, typer.Option(envvar="DREAMSMITH_SERVER", help="HOST:PORT.")]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="As `dreamsmith jobs` shows it.")]


def _text(interval: Interval) -> str:
    return f"{interval.low:g}:{interval.high:g}"


_AZIMUTH: Final = _text(_DEFAULTS.cameras.azimuth_degrees)
_ELEVATION: Final = _text(_DEFAULTS.cameras.elevation_degrees)
_DISTANCE: Final = _text(_DEFAULTS.cameras.distance)
_FOV: Final = _text(_DEFAULTS.cameras.fov_degrees)


def _request(values: dict[str, Any]) -> GenerationRequest:
    """The request of the options that `generate` and `submit` share, not validated."""
    cameras = CameraRanges(
        azimuth_degrees=Interval.parse(values["azimuth"], "azimuth"),
        elevation_degrees=Interval.parse(values["elevation"], "elevation"),
        distance=Interval.parse(values["distance"], "distance"),
        fov_degrees=Interval.parse(values["fov"], "fov"),
    )
    return GenerationRequest(
        prompt=values["prompt"],
        negative_prompt=values["negative_prompt"],
        method=values["method"],
        prior=values["prior"],
        loras=tuple(values.get("loras") or ()),
        preset=values["preset"],
        seed=values["seed"],
        steps=values["steps"],
        cameras=cameras,
        distillation=DistillationSettings.parse(values["settings"] or ()),
        height_metres=values["height"],
        face_budget=values["faces"],
        texture_size=values["texture_size"],
    )


@app.command()
def generate(
    prompt: Prompt,
    output: Output,
    negative_prompt: NegativePrompt = "",
    method: Method = _DEFAULTS.method,
    prior: Prior = _DEFAULTS.prior,
    loras: Loras = None,
    preset: Preset = _DEFAULTS.preset,
    seed: Seed = _DEFAULTS.seed,
    steps: Steps = None,
    azimuth: Azimuth = _AZIMUTH,
    elevation: Elevation = _ELEVATION,
    distance: Distance = _DISTANCE,
    fov: Fov = _FOV,
    settings: Settings = None,
    height: Height = _DEFAULTS.height_metres,
    faces: Faces = None,
    texture_size: TextureSize = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; else one beside the output.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Make an asset in this process: FILE.glb, FILE.turntable.png and FILE.webp."""
    request = _request(locals()).validated()
    from dreamsmith.console import reporter
    from dreamsmith.outputs import Outputs
    from dreamsmith.priors import check_prompt

    check_prompt(request)
    outputs = Outputs.at(output)
    folder = workspace or outputs.workspace
    is_own_folder = not folder.exists()
    _make_folder(folder)
    from dreamsmith import checkpoint
    from dreamsmith.events import AssetReady
    from dreamsmith.generate import generate as run

    if not resume:
        checkpoint.discard_checkpoint(folder)
    elif checkpoint.read_checkpoint(folder, request.fingerprint()) is None:
        print(f"no checkpoint of this request in {folder}: from the beginning", file=sys.stderr)
    with _stop_on_signal() as stopped, reporter(as_json) as shown:
        try:
            for event in run(request, workspace=folder, stop=lambda: bool(stopped)):
                shown.show(event)
                if isinstance(event, AssetReady):
                    outputs.write(event.asset)
                    mesh = event.asset.mesh
                    values: dict[str, object] = {
                        "event": "asset",
                        "model": str(outputs.model),
                        "turntable": str(outputs.turntable),
                        "animation": str(outputs.animation),
                        "vertices": len(mesh.positions),
                        "faces": len(mesh.triangles),
                        "provenance": event.asset.provenance,
                    }
                    line = f"{outputs.model}: {len(mesh.triangles)} faces; beside it "
                    line += f"{outputs.turntable.name} and {outputs.animation.name}"
                    shown.result(line, **values)
        except Cancelled:
            again = [word for word in sys.argv[1:] if word != "--resume"]
            command = shlex.join(["dreamsmith", *again, "--resume"])
            raise Cancelled(f"stopped; go on with: {command}") from None
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

    run_server(ServerOptions(data_dir or default_data_dir(), host, port, reflection), on_listening)


@app.command()
def submit(
    prompt: Prompt,
    output: OptionalOutput = None,
    negative_prompt: NegativePrompt = "",
    method: Method = _DEFAULTS.method,
    prior: Prior = _DEFAULTS.prior,
    preset: Preset = _DEFAULTS.preset,
    seed: Seed = _DEFAULTS.seed,
    steps: Steps = None,
    azimuth: Azimuth = _AZIMUTH,
    elevation: Elevation = _ELEVATION,
    distance: Distance = _DISTANCE,
    fov: Fov = _FOV,
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

    outputs = Outputs.at(output) if output else None
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
    """List the diffusion models of this machine, and the words they know."""
    from dreamsmith.service.capabilities import installed_priors

    for prior in installed_priors():
        if as_json:
            values = {"name": prior.name, "folder": str(prior.folder), "words": prior.words}
            print(json.dumps(values))
        else:
            print(f"{prior.name}  {prior.folder}")
            print(f"  knows: {', '.join(prior.words)}" if prior.words else "  knows any text")


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
        str | None, typer.Option(help="NAME=VALUE,VALUE,...: one row a value, as --set takes it.")
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
    from dreamsmith.wire.job import ANIMATION, MODEL, TURNTABLE

    with reporter(as_json) as shown:
        client.download(job, TURNTABLE, outputs.turntable)
        client.download(job, ANIMATION, outputs.animation)
        model = client.download(job, MODEL, outputs.model)
        shown.result(
            f"{outputs.model}: {model.size_bytes} bytes; beside it "
            f"{outputs.turntable.name} and {outputs.animation.name}",
            event="asset",
            model=str(outputs.model),
            turntable=str(outputs.turntable),
            animation=str(outputs.animation),
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
