# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dreamsmith.cameras import Cameras
from dreamsmith.errors import InvalidRequest
from dreamsmith.kernels.rasterize import Rasterizer, TorchRasterizer, select_rasterizer
from dreamsmith.kernels.rasterize_numba import NumbaRasterizer
from dreamsmith.surface.marching import marching_tetrahedra
from dreamsmith.surface.render import clip_positions
from dreamsmith.surface.tetrahedra import body_centred_grid

BOTH = pytest.mark.parametrize(
    "rasterizer", [TorchRasterizer(), NumbaRasterizer()], ids=["torch", "numba"]
)
CAMERAS = Cameras.from_degrees(
    torch.tensor([20.0, 160.0]),
    torch.tensor([30.0, -15.0]),
    torch.tensor([2.6, 2.4]),
    torch.tensor([45.0, 50.0]),
)


def torus(cells: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    grid = body_centred_grid(cells)
    ring = grid.vertices[:, :2].norm(dim=-1) - 0.55
    distance = (ring**2 + grid.vertices[:, 2] ** 2).sqrt() - 0.25
    vertices, triangles = marching_tetrahedra(grid.vertices, distance, grid.tetrahedra)
    return vertices.to(dtype), triangles


def finite_differences(function: Callable[[Tensor], Tensor], at: Tensor, places: Tensor) -> Tensor:
    """Central differences of a scalar at some flat places of its argument."""
    step = 1e-6
    values = []
    for place in places.tolist():
        moved = []
        for sign in (1, -1):
            other = at.detach().clone()
            other.view(-1)[place] += sign * step
            moved.append(function(other).detach())
        values.append((moved[0] - moved[1]) / (2 * step))
    return torch.stack(values)


def assert_gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> None:
    at = at.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(at), at)
    flat = gradient.reshape(-1)
    places = flat.abs().topk(4).indices
    expected = finite_differences(function, at, places)
    assert float(flat[places].abs().max()) > 0
    torch.testing.assert_close(flat[places], expected, rtol=1e-5, atol=1e-6)


@BOTH
def test_one_triangle_has_its_exact_weights_and_depth(rasterizer: Rasterizer) -> None:
    # Perspective: w differs from corner to corner.
    corners = torch.tensor(
        [[-0.9, -0.8, 0.1, 1.0], [1.7, -1.5, 0.4, 2.0], [0.1, 1.2, -0.3, 1.5]]
    ).double()
    rast = rasterizer.rasterize(corners[None], torch.tensor([[0, 1, 2]]), (8, 10))
    hit = rast[0, 3, 4]
    u, v = float(hit[0]), float(hit[1])
    point = u * corners[0] + v * corners[1] + (1 - u - v) * corners[2]
    # Row 3 of 8 and column 4 of 10, from the bottom left, by their centres.
    assert float(point[0] / point[3]) == pytest.approx(2 * 4.5 / 10 - 1)
    assert float(point[1] / point[3]) == pytest.approx(2 * 3.5 / 8 - 1)
    assert float(hit[2]) == pytest.approx(float(point[2] / point[3]))
    assert float(hit[3]) == 1
    assert bool((rast[0, 7, 0] == 0).all())


@BOTH
def test_the_nearer_triangle_hides_the_other_whatever_their_order(rasterizer: Rasterizer) -> None:
    square = torch.tensor([[-3.0, -1, 0, 1], [3.0, -1, 0, 1], [0, 3.0, 0, 1]])
    positions = torch.cat((square, square + torch.tensor([0, 0, -0.5, 0])))
    for order in ([[0, 1, 2], [3, 4, 5]], [[3, 4, 5], [0, 1, 2]]):
        rast = rasterizer.rasterize(positions[None], torch.tensor(order), (4, 4))
        assert bool((rast[..., 3] == order.index([3, 4, 5]) + 1).all())


@BOTH
def test_neighbouring_triangles_leave_no_hole(rasterizer: Rasterizer) -> None:
    generator = torch.Generator().manual_seed(0)
    count = 12
    lattice = torch.linspace(-1.2, 1.2, count)
    x, y = torch.meshgrid(lattice, lattice, indexing="ij")
    xy = torch.stack((x, y), -1) + 0.08 * torch.rand(count, count, 2, generator=generator)
    w = 1 + torch.rand(count, count, 1, generator=generator)
    positions = torch.cat((xy * w, 0 * w, w), -1).reshape(1, -1, 4)
    corner = torch.arange(count * count).reshape(count, count)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    triangles = torch.cat((torch.stack((a, b, c), -1), torch.stack((a, c, d), -1))).reshape(-1, 3)
    rast = rasterizer.rasterize(positions, triangles, (64, 64))
    assert bool((rast[..., 3] > 0).all())


