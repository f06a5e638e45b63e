# SPDX-License-Identifier: Apache-2.0
"""How fast the surface's operations are, beside other programs on the same work in the same run.

Rasterising and baking against rays cast by Intel's Embree, marching against scikit-image's marching
cubes. Both come with the development extras; where one is missing its rows say so. Times of this
process on this machine: what they are good for are the ratios, and how they grow.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor

from dreamsmith.asset.mesh import decimate
from dreamsmith.asset.model import Mesh
from dreamsmith.cameras import Cameras
from dreamsmith.kernels.rasterize import select_rasterizer
from dreamsmith.surface.band import BAND_LAYERS, find_band
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.render import clip_positions
from dreamsmith.surface.tetrahedra import TetrahedralGrid, body_centred_grid
from dreamsmith.texture.atlas import unwrap
from dreamsmith.texture.bake import texels_of

Points = NDArray[np.float64]

_RESOLUTIONS = (128, 256, 512)
_FACES = (2_000, 10_000, 50_000)
_CELLS = (32, 64, 128)
# Finer grids whole would fill the memory of a small machine.
_LARGEST_WHOLE = 64
_TEXTURES = (512, 1024, 2048)
_BAKED_FACES = 8_000
_LEAST_SECONDS = 0.2
_LEAST_RUNS = 3


@dataclass(frozen=True)
class Timing:
    """One operation at one size.

    Attributes:
        operation: its name.
        size: of the work.
        milliseconds: ours, the best of several runs.
        peer: what it is compared with; empty where there is nothing.
        peer_milliseconds: of that on the same work; None where it is not installed.
    """

    operation: str
    size: str
    milliseconds: float
    peer: str = ""
    peer_milliseconds: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as long the peer takes."""
        return self.peer_milliseconds / self.milliseconds if self.peer_milliseconds else None


def bench_surface() -> Iterator[Timing]:
    """Time everything, one row after the other."""
    yield from _rasterising()
    yield from _marching()
    yield from _baking()


def _rasterising() -> Iterator[Timing]:
    rasterizer = select_rasterizer("cpu")
    camera = Cameras.from_degrees(*(torch.tensor([v]) for v in (30.0, 20.0, 2.6, 45.0)))
    work = [(_FACES[1], resolution) for resolution in _RESOLUTIONS]
    work += [(faces, _RESOLUTIONS[-1]) for faces in (_FACES[0], _FACES[2])]
    for faces, resolution in work:
        mesh = _torus(faces)
        vertices, triangles = torch.from_numpy(mesh.positions), torch.from_numpy(mesh.triangles)
        size = (resolution, resolution)

        def ours(
            vertices: Tensor = vertices, triangles: Tensor = triangles, size: tuple[int, int] = size
        ) -> None:
            clip = clip_positions(vertices, camera)
            rasterizer.interpolate(vertices, rasterizer.rasterize(clip, triangles, size), triangles)

        def ours_with_gradient(
            vertices: Tensor = vertices, triangles: Tensor = triangles, size: tuple[int, int] = size
        ) -> None:
            leaf = vertices.clone().requires_grad_()
            clip = clip_positions(leaf, camera)
            rast = rasterizer.rasterize(clip, triangles, size)
            seen = rasterizer.interpolate(leaf, rast, triangles)
            rasterizer.antialias(seen, rast, clip, triangles).sum().backward()

        origins, directions = (
            rays.reshape(-1, 3).double().numpy() for rays in camera.rays(resolution)
        )

        def rays(
            mesh: Mesh = mesh, origins: Points = origins, directions: Points = directions
        ) -> None:
            # A mesh that is optimised is another one at every step: its tree is part of the work.
            scene = trimesh.Trimesh(mesh.positions, mesh.triangles, process=False)
            scene.ray.intersects_location(origins, directions, multiple_hits=False)

        label = f"{len(mesh.triangles)} faces, {resolution} x {resolution}"
        peer = _milliseconds(rays) if _installed("embreex") else None
        yield Timing("rasterise", label, _milliseconds(ours), "embree rays", peer)
        yield Timing("  and gradients", label, _milliseconds(ours_with_gradient))


