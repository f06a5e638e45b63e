# SPDX-License-Identifier: Apache-2.0
"""A command's options from a TOML file: what the command line or the environment says wins."""

from __future__ import annotations

import difflib
import inspect
import tomllib
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dreamsmith.errors import InvalidRequest

_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: 'a text in "quotes"',
    Path: 'a path in "quotes"',
}


def load_config(context: Any, path: Path | None, command: Callable[..., None]) -> Path | None:
    """For the callback of the option ``--config``: a file's values become the options' defaults.

    Args:
        context: of the command line.
        path: the file; None for none.
        command: whose parameters are the options.

    Raises:
        InvalidRequest: it cannot be read, has a key that is no option, or a value of another kind.
    """
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is no TOML: {error}"
        raise InvalidRequest("config", f"cannot read {str(path)!r}: {why}") from None
    parameters = inspect.signature(command, eval_str=True).parameters
    options = {name.replace("_", "-"): _kind(found) for name, found in parameters.items()}
    for name in ("config", "as-json"):
        options.pop(name, None)
    defaults = {}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(options)}"
            raise InvalidRequest("config", f"{str(path)!r} has an unknown key {key!r}: {hint}")
        if not _is_a(value, options[name]):
            raise InvalidRequest(
                "config",
                f"{name} in {str(path)!r} must be {_KINDS[options[name]]}, not {value!r}",
            )
        defaults[name.replace("-", "_")] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _kind(parameter: inspect.Parameter) -> type:
    """The type of an option: what stands in ``Annotated``, without ``None``."""
    annotation = parameter.annotation
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    found: type = kinds[0] if kinds else annotation
    return found


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is (str if kind is Path else kind)
