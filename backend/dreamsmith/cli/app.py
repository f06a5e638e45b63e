# SPDX-License-Identifier: Apache-2.0
"""The program: every command is registered here, every error becomes one line here."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Final

import platformdirs
import typer

from dreamsmith.cli import access, generate, jobs, look, measure, serve
from dreamsmith.errors import DreamsmithError
from dreamsmith.runtime import prepare_process

_UNEXPECTED: Final = 4
_INTERRUPTED: Final = 130
# What typer raises for every wrong use; the class itself has no public name.
_UsageError: Final[Any] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="A prompt becomes a textured mesh.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command in (
    generate.generate,
    serve.serve,
    jobs.submit,
    jobs.watch,
    jobs.jobs,
    jobs.pause,
    jobs.resume,
    jobs.retry,
    jobs.cancel,
    jobs.delete,
    jobs.download,
    look.priors,
    look.inspect,
    serve.doctor,
    serve.backup,
    serve.restore,
    access.certificate,
    measure.evaluate,
):
    app.command()(_command)

_tokens = typer.Typer(help="Who may use a server.", no_args_is_help=True)
_tokens.command("create")(access.token_create)
_tokens.command("list")(access.token_list)
_tokens.command("revoke")(access.token_revoke)
app.add_typer(_tokens, name="token")

_bench = typer.Typer(help="How fast things are.", no_args_is_help=True)
_bench.command("stages")(measure.bench_stages)
_bench.command("surface")(measure.bench_surface)
_bench.command("service")(measure.bench_service)
app.add_typer(_bench, name="bench")

_recipes = typer.Typer(help="The papers' settings.", no_args_is_help=True)
_recipes.command("list")(look.recipe_list)
_recipes.command("show")(look.recipe_show)
app.add_typer(_recipes, name="recipe")


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
    prepare_process()
    # Libraries' own notices would stand between our lines.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(run(sys.argv[1:]))