def _marching() -> Iterator[Timing]:
    for cells in _CELLS:
        peer, cubes = _marching_cubes(cells)
        # From sixteen cells on, each level of cells is cut from one of twice the size.
        band, near = find_band(_distance, cells, _CELLS[0] // 2, 1.0, BAND_LAYERS)
        grids = [("band", band, near)]
        if cells <= _LARGEST_WHOLE:
            whole = body_centred_grid(cells)
            grids.append(("whole grid", whole, _distance(whole.vertices)))
        for name, grid, values in grids:

            def ours(grid: TetrahedralGrid = grid, values: Tensor = values) -> int:
                return len(marching_tetrahedra(grid.vertices, values, grid.tetrahedra)[1])

            faces = f"{ours()} faces" + (f", the other's {cubes}" if cubes else "")
            label = f"{cells} cells, {len(grid.tetrahedra)} tetrahedra, {faces}"
            yield Timing(f"marching, {name}", label, _milliseconds(ours), "marching cubes", peer)


def _marching_cubes(cells: int) -> tuple[float | None, int]:
    """How long marching cubes take over as many cells, and how many triangles they give."""
    if not _installed("skimage"):
        return None, 0
    from skimage.measure import marching_cubes

    axis = torch.linspace(-1, 1, cells + 1)
    values = _distance(torch.cartesian_prod(axis, axis, axis)).reshape([cells + 1] * 3).numpy()
    return _milliseconds(lambda: marching_cubes(values, 0.0)), len(marching_cubes(values, 0.0)[1])


def _baking() -> Iterator[Timing]:
    mesh = unwrap(_torus(_BAKED_FACES), _TEXTURES[0])
    corners = mesh.positions[mesh.triangles]
    assert mesh.corner_uv is not None  # noqa: S101  # `unwrap` has made them.
    flat = np.concatenate((mesh.corner_uv, np.zeros_like(mesh.corner_uv[..., :1])), -1)
    for size in _TEXTURES:
        axis = (np.arange(size) + 0.5) / size
        places = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        origins = np.concatenate((places, np.ones((size**2, 1))), 1)
        down = np.broadcast_to([0.0, 0.0, -1.0], origins.shape)

        def rays(origins: Points = origins, down: Points = down) -> None:
            scene = trimesh.Trimesh(
                flat.reshape(-1, 3), np.arange(flat.shape[0] * 3).reshape(-1, 3), process=False
            )
            where, _, faces = scene.ray.intersects_location(origins, down, multiple_hits=False)
            weights = trimesh.triangles.points_to_barycentric(scene.triangles[faces], where)
            np.einsum("nk,nkd->nd", weights, corners[faces])

        yield Timing(
            "places of texels",
            f"{len(mesh.triangles)} faces, {size} x {size}",
            _milliseconds(lambda size=size: texels_of(mesh, corners, size)),  # type: ignore[misc]
            "embree rays",
            _milliseconds(rays) if _installed("embreex") else None,
        )


def _distance(points: Tensor) -> Tensor:
    ring = points[:, :2].norm(dim=-1) - 0.55
    # The small number keeps the level off the grid's own vertices.
    return torch.stack((ring, points[:, 2]), -1).norm(dim=-1) - 0.25 + 1e-4


def _torus(faces: int) -> Mesh:
    """A torus of about so many triangles, as the surface stage makes them."""
    cells = 24
    while True:
        grid, values = find_band(_distance, cells, cells // 2, 1.0, 1)
        positions, triangles = marching_tetrahedra(grid.vertices, values, grid.tetrahedra)
        if len(triangles) >= faces:
            break
        cells += 8
    mesh = Mesh(positions.numpy(), triangles.to(torch.int32).numpy())
    return decimate(mesh, faces)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _milliseconds(work: Callable[[], object]) -> float:
    """The least disturbed of several runs, after one that compiles and fills caches."""
    work()
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < _LEAST_SECONDS:
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return 1000 * min(taken)
