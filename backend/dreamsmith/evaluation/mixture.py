# SPDX-License-Identifier: Apache-2.0
"""Where the estimators lead points in a Gaussian mixture whose scores are known exactly.

After SSD's figure 3 (Tang et al. 2023), with our own numbers, for the text leaves them out. The
text's distribution has two narrow modes; without the text there is a third between them, where
the points begin: the trap. Points move by an estimator as pictures would, within bounds as pixels
have.
``python -m dreamsmith.evaluation.mixture`` prints the table and draws the paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dreamsmith.asset.preview import png_bytes
from dreamsmith.distillation.estimators import MODE_SEEKING, csd, sds, ssd, vsd
from dreamsmith.files import write_atomic

# Of the text; and what else there is without it.
TEXT_MODES: Final = ((-0.5, 0.0), (0.5, 0.0))
OTHER_MODE: Final = (0.0, 0.0)
SPREAD: Final = 0.05
BOUND: Final = 1.0
_NEAR: Final = 0.15
_STEPS: Final = 1000
_LEARNING_RATE: Final = 1e-2
_LEVELS: Final = (0.02, 0.98)
# Noises averaged in one step, so that a path shows the estimator and not its chance.
_DRAWS: Final = 8

# Of predictions (N, 2), with the points' own: what to move by.
Estimator = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


ESTIMATORS: Final[dict[str, Estimator]] = {
    "mode seeking": lambda text, uncond, particle, noise, t: MODE_SEEKING.combine(
        eps_text=text, eps_uncond=uncond, noise=noise
    ),
    "sds 7.5": lambda text, uncond, particle, noise, t: sds(
        eps_text=text, eps_uncond=uncond, noise=noise, t=t, guidance_scale=7.5
    ),
    "sds 100": lambda text, uncond, particle, noise, t: sds(
        eps_text=text, eps_uncond=uncond, noise=noise, t=t, guidance_scale=100
    ),
    "csd": lambda text, uncond, particle, noise, t: csd(
        eps_text=text, eps_uncond=uncond, noise=noise, t=t
    ),
    "ssd 0.2": lambda text, uncond, particle, noise, t: ssd(
        eps_text=text, eps_uncond=uncond, noise=noise, t=t, threshold=0.2
    ),
    "ssd 0.5": lambda text, uncond, particle, noise, t: ssd(
        eps_text=text, eps_uncond=uncond, noise=noise, t=t, threshold=0.5
    ),
    "vsd 1": lambda text, uncond, particle, noise, t: vsd(
        eps_text=text,
        eps_uncond=uncond,
        noise=noise,
        t=t,
        eps_particle=particle,
        guidance_scale=1.0,
    ),
    "vsd 7.5": lambda text, uncond, particle, noise, t: vsd(
        eps_text=text,
        eps_uncond=uncond,
        noise=noise,
        t=t,
        eps_particle=particle,
        guidance_scale=7.5,
    ),
}


@dataclass(frozen=True)
class Ending:
    """Where an estimator left its points.

    Attributes:
        estimator: its name in `ESTIMATORS`.
        on_text_modes: share of points near one of the text's two modes.
        on_other_mode: share near the mode that is not the text's.
        at_bounds: share that the bounds hold.
        balance: share of the rarer among the text's modes, of the points on them; 0.5 where both
            are covered alike; None where none is.
        spread: mean distance of the points on a mode from it; the mode's own is 1.25 `SPREAD`.
    """

    estimator: str
    on_text_modes: float
    on_other_mode: float
    at_bounds: float
    balance: float | None
    spread: float | None


def predicted_noise(x_t: Tensor, t: Tensor, means: Tensor, spread: float) -> Tensor:
    """The exact noise prediction for an even mixture of Gaussians, diffused to level ``t``.

    ``eps = -sigma grad log p_t(x_t)`` for ``x_t = alpha x + sigma noise``, alpha and sigma on the
    unit circle (a cosine schedule).

    Args:
        x_t: shape (N, 2).
        t: noise levels in [0, 1], shape (N,).
        means: of the modes, shape (K, 2).
        spread: standard deviation of each mode; 0 for points.
    """
    alpha, sigma = (scale[:, None] for scale in alpha_sigma(t))
    variance = (alpha * spread) ** 2 + sigma**2
    away = x_t[:, None] - alpha[:, None] * means
    weights = torch.softmax(-away.square().sum(-1) / (2 * variance), dim=1)
    return sigma * (weights[..., None] * away).sum(1) / variance


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Scales of signal and noise at levels ``t``."""
    return torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)


