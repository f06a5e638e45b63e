# SPDX-License-Identifier: Apache-2.0
"""The optimisable surface of DMTet: signed distance and deformation on a tetrahedral grid."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.regularise import face_normals
from dreamsmith.surface.tetrahedra import TetrahedralGrid

TRUNCATION_EDGES = 4.0


class TetrahedralSurface(nn.Module):
    """A closed surface inside a cube (DMTet, Shen et al. 2021, section 3.1).

    The grid is not part of the state, since it is made in code. A surface that faces inward is that
    of a room: its air is the solid, and its triangles are turned round to be seen from within.

    Attributes:
        signed_distance: parameter, shape (N,), world units, negative inside.
        deformation: parameter, shape (N, 3); its tanh times half an edge moves the vertices.
    """

    _vertices: Tensor
    _tetrahedra: Tensor
    _edges: Tensor
    _boundary: Tensor
    _boundary_sign: Tensor
    cells: Tensor
    _first: Tensor

    def __init__(
        self,
        grid: TetrahedralGrid,
        signed_distance: Tensor,
        *,
        faces_inward: bool = False,
        band: float | None = None,
    ) -> None:
        """Begin with signed distances; ``band`` is how far the surface may move from there."""
        super().__init__()
        self._faces_inward = faces_inward
        self._edge_length = grid.edge_length
        # Deformation and distances share the band.
        farthest = grid.edge_length / 2
        self._deformation = farthest if band is None else min(farthest, band / (2 * 3**0.5))
        self._slack = None if band is None else band / 2
        # Buffers, so that they move to a device with the parameters.
        self.register_buffer("_vertices", grid.vertices, persistent=False)
        self.register_buffer("_tetrahedra", grid.tetrahedra, persistent=False)
        self.register_buffer("_edges", grid.edges, persistent=False)
        self.register_buffer("_boundary", grid.boundary, persistent=False)
        # Of a part of a grid, what makes it again; of a whole one, nothing.
        self.register_buffer("_boundary_sign", grid.boundary_sign, persistent=len(grid.cells) > 0)
        self.register_buffer("cells", grid.cells, persistent=len(grid.cells) > 0)
        self.signed_distance = nn.Parameter(signed_distance.to(grid.vertices.dtype).clone())
        self.register_buffer("_first", self.signed_distance.detach().clone(), persistent=False)
        self.deformation = nn.Parameter(torch.zeros_like(grid.vertices))

    @classmethod
    def from_densities(
        cls,
        grid: TetrahedralGrid,
        densities: Tensor,
        threshold: float,
        *,
        faces_inward: bool = False,
    ) -> TetrahedralSurface:
        """Start from the level ``threshold`` of ``densities``, shape (N,), as signed distances.

        Raises:
            ValueError: no grid vertex within the hull is above the threshold, or all are.
        """
        values = level_values(densities.detach().to(grid.vertices), threshold)
        return cls(grid, signed_distances(grid, values), faces_inward=faces_inward)

    @property
    def grid(self) -> TetrahedralGrid:
        """The tetrahedral grid, on the device of the parameters, not deformed."""
        return TetrahedralGrid(
            self._vertices,
            self._tetrahedra,
            self._edges,
            self._boundary,
            self._edge_length,
            self._boundary_sign,
            self.cells,
        )

    def deformed_vertices(self) -> Tensor:
        """The grid's vertices where they are now, shape (N, 3)."""
        return self._vertices + torch.tanh(self.deformation) * self._deformation

    @torch.no_grad()
    def keep_within_band(self) -> None:
        """Take back what moved further than the band, if there is one."""
        if self._slack is not None:
            distance = self.signed_distance
            distance.clamp_(self._first - self._slack, self._first + self._slack)

    def bounded_signed_distance(self) -> Tensor:
        """Signed distances with the sides of the grid's ends held, shape (N,)."""
        return self.grid.pinned(self.signed_distance)

    def reaches_end(self) -> bool:
        """Whether the surface has come to where its part of the grid ends."""
        if len(self.cells) == 0:
            return False
        with torch.no_grad():
            inside = self.bounded_signed_distance() < 0
            first, second = self._edges.unbind(1)
            cut = inside[first] != inside[second]
            return bool((self._boundary[first] | self._boundary[second])[cut].any())

    def extract(self) -> tuple[Tensor, Tensor]:
        """The surface as a closed mesh, with gradients to both parameters.

        Returns:
            vertices, shape (V, 3), and triangles, int64, shape (F, 3), counter-clockwise seen from
            outside, of a room from inside; both empty when nothing is inside.
        """
        vertices, triangles = marching_tetrahedra(
            self.deformed_vertices(), self.bounded_signed_distance(), self._tetrahedra
        )
        return vertices, triangles.flip(1) if self._faces_inward else triangles


def level_values(densities: Tensor, threshold: float) -> Tensor:
    """Values in [-1, 1], shape (N,), negative where ``densities``, not negative, are above a level.

    Densities jump from nothing to hundreds; this ratio is even in the logarithm, so that the level
    falls where it should between two vertices rather than beside the outer one.
    """
    return (threshold - densities) / (threshold + densities).clamp_min(1e-12)


def signed_distances(grid: TetrahedralGrid, values: Tensor) -> Tensor:
    """Signed distance to the zero level of ``values``, shape (N,); negative where they are.

    Distances are to the nearest face centre of the level's mesh; close to it along its normal,
    which is exact to second order; at most `TRUNCATION_EDGES` edges.

    Args:
        grid: vertices on its hull are outside.
        values: shape (N,), negative inside.

    Raises:
        ValueError: the level is empty.
    """
    values = grid.pinned(values.detach().to(grid.vertices.dtype))
    positions, triangles = marching_tetrahedra(grid.vertices, values, grid.tetrahedra)
    if len(triangles) == 0:
        raise ValueError("the level is empty: no grid vertex within the hull is inside")
    centres = positions[triangles].mean(1)
    normals = face_normals(positions, triangles)
    # Looking no further is ten times faster.
    longest = TRUNCATION_EDGES * grid.edge_length
    found, nearest = cKDTree(centres.cpu().numpy()).query(
        grid.vertices.cpu().numpy(), distance_upper_bound=longest
    )
    near = torch.from_numpy(np.isfinite(found)).to(values.device)
    nearest = torch.from_numpy(nearest).to(values.device)[near]
    offset = grid.vertices[near] - centres[nearest]
    along = (offset * normals[nearest]).sum(-1).abs()
    straight = offset.norm(dim=-1)
    distance = torch.full_like(values, longest)
    # The normal helps only where the vertex is over the face.
    distance[near] = torch.where(straight < 2 * grid.edge_length, along, straight)
    # Never zero, so that the sign survives.
    distance = distance.clamp_min(1e-3 * grid.edge_length)
    return torch.where(values < 0, -distance, distance)
