# SPDX-License-Identifier: Apache-2.0
"""Commands that show what there is: priors, meshes, recipes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from dreamsmith.cli.options import (
    Json,
)
from dreamsmith.recipes import recipe_named
from dreamsmith.request import RECIPES


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


def recipe_list(as_json: Json = False) -> None:
    """List the recipes and the papers that they are of."""
    for name in RECIPES:
        found = recipe_named(name)
        print(
            json.dumps({"name": name, "title": found.title})
            if as_json
            else f"{name:<23}{found.title}"
        )


def recipe_show(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """Show a paper's settings, where each number stands, and what it becomes here."""
    from rich.console import Console
    from rich.table import Column, Table

    found = recipe_named(name)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return
    # Folded, not cut, where a word is too long for a narrow terminal.
    columns = [Column(name, overflow="fold") for name in ("setting", "paper", "source", "here")]
    table = Table(*columns, title=found.title)
    for number in found.numbers:
        table.add_row(number.name, number.paper, number.source, number.here or "the same")
    Console().print(table)