@BOTH
def test_a_triangle_that_reaches_behind_the_camera_is_cut_there(rasterizer: Rasterizer) -> None:
    # A floor one unit below the camera from far in front to behind it: it fills the lower half.
    corners = torch.tensor([[-50.0, 0, -30.0], [50.0, 0, -30.0], [0, 0, 30.0]])
    near, far = 0.1, 20.0
    z = -(far + near) / (far - near) * corners[:, 2] - 2 * far * near / (far - near)
    positions = torch.stack((corners[:, 0], corners[:, 1] - 1, z, -corners[:, 2]), -1)
    rast = rasterizer.rasterize(positions[None], torch.tensor([[0, 1, 2]]), (16, 16))
    assert bool((rast[0, 8:, :, 3] == 0).all())
    assert bool((rast[0, :7, :, 3] == 1).all())


def inside(distance: float = 0.3, azimuth: float = 25.0) -> Cameras:
    """A camera within the unit sphere."""
    return Cameras.from_degrees(
        *(torch.tensor([value]) for value in (azimuth, 20.0, distance, 70.0))
    )


@BOTH
def test_a_camera_inside_a_box_of_large_triangles_sees_every_wall_where_it_is(
    rasterizer: Rasterizer,
) -> None:
    lattice = torch.tensor([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    half = torch.tensor([0.9, 0.7, 0.6])
    vertices = (lattice * half).double()
    triangles = torch.tensor(
        [
            *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
            *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
        ]
    )
    for azimuth in (0.0, 25.0, 140.0, 250.0):
        camera = inside(azimuth=azimuth)
        clip = clip_positions(vertices, camera)
        assert bool((clip[..., 3] < 0).any()) and bool((clip[..., 3] > 0).any())
        rast = rasterizer.rasterize(clip, triangles, (48, 48))
        assert bool((rast[..., 3] > 0).all())
        origins, directions = camera.rays(48)
        # Rows of pictures are turned by `clip_positions`, as rays have them.
        reach = (torch.sign(directions) * half - origins) / directions
        expected = origins + directions * reach.amin(-1, keepdim=True)
        found = rasterizer.interpolate(vertices, rast, triangles)
        torch.testing.assert_close(found, expected.double(), atol=1e-5, rtol=0)
        # From within, a closed box has no silhouette.
        color = found[..., :1]
        assert torch.equal(rasterizer.antialias(color, rast, clip, triangles), color)


@BOTH
def test_a_silhouette_that_passes_beside_the_camera_is_that_of_its_visible_part(
    rasterizer: Rasterizer,
) -> None:
    # A path on the ground from behind the camera to far in front, whose two sides have no edge that
    # ends in the picture.
    height, near, far, focal, resolution = 0.5, 0.1, 20.0, 1.5, 64
    width = torch.tensor(0.37, dtype=torch.float64, requires_grad=True)
    behind, ahead = -7.0, 15.0
    corners = [(-1, ahead), (1, ahead), (1, behind), (-1, behind)]
    rows = []
    for side, depth in corners:
        z = (far + near) / (far - near) * depth - 2 * far * near / (far - near)
        rest = width.new_tensor((-height * focal, z, depth))
        rows.append(torch.cat(((side * width * focal)[None], rest)))
    clip = torch.stack(rows)[None]
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [1, 2, 3, 0]):
        back = torch.tensor(order).argsort()
        rast = rasterizer.rasterize(clip[:, order], back[triangles], (resolution, resolution))
        covered = (rast[..., 3:] > 0).double()
        path = rasterizer.antialias(covered, rast, clip[:, order], back[triangles])
        (gradient,) = torch.autograd.grad(path.sum(), width, retain_graph=True)
        # On the picture it is the trapezium between the horizon's side and the picture's bottom.
        top = height * focal / ahead
        area = (1 + top) * (1 - top) * float(width.detach()) / height
        pixels = area * (resolution / 2) ** 2
        assert float(path.detach().sum()) == pytest.approx(pixels, rel=0.02)
        assert float(gradient) == pytest.approx(pixels / float(width.detach()), rel=0.06)
        # A row far down: antialiased to a fraction of a pixel.
        row = path.detach()[0, 5, :, 0].sum()
        y = 1 - 2 * 5.5 / resolution
        assert float(row) == pytest.approx(float(width.detach()) / height * y * resolution, abs=0.1)


def test_numba_and_torch_agree_from_inside() -> None:
    vertices, triangles = torus(8, torch.float64)
    generator = torch.Generator().manual_seed(0)
    # Coarse and with holes, so that silhouettes pass the camera at all sides.
    triangles = triangles[torch.rand(len(triangles), generator=generator) < 0.7]
    results = []
    for rasterizer in (TorchRasterizer(), NumbaRasterizer()):
        points = vertices.clone().requires_grad_()
        clip = clip_positions(points, inside(0.55))
        rast = rasterizer.rasterize(clip, triangles, (40, 40))
        color = torch.cat(
            (rasterizer.interpolate(points, rast, triangles), (rast[..., 3:] > 0).to(points)), -1
        )
        image = rasterizer.antialias(color, rast, clip, triangles)
        (gradient,) = torch.autograd.grad(image.square().sum(), points)
        results.append((rast.detach(), image.detach(), gradient))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-8)


