# SPDX-License-Identifier: Apache-2.0
"""Cameras: sampling from ranges, rays, projection, view-dependent prompts and lights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsmith.request import CameraRanges, Interval

NEAR = 0.1
FAR = 20.0
VIEW_PHRASES = ("front view", "side view", "back view", "overhead view")
# Left and right are the object's own.
_SECTORS = (
    "front",
    "front left",
    "left side",
    "back left",
    "back",
    "back right",
    "right side",
    "front right",
)
# By the lowest elevation in degrees; by the least distance times the tangent of half the fov, of
# which the radius of what is seen is the reciprocal.
_HEIGHTS = ((-90.0, "low"), (10.0, ""), (35.0, "high"), (60.0, "overhead"))
_SIZES = ((0.0, "near"), (1.0, ""), (1.25, "far"))


@dataclass(frozen=True)
class Cameras:
    """A batch of B pinhole cameras with square pixels, all looking at the origin.

    Attributes:
        azimuth: radians, shape (B,); 0 is the camera at -Y, growing towards +X.
        elevation: radians from the horizon, shape (B,).
        distance: to the origin, shape (B,).
        fov: vertical field of view in radians, shape (B,).
    """

    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    fov: Tensor

    @classmethod
    def from_degrees(
        cls, azimuth: Tensor, elevation: Tensor, distance: Tensor, fov: Tensor
    ) -> Cameras:
        """Cameras from angles in degrees, each of shape (B,)."""
        return cls(torch.deg2rad(azimuth), torch.deg2rad(elevation), distance, torch.deg2rad(fov))

    def __len__(self) -> int:
        """The number of cameras B."""
        return self.azimuth.shape[0]

    def select(self, rows: Tensor) -> Cameras:
        """The cameras of some rows, in their order, by index, shape (N,)."""
        return Cameras(
            self.azimuth[rows], self.elevation[rows], self.distance[rows], self.fov[rows]
        )

    @property
    def position(self) -> Tensor:
        """Camera centres in the world, shape (B, 3)."""
        horizontal = torch.cos(self.elevation)
        direction = torch.stack(
            (
                torch.sin(self.azimuth) * horizontal,
                -torch.cos(self.azimuth) * horizontal,
                torch.sin(self.elevation),
            ),
            dim=-1,
        )
        return direction * self.distance[:, None]

    @property
    def rotation(self) -> Tensor:
        """World from camera, shape (B, 3, 3); columns: right, up, backward (OpenGL, Blender)."""
        backward = self.position / self.distance[:, None]
        # Derived from the azimuth, so that it is well defined straight above and below too.
        right = torch.stack(
            (torch.cos(self.azimuth), torch.sin(self.azimuth), torch.zeros_like(self.azimuth)), -1
        )
        up = torch.linalg.cross(backward, right)
        return torch.stack((right, up, backward), dim=-1)

    @property
    def camera_to_world(self) -> Tensor:
        """Homogeneous transforms, shape (B, 4, 4)."""
        matrix = torch.eye(4, dtype=self.azimuth.dtype, device=self.azimuth.device)
        matrix = matrix.repeat(len(self), 1, 1)
        matrix[:, :3, :3] = self.rotation
        matrix[:, :3, 3] = self.position
        return matrix

    def rays(self, resolution: int) -> tuple[Tensor, Tensor]:
        """Rays through the pixel centres of a square image, row 0 at the top.

        Returns:
            origins, shape (B, R, R, 3), and unit directions, shape (B, R, R, 3).
        """
        steps = (torch.arange(resolution, dtype=self.fov.dtype, device=self.fov.device) + 0.5) / (
            resolution / 2
        ) - 1
        y, x = torch.meshgrid(-steps, steps, indexing="ij")
        half = torch.tan(self.fov / 2)[:, None, None]
        local = torch.stack((x * half, y * half, -torch.ones_like(x * half)), dim=-1)
        directions = torch.einsum("bij,bhwj->bhwi", self.rotation, local)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        return self.position[:, None, None].expand_as(directions), directions

    def clip_from_world(self) -> Tensor:
        """Perspective projections in OpenGL's convention (clip z in [-w, w]), shape (B, 4, 4)."""
        focal = 1 / torch.tan(self.fov / 2)
        projection = torch.zeros(len(self), 4, 4, dtype=focal.dtype, device=focal.device)
        projection[:, 0, 0] = focal
        projection[:, 1, 1] = focal
        projection[:, 2, 2] = -(FAR + NEAR) / (FAR - NEAR)
        projection[:, 2, 3] = -2 * FAR * NEAR / (FAR - NEAR)
        projection[:, 3, 2] = -1
        return projection @ torch.linalg.inv(self.camera_to_world)


