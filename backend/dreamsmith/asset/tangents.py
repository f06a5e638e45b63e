# SPDX-License-Identifier: Apache-2.0
"""The frame in which a tangent-space normal map says its directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dreamsmith.asset.model import Mesh


def corner_tangents(
    mesh: Mesh, corner_normals: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tangents as MikkTSpace has them, which glTF prescribes and Blender computes.

    Mikkelsen 2008, "Simulation of Wrinkled Surfaces Revisited": of a vertex, the mean of its
    triangles' directions of growing u, in the plane of its normal, weighted by angle, over the
    triangles that share normal and UV there and are not mirrored against each other.

    Args:
        mesh: with ``corner_uv``.
        corner_normals: unit vectors, shape (F, 3, 3).

    Returns:
        unit tangents (F, 3, 3), and of each triangle the sign s (F,), 1 or -1, of the bitangent
        ``s * cross(normal, tangent)``, which points towards growing v.

    Raises:
        ValueError: the mesh has no UVs.
    """
    if mesh.corner_uv is None:
        raise ValueError("the mesh has no UVs: unwrap it first")
    corners = mesh.positions[mesh.triangles].astype(np.float64)
    uv = mesh.corner_uv.astype(np.float64)
    normals = corner_normals.astype(np.float64)
    edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (s1, t1), (s2, t2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    sign = np.where(s1 * t2 - s2 * t1 > 0, 1.0, -1.0)
    growing_u = sign[:, None] * (t2[:, None] * edge - t1[:, None] * other)

    flat = _unit(_in_plane(growing_u[:, None], normals))
    towards_next = _unit(_in_plane(np.roll(corners, -1, 1) - corners, normals))
    towards_last = _unit(_in_plane(np.roll(corners, 1, 1) - corners, normals))
    angle = np.arccos((towards_next * towards_last).sum(-1).clip(-1, 1))

    keys = np.concatenate(
        (
            mesh.triangles[..., None].astype(np.float64),
            uv,
            normals,
            np.broadcast_to(sign[:, None, None], (*flat.shape[:2], 1)),
        ),
        -1,
    )
    _, vertex = np.unique(keys.reshape(-1, keys.shape[-1]), axis=0, return_inverse=True)
    vertex = vertex.reshape(-1)
    weighted = (angle[..., None] * flat).reshape(-1, 3)
    sums = np.zeros((vertex.max() + 1, 3))
    np.add.at(sums, vertex, weighted)
    tangents = _unit(sums)[vertex].reshape(flat.shape)
    # Triangles without area in the atlas have no direction of u; any in the plane will do.
    lost = np.square(tangents).sum(-1) < 0.5
    tangents[lost] = _any_in_plane(normals[lost])
    return tangents, sign


def _in_plane(vectors: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    along = (vectors * normals).sum(-1, keepdims=True)
    left: NDArray[np.float64] = vectors - along * normals
    return left


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Vectors of length 1, or 0 where there is no direction."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.where(length > 1e-30, length, np.inf)
    return unit


def _any_in_plane(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    axis = np.eye(3)[np.abs(normals).argmin(-1)]
    return _unit(_in_plane(axis, normals))
