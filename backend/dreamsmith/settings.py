# SPDX-License-Identifier: Apache-2.0
"""The numbers of one generation: steps, sizes, weights and their schedules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """A number that goes linearly from one value to another during a part of a stage.

    Attributes:
        first: until ``begin``.
        last: from ``end`` on.
        begin: share of the stage that is done, in [0, 1].
        end: likewise, not before ``begin``.
    """

    first: float
    last: float
    begin: float = 0.0
    end: float = 1.0

    def at(self, progress: float) -> float:
        """The number when this share of the stage is done."""
        if progress >= self.end:
            return self.last
        if progress <= self.begin:
            return self.first
        share = (progress - self.begin) / (self.end - self.begin)
        return self.first + share * (self.last - self.first)


@dataclass(frozen=True)
class Shading:
    """In which light the field is shown (DreamFusion, section 3.2).

    Attributes:
        albedo_until: share of the stage that shows bare albedo only.
        albedo: of the pictures after it, the share that does.
        textureless: the share that shows shading on white; the rest shows both.
        least_ambient: lowest share of light from everywhere in a shaded picture.
        most_ambient: highest.
    """

    albedo_until: float = 0.0
    albedo: float = 0.2
    textureless: float = 0.0
    least_ambient: float = 0.3
    most_ambient: float = 0.7


@dataclass(frozen=True)
class FieldSettings:
    """What a recipe varies of the field stage.

    Attributes:
        sparsity: weight of `sparsity_loss`.
        opaqueness: weight of `opaqueness_loss`.
        orientation: weight of `orientation_loss`.
        levels: share of the hash grid's levels that is in use, in (0, 1], coarse ones first; 1 in
            the end, for the later stages know of no other.
        shading: in which light the field is shown.
        blob_density: density before softplus at the middle to begin with; negative for an empty
            middle in a dense shell (ProlificDreamer's scenes).
        blob_radius: where that density crosses 0.
        learned_background: share of the steps, in [0, 1], that have the field before a background
            optimised with it, a function of the direction; the others have one drawn at random.
        annealed_after: share of the stage after which the time schedule ``annealed`` is low.
        fine_from: share of the stage after which it goes on with the next two.
        fine_batch_size: cameras a step then.
        fine_resolution: largest edge of the pictures then.
    """

    sparsity: Ramp = Ramp(1, 1)
    opaqueness: Ramp = Ramp(0, 20)
    orientation: Ramp = Ramp(20, 20)
    levels: Ramp = Ramp(1, 1)
    shading: Shading = Shading()
    blob_density: float = 10.0
    blob_radius: float = 0.5
    learned_background: float = 0.0
    annealed_after: float = 0.2
    fine_from: float = 1.0
    fine_batch_size: int = 1
    fine_resolution: int = 512


@dataclass(frozen=True)
class TextureSettings:
    """What a recipe varies of the texture stage.

    Attributes:
        shading: in which light the surface is shown; ``textureless`` is for fields.
        annealed_after: share of the stage that draws from all noise levels; the rest from low
            ones.
    """

    shading: Shading = Shading()
    annealed_after: float = 0.0


@dataclass(frozen=True)
class Settings:
    """The numbers of one generation.

    Attributes:
        field_steps: optimisation steps of the radiance field.
        surface_steps: optimisation steps of the tetrahedral surface, shape and colour together.
        texture_steps: optimisation steps of the colour on the fixed surface.
        batch_size: cameras a step; a multi-view prior rounds it up to whole objects.
        render_resolution: largest edge of the rendered pictures, in pixels. A prior of larger
            pictures sees them enlarged, as threestudio shows Stable Diffusion 64 pixels at first.
        grid_resolution: cells along an edge of the tetrahedral grid.
        face_budget: most triangles of the finished mesh.
        texture_size: edge of the square texture, in texels.
        field: what a recipe varies of the field stage.
        texture: what it varies of the texture stage.
    """

    field_steps: int
    surface_steps: int
    texture_steps: int
    batch_size: int
    render_resolution: int
    grid_resolution: int
    face_budget: int
    texture_size: int
    field: FieldSettings = FieldSettings()
    texture: TextureSettings = TextureSettings()

    def later_views(self, prior_resolution: int) -> tuple[int, int]:
        """Cameras a step and largest edge of the pictures of the stages after the field.

        As its stage ends, where the prior can see that finer than it begins; else as it begins.

        Args:
            prior_resolution: edge of the prior's own pictures, in pixels.
        """
        if self.field.fine_from < 1 and prior_resolution > self.render_resolution:
            return self.field.fine_batch_size, self.field.fine_resolution
        return self.batch_size, self.render_resolution
