# SPDX-License-Identifier: Apache-2.0
"""Meshes of known solids, as the surface stage makes them."""

from __future__ import annotations

import numpy as np
import torch
from surface.analytic import Solid, sphere, torus

from dreamsmith.asset.model import Mesh
from dreamsmith.asset.shape import Shape, measure_shape
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.tetrahedra import body_centred_grid

__all__ = ["Solid", "joined", "mesh_of", "moved", "shape_of", "sphere", "torus"]


def mesh_of(solid: Solid, cells: int = 20) -> Mesh:
    grid = body_centred_grid(cells)
    # The small number keeps the level off the grid's own vertices.
    vertices, triangles = marching_tetrahedra(
        grid.vertices, solid.distance(grid.vertices) + 1e-4, grid.tetrahedra
    )
    return Mesh(vertices.numpy(), triangles.to(torch.int32).numpy())


def shape_of(mesh: Mesh) -> Shape:
    return measure_shape(mesh.positions, mesh.triangles, weld=False)


def moved(mesh: Mesh, scale: float, offset: tuple[float, float, float]) -> Mesh:
    positions = (mesh.positions * scale + np.array(offset)).astype(np.float32)
    return Mesh(positions, mesh.triangles, mesh.corner_uv, mesh.colors)


def joined(*meshes: Mesh) -> Mesh:
    counts = np.cumsum([0, *(len(mesh.positions) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.positions for mesh in meshes]),
        np.concatenate(
            [mesh.triangles + count for mesh, count in zip(meshes, counts, strict=False)]
        ).astype(np.int32),
    )