def test_numba_and_torch_agree() -> None:
    vertices, triangles = torus(10, torch.float64)
    results = []
    for rasterizer in (TorchRasterizer(), NumbaRasterizer()):
        points = vertices.clone().requires_grad_()
        clip = clip_positions(points, CAMERAS)
        rast = rasterizer.rasterize(clip, triangles, (40, 40))
        values = rasterizer.interpolate(points, rast, triangles)
        color = torch.cat((values, (rast[..., 3:] > 0).to(values)), -1)
        image = rasterizer.antialias(color, rast, clip, triangles)
        (gradient,) = torch.autograd.grad(image.square().sum(), points)
        results.append((rast.detach(), values.detach(), image.detach(), gradient))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-8)


@BOTH
def test_gradients_through_the_interior_agree_with_finite_differences(
    rasterizer: Rasterizer,
) -> None:
    vertices, triangles = torus(5, torch.float64)
    weights = torch.randn(2, 16, 16, 3, generator=torch.Generator().manual_seed(1)).double()
    attributes = torch.randn(len(vertices), 3, generator=torch.Generator().manual_seed(2)).double()
    cameras = clip_positions(vertices, CAMERAS)

    def of_positions(clip: Tensor) -> Tensor:
        rast = rasterizer.rasterize(clip, triangles, (16, 16))
        return (rasterizer.interpolate(attributes, rast, triangles) * weights).sum()

    def of_attributes(values: Tensor) -> Tensor:
        rast = rasterizer.rasterize(cameras, triangles, (16, 16))
        return (rasterizer.interpolate(values, rast, triangles) * weights).sum()

    assert_gradient(of_positions, cameras)
    assert_gradient(of_attributes, attributes)
    assert_gradient(of_attributes, torch.stack((attributes, -attributes)))


@BOTH
def test_gradients_through_the_silhouette_agree_with_finite_differences(
    rasterizer: Rasterizer,
) -> None:
    vertices, triangles = torus(8, torch.float64)
    clip = clip_positions(vertices, CAMERAS)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 20, 20, 2, generator=generator).double()
    color = torch.rand(2, 20, 20, 2, generator=generator).double()
    rast = rasterizer.rasterize(clip, triangles, (20, 20))

    def of_positions(positions: Tensor) -> Tensor:
        rast = rasterizer.rasterize(positions, triangles, (20, 20))
        return (rasterizer.antialias(color, rast.detach(), positions, triangles) * weights).sum()

    def of_color(values: Tensor) -> Tensor:
        return (rasterizer.antialias(values, rast, clip, triangles) * weights).sum()

    assert_gradient(of_positions, clip)
    assert_gradient(of_color, color)


@BOTH
@pytest.mark.parametrize("cells", [6, 24], ids=["coarse", "triangles-below-a-pixel"])
def test_the_area_of_a_picture_grows_with_its_object_as_geometry_says(
    rasterizer: Rasterizer, cells: int
) -> None:
    grid = body_centred_grid(cells)
    radius, distance = 0.6, 2.5
    vertices, triangles = marching_tetrahedra(
        grid.vertices, grid.vertices.norm(dim=-1) - radius, grid.tetrahedra
    )
    camera = Cameras.from_degrees(*(torch.tensor([v]) for v in (10.0, 20.0, distance, 45.0)))
    scale = torch.ones((), requires_grad=True)
    clip = clip_positions(vertices * scale, camera)
    resolution = 32 if cells == 24 else 48
    rast = rasterizer.rasterize(clip, triangles, (resolution, resolution))
    covered = (rast[..., 3:] > 0).float()
    area = rasterizer.antialias(covered, rast, clip, triangles).sum()
    area.backward()
    assert scale.grad is not None
    # A sphere of radius s r seen from d fills a disc of radius r s / sqrt(d^2 - r^2 s^2) * focal.
    focal = resolution / 2 / math.tan(math.radians(22.5))
    square = distance**2 - radius**2
    disc = math.pi * (focal * radius) ** 2 / square
    assert float(area.detach()) == pytest.approx(disc, rel=0.02 if cells == 24 else 0.06)
    assert float(scale.grad) == pytest.approx(2 * disc * distance**2 / square, rel=0.06)


@BOTH
def test_texture_is_bilinear_with_exact_gradients(rasterizer: Rasterizer) -> None:
    texture = torch.rand(1, 4, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    # Halfway between the centres of texels (row 1, column 2) and (row 1, column 3).
    uv = torch.tensor([[[[3.0 / 6, 1.5 / 4]]]]).double()
    expected = (texture[0, 1, 2] + texture[0, 1, 3]) / 2
    torch.testing.assert_close(rasterizer.texture(texture, uv)[0, 0, 0], expected)
    spread = torch.rand(2, 3, 3, 2, generator=torch.Generator().manual_seed(1)).double()
    assert torch.autograd.gradcheck(
        rasterizer.texture, (texture.requires_grad_(), spread.requires_grad_())
    )


def test_the_rasteriser_is_chosen_by_device_and_name() -> None:
    assert select_rasterizer("cpu").name == "numba"
    assert select_rasterizer("cpu", "auto").name == "numba"
    assert select_rasterizer("cpu", "torch").name == "torch"
    for name in ("nvdiffrast", "abacus"):
        with pytest.raises(InvalidRequest, match="choose"):
            select_rasterizer("cpu", name)
