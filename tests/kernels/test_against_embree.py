# SPDX-License-Identifier: Apache-2.0
"""Pictures of the rasteriser against rays through the same pixels, cast by Intel's Embree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from dreamsmith.kernels.rasterize import Rasterizer
from dreamsmith.surface.regularise import vertex_normals
from dreamsmith.surface.render import render_surface
from kernels.test_rasterize import BOTH, CAMERAS, torus

pytest.importorskip("embreex", reason="embreex, the independent renderer, is not installed")

RESOLUTION = 64


@BOTH
def test_triangle_place_and_normal_at_each_pixel_are_those_that_a_ray_finds(
    rasterizer: Rasterizer,
) -> None:
    vertices, triangles = torus(12)
    # A second body behind and beside the first hides parts of it and is hidden.
    vertices = torch.cat((vertices, vertices * 0.5 + torch.tensor([0.5, 0.4, 0.1])))
    triangles = torch.cat((triangles, triangles + len(vertices) // 2))
    buffers = render_surface(rasterizer, vertices, triangles, CAMERAS, RESOLUTION)
    scene = trimesh.Trimesh(vertices.numpy(), triangles.numpy(), process=False)
    assert type(scene.ray).__module__.endswith("ray_pyembree")
    origins, directions = (
        each.reshape(len(CAMERAS), -1, 3).double() for each in CAMERAS.rays(RESOLUTION)
    )
    normals = vertex_normals(vertices, triangles).double().numpy()
    for view in range(len(CAMERAS)):
        locations, rays, faces = scene.ray.intersects_location(
            origins[view].numpy(), directions[view].numpy(), multiple_hits=False
        )
        hit = np.zeros(RESOLUTION**2, bool)
        hit[rays] = True
        covered = buffers.covered[view].reshape(-1).numpy()
        # They may disagree where a ray grazes an outline, and nowhere else.
        assert (hit ^ covered).mean() < 0.001
        place = np.zeros((RESOLUTION**2, 3))
        place[rays] = locations
        index = np.full(RESOLUTION**2, -1)
        index[rays] = faces
        shown = buffers.rast[view].reshape(-1, 4)[:, 3].long().numpy() - 1
        # Row 0 is the top in both.
        both = hit & covered
        same = both & (shown == index)
        assert same.sum() > 0.99 * both.sum()
        found = buffers.position[view].permute(1, 2, 0).reshape(-1, 3).numpy()
        assert np.abs(found[same] - place[same]).max() < 2e-5
        weights = trimesh.triangles.points_to_barycentric(scene.triangles[index[same]], place[same])
        expected = np.einsum("nk,nkd->nd", weights, normals[triangles.numpy()[index[same]]])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        smooth = buffers.normal[view].permute(1, 2, 0).reshape(-1, 3).numpy()
        assert np.abs(smooth[same] - expected).max() < 1e-3
