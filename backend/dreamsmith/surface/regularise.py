# SPDX-License-Identifier: Apache-2.0
"""Regularisers of surfaces: smooth normals, even vertices, no stray changes of sign."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize


def face_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals, outward for counter-clockwise triangles, shape (F, 3)."""
    a, b, c = vertices[triangles].unbind(1)
    return normalize(torch.linalg.cross(b - a, c - a), dim=-1, eps=1e-20)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals averaged over the triangles around each vertex by their area, shape (V, 3)."""
    a, b, c = vertices[triangles].unbind(1)
    weighted = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in triangles.unbind(1):
        total = total.index_add(0, corner, weighted)
    return normalize(total, dim=-1, eps=1e-20)


def normal_consistency(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mean of ``1 - cos`` of the angle between neighbouring faces: 0 for a plane.

    Of face normals, as nvdiffrec has it (Munkberg et al. 2022); threestudio's is of vertex
    normals, and its weights do not transfer.

    Args:
        vertices: shape (V, 3).
        triangles: int64, shape (F, 3), closed: each edge in two of them.
    """
    pairs = _neighbouring_faces(triangles)
    normals = face_normals(vertices, triangles)
    return (1 - (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(-1)).mean()


def laplacian(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mean distance of a vertex from the mean of its neighbours (uniform Laplacian).

    Args:
        vertices: shape (V, 3).
        triangles: int64, shape (F, 3), closed.
    """
    total = torch.zeros_like(vertices)
    degree = torch.zeros_like(vertices[:, :1])
    # A closed mesh has each edge once in either direction, so following each corner to the next
    # visits each neighbour once.
    for start, end in ((0, 1), (1, 2), (2, 0)):
        source = triangles[:, start]
        total = total.index_add(0, source, vertices[triangles[:, end]])
        degree = degree.index_add(0, source, torch.ones_like(vertices[source, :1]))
    # The small number keeps the gradient of the norm finite where it vanishes.
    offset = total / degree.clamp_min(1) - vertices
    return (offset.square().sum(-1) + 1e-16).sqrt().mean()


def sign_change(signed_distance: Tensor, edges: Tensor) -> Tensor:
    """Cross entropy between the ends of edges whose signs differ (nvdiffrec, equation 2).

    Pulls both ends towards the other's sign, which removes surfaces that nothing else wants;
    0 when no edge changes sign.

    Args:
        signed_distance: shape (N,).
        edges: int64, shape (E, 2).
    """
    inside = signed_distance.detach() < 0
    mixed = edges[inside[edges[:, 0]] != inside[edges[:, 1]]]
    if len(mixed) == 0:
        return signed_distance.sum() * 0
    first, second = signed_distance[mixed[:, 0]], signed_distance[mixed[:, 1]]
    outside = (~inside).to(signed_distance.dtype)
    return binary_cross_entropy_with_logits(
        first, outside[mixed[:, 1]]
    ) + binary_cross_entropy_with_logits(second, outside[mixed[:, 0]])


def _neighbouring_faces(triangles: Tensor) -> Tensor:
    """The two faces of each edge of a closed mesh, int64, shape (3 F / 2, 2)."""
    start, end = triangles, triangles.roll(-1, 1)
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    keys = (low * (int(triangles.max()) + 1) + high).flatten()
    order = keys.argsort()
    return (order // 3).reshape(-1, 2)
