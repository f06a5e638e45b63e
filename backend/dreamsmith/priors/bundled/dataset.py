# SPDX-License-Identifier: Apache-2.0
"""Training pictures with their prompts: geometry rendered once, everything else drawn per batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dreamsmith.backgrounds import sample_backgrounds
from dreamsmith.cameras import (
    Cameras,
    exact_view_phrases,
    sample_cameras,
    sample_light_directions,
    view_phrases,
)
from dreamsmith.priors.bundled.render import EMPTY, GeometryBuffers, color_table, shade, trace
from dreamsmith.priors.bundled.solids import solid_program
from dreamsmith.priors.bundled.vocabulary import (
    COLORS,
    OBJECTS,
    PATTERNS,
    pattern_color,
    training_prompt,
)
from dreamsmith.request import CameraRanges, Interval

# A little wider than the default ranges of a request, so that their borders are well known.
TRAINING_RANGES = CameraRanges(
    azimuth_degrees=Interval(-180, 180),
    elevation_degrees=Interval(-20, 80),
    distance=Interval(2.2, 3.2),
    fov_degrees=Interval(38, 52),
)
# Drawn as often as the others these are learned last: what is told from a cylinder or a cube by a
# handle, a ridge or rings; what is thin; and black and white, as noise of any tint passes for them.
_DRAWN_MORE_OFTEN = {
    "mug": 4.5,
    "chair": 2.5,
    "table": 2.0,
    "boat": 2.5,
    "house": 2.5,
    "barrel": 1.5,
    "sphere": 2.0,
    "mushroom": 1.5,
    "black": 3.5,
    "white": 2.5,
}
# Share of the views that are said in the plain words that people use.
_PLAIN_VIEWS = 0.25
_BUFFER_RESOLUTION = 128
_CHUNK = 50


@dataclass(frozen=True)
class Batch:
    """Pictures and what they show.

    Attributes:
        images: shape (B, K, 3, R, R), in [0, 1]: K pictures of what each prompt says, of one paint
            and before one background, each from a camera of the prompt's view phrase.
        prompts: length B.
        objects: index into `OBJECTS`, shape (B,).
        colors: index into `COLORS`, the main colour, shape (B,).
    """

    images: Tensor
    prompts: list[str]
    objects: Tensor
    colors: Tensor


@dataclass(frozen=True)
class _Props:
    """What is drawn of B prompts before light and background; K views of each.

    Attributes:
        prompts: length B.
        objects: index into `OBJECTS`, shape (B,).
        colors: index into `COLORS`, shape (B,).
        rows: of the geometry's buffers, shape (B K,).
        tables: colours as `shade` takes them, shape (B K, 4, 3).
        patterns: as `shade` takes them, shape (B K,).
        ambient: as `shade` takes it, shape (B K,).
    """

    prompts: list[str]
    objects: NDArray[np.int64]
    colors: NDArray[np.int64]
    rows: NDArray[np.int64]
    tables: NDArray[np.float32]
    patterns: NDArray[np.int64]
    ambient: NDArray[np.float32]


class PropDataset:
    """Draws batches of pictures of the vocabulary's props; same seed and step, same batch.

    Geometry is traced once for ``views`` cameras per object (about 160 kB a view); colours,
    patterns, light, backgrounds and words are drawn anew for each batch.
    """

    def __init__(
        self, views: int, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self.seed = seed
        self.views = views
        self.names = list(OBJECTS)
        self._object_shares = _shares(self.names)
        self._color_shares = _shares(list(COLORS))
        generator = torch.Generator().manual_seed(seed)
        total = len(self.names) * views
        shape = (total, _BUFFER_RESOLUTION, _BUFFER_RESOLUTION)
        self._buffers = GeometryBuffers(
            np.empty(shape, np.uint8),
            np.empty((*shape, 3), np.int8),
            np.empty((*shape, 3), np.float16),
        )
        cameras = []
        done = 0
        for name in self.names:
            for start in range(0, views, _CHUNK):
                count = min(_CHUNK, views - start)
                chunk = sample_cameras(TRAINING_RANGES, count, generator)
                traced = trace([solid_program(name)] * count, chunk, _BUFFER_RESOLUTION)
                rows = slice(done, done + count)
                self._buffers.part[rows] = traced.part
                self._buffers.normal[rows] = traced.normal
                self._buffers.position[rows] = traced.position
                cameras.append(chunk)
                done += count
                progress(done, total)
        self._cameras = Cameras(
            *(
                torch.cat([getattr(chunk, name) for chunk in cameras])
                for name in ("azimuth", "elevation", "distance", "fov")
            )
        )
        self._plain = view_phrases(self._cameras)
        self._exact = exact_view_phrases(self._cameras)
        # Which views each phrase is true of, by object.
        self._seen: dict[tuple[int, str], list[int]] = defaultdict(list)
        for row, phrases in enumerate(zip(self._plain, self._exact, strict=True)):
            # The two kinds share words ("front view" may be an exact one, too).
            for kind, phrase in zip(("plain", "exact"), phrases, strict=True):
                self._seen[row // views, f"{kind} {phrase}"].append(row)

    def batch(self, step: int, size: int, resolution: int, references: int = 1) -> Batch:
        """The batch of a step, the same for the same seed.

        Args:
            step: of the training.
            size: prompts, B.
            resolution: of the pictures, a divisor of 128.
            references: pictures of each prompt, K.
        """
        props, generator = self._draw(step, size, references)
        backgrounds = sample_backgrounds(size, resolution, generator).numpy()
        images = self._shade(props, generator, backgrounds.repeat(references, axis=0))
        images = images.reshape(size, references, 3, resolution, resolution)
        return Batch(
            images, props.prompts, torch.from_numpy(props.objects), torch.from_numpy(props.colors)
        )

    def glances(self, step: int, size: int, resolution: int) -> tuple[list[str], Tensor]:
        """Prompts, and what is where in a picture of each, before no background.

        Args:
            step: as in `batch`.
            size: prompts, B.
            resolution: of the pictures, a divisor of 128.

        Returns:
            The prompts, and colour times coverage and the coverage itself, in [0, 1], shape
            (B, 4, R, R).
        """
        props, generator = self._draw(step, size, 1)
        colors = self._shade(
            props, generator, np.zeros((size, 3, resolution, resolution), np.float32)
        )
        covered = torch.from_numpy(self._buffers.part[props.rows] != EMPTY).float()
        coverage = avg_pool2d(covered[:, None], _BUFFER_RESOLUTION // resolution)
        return props.prompts, torch.cat((colors, coverage), dim=1)

    def _draw(self, step: int, size: int, references: int) -> tuple[_Props, torch.Generator]:
        """Objects, paints, words and views of a step's prompts, and what draws the rest of it."""
        random = np.random.default_rng((self.seed, step))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        objects = random.choice(len(self.names), size, p=self._object_shares)
        rows = objects * self.views + random.integers(0, self.views, size)
        colors = list(COLORS)
        main = random.choice(len(colors), size, p=self._color_shares)
        tables: list[NDArray[np.float32]] = []
        patterns = np.zeros(size, np.int64)
        prompts = []
        shown: list[int] = []
        for index, row in enumerate(rows.tolist()):
            name, color = self.names[objects[index]], colors[main[index]]
            second = None
            if OBJECTS[name] is not None and random.random() < 0.35:
                second = str(random.choice(colors))
            if random.random() < 0.2:
                patterns[index] = 1 + int(random.integers(0, len(PATTERNS)))
            pattern = PATTERNS[patterns[index] - 1] if patterns[index] else None
            table = color_table(color, second or color, pattern_color(color))
            # No two paints are alike; the word covers a neighbourhood.
            paint = (table + random.normal(0, 0.015, table.shape)).clip(0, 1)
            tables += [paint] * references
            is_plain = random.random() < _PLAIN_VIEWS
            seen = self._plain[row] if is_plain else self._exact[row]
            prompts.append(training_prompt(random, name, color, second, pattern, seen))
            alike = self._seen[int(objects[index]), f"{'plain' if is_plain else 'exact'} {seen}"]
            shown += [row, *random.choice(alike, references - 1).tolist()]
        ambient = np.where(random.random(size) < 0.2, 1.0, random.uniform(0.3, 0.7, size))
        props = _Props(
            prompts,
            objects,
            main,
            np.array(shown),
            np.stack(tables).astype(np.float32),
            patterns.repeat(references),
            ambient.repeat(references).astype(np.float32),
        )
        return props, generator

    def _shade(
        self, props: _Props, generator: torch.Generator, backgrounds: NDArray[np.float32]
    ) -> Tensor:
        cameras = self._cameras.select(torch.from_numpy(props.rows))
        return shade(
            GeometryBuffers(
                self._buffers.part[props.rows],
                self._buffers.normal[props.rows],
                self._buffers.position[props.rows],
            ),
            props.tables,
            props.patterns,
            sample_light_directions(cameras, generator).numpy(),
            props.ambient,
            backgrounds,
        )


def _shares(words: list[str]) -> NDArray[np.float64]:
    """How often each of the words is drawn, summing to 1."""
    weights = np.array([_DRAWN_MORE_OFTEN.get(word, 1.0) for word in words])
    return weights / weights.sum()
