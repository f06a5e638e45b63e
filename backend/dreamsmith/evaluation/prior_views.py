# SPDX-License-Identifier: Apache-2.0
"""Whether the bundled prior knows from words alone what is seen from which side.

``python -m dreamsmith.evaluation.prior_views`` puts true pictures under nearly nothing but noise
and compares what the prior takes them for, in the mean, with their own mean: for a perfect prior
the two are the same at any level, since E[E[x | noisy x]] = E[x]. What is left of the difference
between eight sides is what distillation can learn before there is a shape to look at: on which side
a mug has its handle, or a chair its back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dreamsmith.bars import CountingBars
from dreamsmith.cameras import EXACT_VIEW_PHRASES, Cameras, exact_view_phrases, sample_cameras
from dreamsmith.evaluation.prior_accuracy import open_pipeline
from dreamsmith.evaluation.renders import renders_from
from dreamsmith.priors.bundled.dataset import TRAINING_RANGES
from dreamsmith.priors.bundled.model import RESOLUTION
from dreamsmith.priors.bundled.vocabulary import OBJECTS

# Saturated, so that it is told from any background.
_COLOR: Final = "red"
# Seen from a little above, at a middling distance; once round, in the order in which the numbers of
# docs/results.md were drawn.
_FRONT, *_OTHERS = (phrase for phrase in EXACT_VIEW_PHRASES if phrase.startswith("high "))
_PHRASES: Final = (_FRONT, *reversed(_OTHERS))
# Solids of revolution and such look the same from all sides; these do not.
SIDED: Final = ("mug", "table", "chair", "house", "rocket", "boat", "sword", "hammer")
_CAMERAS_DRAWN = 20_000


def known_share(
    pipeline: Any,
    names: Sequence[str],
    level: float,
    samples: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """How much of the difference between a prop's sides the prior knows from its prompt.

    Args:
        pipeline: the prior as `open_pipeline` loads it.
        names: of props.
        level: of the noise, in (0, 1): near 1 the words alone can tell.
        samples: pictures of each side.
        seed: of cameras, backgrounds, lights and noise.
        progress: told how many props are done, and of how many.

    Returns:
        By name the slope with which the predictions' redness differs between the sides as the true
        pictures' does: 1 for a perfect prior, 0 for one that does not listen.
    """
    generator = torch.Generator().manual_seed(seed)
    cameras = _cameras_by_side(samples, generator)
    alphas = pipeline.scheduler.alphas_cumprod
    timestep = round(level * (len(alphas) - 1))
    alpha, sigma = alphas[timestep].sqrt(), (1 - alphas[timestep]).sqrt()
    found = {}
    for done, name in enumerate(names):
        means: dict[str, list[Tensor]] = {"true": [], "drawn": []}
        for phrase in _PHRASES:
            clean = 2 * _pictures(name, cameras[phrase], generator) - 1
            noisy = alpha * clean + sigma * torch.randn(clean.shape, generator=generator)
            embeddings, _ = pipeline.encode_prompt(
                f"a {_COLOR} {name}, {phrase}", num_images_per_prompt=samples
            )
            with torch.no_grad():
                velocity = pipeline.unet(noisy, timestep, embeddings).sample[:, :3]
            means["true"].append(_redness(clean).mean(dim=0))
            means["drawn"].append(_redness(alpha * noisy - sigma * velocity).mean(dim=0))
        true, drawn = (torch.stack(means[kind]) for kind in ("true", "drawn"))
        true, drawn = true - true.mean(dim=0), drawn - drawn.mean(dim=0)
        found[name] = float((true * drawn).sum() / true.square().sum())
        progress(done + 1, len(names))
    return found


def _cameras_by_side(count: int, generator: torch.Generator) -> dict[str, Cameras]:
    """Cameras of the training's ranges of which each phrase is true, ``count`` of each."""
    cameras = sample_cameras(TRAINING_RANGES, _CAMERAS_DRAWN, generator)
    rows = defaultdict(list)
    for row, phrase in enumerate(exact_view_phrases(cameras)):
        rows[phrase].append(row)
    return {phrase: cameras.select(torch.tensor(rows[phrase][:count])) for phrase in _PHRASES}


def _pictures(name: str, cameras: Cameras, generator: torch.Generator) -> Tensor:
    count = len(cameras)
    ambient = torch.full((count,), 0.5)
    return renders_from(cameras, [name] * count, [_COLOR] * count, ambient, RESOLUTION, generator)


def _redness(images: Tensor) -> Tensor:
    """How much more red than green and blue each pixel is: backgrounds are all but grey."""
    return images[:, 0] - images[:, 1:].mean(dim=1)


def main(
    prior: Annotated[str, typer.Option(help="'bundled', or a folder in diffusers layout.")] = (
        "bundled"
    ),
    names: Annotated[list[str] | None, typer.Option("--object", help="Repeatable.")] = None,
    level: Annotated[float, typer.Option(help="Of the noise, in (0, 1).")] = 0.97,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Pictures of each side.")] = 16,
    seed: Annotated[int, typer.Option(help="Of pictures and noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print how much of the difference between its sides the prior knows of each prop."""
    names = names or list(SIDED)
    unknown = [name for name in names if name not in OBJECTS]
    if unknown:
        raise typer.BadParameter(f"no prop {unknown[0]!r}; there are {', '.join(OBJECTS)}")
    if not 0 < level < 1:
        raise typer.BadParameter(f"a level is between 0 and 1, not {level:g}")
    console = Console(stderr=as_json)
    pipeline = open_pipeline(prior)
    with CountingBars(console) as bars:
        found = known_share(
            pipeline,
            names,
            level,
            samples,
            seed,
            bars.counter("drawing"),
        )
    if as_json:
        print(json.dumps(found))
        return
    table = Table("prop", "sides known")
    for name, share in found.items():
        table.add_row(name, f"{share:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