def run(estimator: str, points: int = 64, steps: int = _STEPS, seed: int = 0) -> Tensor:
    """Paths of ``points`` points from near the middle, shape (steps + 1, points, 2)."""
    generator = torch.Generator().manual_seed(seed)
    with_text = torch.tensor(TEXT_MODES, dtype=torch.float64)
    without = torch.cat((with_text, torch.tensor([OTHER_MODE], dtype=torch.float64)))
    x = 0.1 * torch.randn(points, 2, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=_LEARNING_RATE, betas=(0.9, 0.99))
    path = [x.detach().clone()]
    move = ESTIMATORS[estimator]
    for _ in range(steps):
        here = x.detach().repeat(_DRAWS, 1)
        draws = torch.rand(len(here), generator=generator, dtype=torch.float64)
        t = _LEVELS[0] + (_LEVELS[1] - _LEVELS[0]) * draws
        noise = torch.randn(here.shape, generator=generator, dtype=torch.float64)
        alpha, sigma = (scale[:, None] for scale in alpha_sigma(t))
        x_t = alpha * here + sigma * noise
        update = move(
            predicted_noise(x_t, t, with_text, SPREAD),
            predicted_noise(x_t, t, without, SPREAD),
            predicted_noise(x_t, t, x.detach(), 0.0),
            noise,
            t,
        )
        x.grad = (sigma**2 * update).view(_DRAWS, points, 2).mean(0)
        optimizer.step()
        with torch.no_grad():
            x.clamp_(-BOUND, BOUND)
        path.append(x.detach().clone())
    return torch.stack(path)


def ending(estimator: str, path: Tensor) -> Ending:
    """Describe the end of a path."""
    last = path[-1]
    modes = torch.tensor(TEXT_MODES, dtype=last.dtype)
    other = torch.tensor(OTHER_MODE, dtype=last.dtype)
    distances = (last[:, None] - modes).norm(dim=-1)
    nearest, which = distances.min(1)
    near = nearest < _NEAR
    counts = torch.bincount(which[near], minlength=2)
    return Ending(
        estimator=estimator,
        on_text_modes=float(near.double().mean()),
        on_other_mode=float(((last - other).norm(dim=-1) < _NEAR).double().mean()),
        at_bounds=float((last.abs().amax(1) >= BOUND).double().mean()),
        balance=float(counts.min() / counts.sum()) if near.any() else None,
        spread=float(nearest[near].mean()) if near.any() else None,
    )


def draw_paths(paths: dict[str, Tensor], edge: int = 220) -> Image.Image:
    """A panel an estimator: modes as circles (the text's filled), paths grey, ends red."""
    sheet = Image.new("RGB", (edge * len(paths), edge + 18), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, path) in enumerate(paths.items()):

        def place(point: Tensor, left: int = index * edge) -> tuple[float, float]:
            x, y = ((point / BOUND * 0.96 + 1) / 2 * edge).tolist()
            return left + x, 18 + edge - y

        draw.text((index * edge + 4, 4), name, fill="black")
        draw.rectangle((index * edge, 18, (index + 1) * edge - 1, edge + 17), outline="black")
        for mode, fill in (*((mode, "#b5e0b5") for mode in TEXT_MODES), (OTHER_MODE, "white")):
            x, y = place(torch.tensor(mode))
            radius = 2 * SPREAD / BOUND * edge / 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill, "green")
        for point in range(path.shape[1]):
            draw.line([place(step) for step in path[::10, point]], fill="#b0b0b0")
        for point in range(path.shape[1]):
            x, y = place(path[-1, point])
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), "red")
    return sheet


def main(
    points: Annotated[int, typer.Option(help="Of each estimator.")] = 64,
    picture: Annotated[Path | None, typer.Option(help="PNG file for the paths.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Let each estimator move points in the mixture and say where they end."""
    paths = {name: run(name, points) for name in ESTIMATORS}
    table = Table("estimator", "text's modes", "other mode", "at bounds", "balance", "spread")
    for name, path in paths.items():
        found = ending(name, path)
        if as_json:
            print(json.dumps(asdict(found)))
        table.add_row(
            name,
            *(
                f"{share:.0%}"
                for share in (found.on_text_modes, found.on_other_mode, found.at_bounds)
            ),
            *("-" if value is None else f"{value:.2f}" for value in (found.balance, found.spread)),
        )
    if not as_json:
        Console().print(table)
    if picture is not None:
        write_atomic(picture, png_bytes(np.asarray(draw_paths(paths))))


if __name__ == "__main__":
    typer.run(main)