def sample_cameras(
    ranges: CameraRanges, count: int, generator: torch.Generator, group: int = 1
) -> Cameras:
    """Draw ``count`` cameras from the ranges.

    Azimuth is stratified over the batch; elevation is drawn, with equal chances, uniformly in
    angle or uniformly on the sphere (as threestudio does), so that neither pole nor horizon
    starves.

    Args:
        ranges: to draw from.
        count: of cameras, a multiple of ``group``.
        generator: on the CPU.
        group: so many cameras next to each other differ in azimuth only, by equal steps through
            its range, as multi-view priors want them.
    """
    drawn = _sample_cameras(ranges, count // group, generator, group)
    if group == 1:
        return drawn
    azimuths = ranges.azimuth_degrees
    step = math.radians(azimuths.high - azimuths.low) / group
    turns = step * torch.arange(group).repeat(count // group)
    return Cameras(
        drawn.azimuth.repeat_interleave(group) + turns,
        drawn.elevation.repeat_interleave(group),
        drawn.distance.repeat_interleave(group),
        drawn.fov.repeat_interleave(group),
    )


def _sample_cameras(
    ranges: CameraRanges, count: int, generator: torch.Generator, parts: int
) -> Cameras:
    """Cameras with an azimuth in the first of equal ``parts`` of its range."""

    def uniform(interval: Interval) -> Tensor:
        draw = torch.rand(count, generator=generator)
        return interval.low + (interval.high - interval.low) * draw

    azimuths = ranges.azimuth_degrees
    strata = (
        torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)
    ) / count
    azimuth = azimuths.low + (azimuths.high - azimuths.low) / parts * strata
    by_angle = uniform(ranges.elevation_degrees)
    low, high = (
        math.sin(math.radians(end))
        for end in (ranges.elevation_degrees.low, ranges.elevation_degrees.high)
    )
    on_sphere = torch.rad2deg(
        torch.asin((low + (high - low) * torch.rand(count, generator=generator)).clamp(-1, 1))
    )
    elevation = torch.where(torch.rand(count, generator=generator) < 0.5, by_angle, on_sphere)
    return Cameras.from_degrees(
        azimuth, elevation, uniform(ranges.distance), uniform(ranges.fov_degrees)
    )


def view_phrase(azimuth_degrees: float, elevation_degrees: float) -> str:
    """The words a view-dependent prompt gets (DreamFusion section 3.2)."""
    if elevation_degrees > 60.0:
        return "overhead view"
    azimuth = abs((azimuth_degrees + 180.0) % 360.0 - 180.0)
    if azimuth < 45.0:
        return "front view"
    return "back view" if azimuth > 135.0 else "side view"


def view_phrases(cameras: Cameras) -> list[str]:
    """`view_phrase` of each camera, length B."""
    azimuths = torch.rad2deg(cameras.azimuth).tolist()
    elevations = torch.rad2deg(cameras.elevation).tolist()
    return [view_phrase(*angles) for angles in zip(azimuths, elevations, strict=True)]


def exact_view_phrases(cameras: Cameras) -> list[str]:
    """What each camera sees of an object, more exactly: ``near high front left view``, length B.

    For priors that were trained on such words (`Prior.exact_views`). With the four of `view_phrase`
    alone a prior cannot know which side is meant, nor how large the object is, and its opinion is
    the mean over all of them: too large, too round.
    """
    azimuths = torch.rad2deg(cameras.azimuth)
    elevations = torch.rad2deg(cameras.elevation).tolist()
    sizes = (cameras.distance * torch.tan(cameras.fov / 2)).tolist()
    sectors = torch.round(azimuths / 45).long().remainder(len(_SECTORS)).tolist()
    return [
        _exact_view_phrase(_band(_SIZES, size), _band(_HEIGHTS, elevation), _SECTORS[sector])
        for size, elevation, sector in zip(sizes, elevations, sectors, strict=True)
    ]


def _exact_view_phrase(size: str, height: str, sector: str) -> str:
    return " ".join(word for word in (size, height, sector, "view") if word)


EXACT_VIEW_PHRASES = tuple(
    _exact_view_phrase(size, height, sector)
    for _, size in _SIZES
    for _, height in _HEIGHTS
    for sector in _SECTORS
)


def _band(bands: tuple[tuple[float, str], ...], value: float) -> str:
    """The name of the last band that begins at or below a value; the first where none does."""
    return next((name for begin, name in reversed(bands) if value >= begin), bands[0][1])


def sample_light_directions(cameras: Cameras, generator: torch.Generator, group: int = 1) -> Tensor:
    """Unit vectors from the object to a distant light near each camera, shape (B, 3).

    Each ``group`` of cameras has its offset from camera to light in common (MVDream's code).
    DreamFusion (section 3.1) draws the light around the camera; so does the renderer that made the
    bundled prior's training images.
    """
    toward = cameras.position / cameras.distance[:, None]
    offset = 0.5 * torch.randn(len(cameras) // group, 3, generator=generator)
    light = toward + offset.repeat_interleave(group, 0)
    # Light from above is what people and photographs are used to.
    light = light + torch.tensor((0.0, 0.0, 0.3))
    return light / light.norm(dim=-1, keepdim=True)


def preview_camera(ranges: CameraRanges) -> Cameras:
    """One camera a little to the right of the range's middle: three-quarter views tell most."""

    def within(interval: Interval, share: float) -> Tensor:
        return torch.tensor([interval.low + share * (interval.high - interval.low)])

    return Cameras.from_degrees(
        within(ranges.azimuth_degrees, 0.58),
        within(ranges.elevation_degrees, 0.5),
        within(ranges.distance, 0.5),
        within(ranges.fov_degrees, 0.5),
    )
