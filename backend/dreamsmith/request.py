# SPDX-License-Identifier: Apache-2.0
"""What a user asks for: one place that knows the fields, their limits and their defaults."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dreamsmith.errors import InvalidRequest

METHODS: Final = ("ssd", "sds", "vsd", "csd")
PRESETS: Final = ("draft", "standard", "high")
STAGES: Final = ("field", "surface", "texture")
# What may be done to a mesh that is there.
START_STAGES: Final = (("texture",), ("surface", "texture"))
# Explained in `dreamsmith.distillation.schedules`.
TIME_SCHEDULES: Final = ("uniform", "annealed", "falling", "dreamtime")
# Explained by `dreamsmith recipe show`.
RECIPES: Final = ("dreamfusion", "prolificdreamer", "prolificdreamer-scene", "ssd", "mvdream")
# Those that make a room around the cameras in place of an object between them.
SCENE_RECIPES: Final = ("prolificdreamer-scene",)
OMEGAS: Final = ("sigma_squared", "constant", "alpha_sigma_squared", "sigma_over_alpha")
# What the surface stage shows the prior: the object in its colours and a light, or its normals.
SURFACE_PICTURES: Final = ("shaded", "normals")
# Explained in `dreamsmith.distillation.lora`.
LORA_OBJECTIVES: Final = ("epsilon", "velocity")
MAXIMUM_PROMPT_LENGTH: Final = 2000
MAXIMUM_STEPS: Final = 100_000
MAXIMUM_SEED: Final = 2**63 - 1
MAXIMUM_VARIATIONS: Final = 8
MAXIMUM_LORAS: Final = 8
# Begins the entries of `GenerationRequest.loras` that name a LoRA which a server offers.
SERVER_LORA: Final = "server:"
MAXIMUM_LODS: Final = 4
MAXIMUM_SMOOTHING: Final = 100
# Triangles of a mesh that is painted or refined.
MAXIMUM_START_FACES: Final = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A closed interval ``[low, high]``."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str, field: str) -> Interval:
        """Read ``LOW:HIGH``, for instance ``-10:60``; a single number means both ends.

        Raises:
            InvalidRequest: the text is not one or two numbers.
        """
        parts = text.split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            raise InvalidRequest(
                field, f"{field} must be LOW:HIGH, for instance -10:60, but {text!r} was given"
            )
        return cls(numbers[0], numbers[-1])

    def check(self, field: str, lowest: float, highest: float, unit: str) -> None:
        """Raise `InvalidRequest` unless ``lowest <= low <= high <= highest``, all finite."""
        given = f"{self.low:g}" if self.low == self.high else f"{self.low:g}:{self.high:g}"
        allowed = f"{lowest:g}:{highest:g} {unit}".rstrip()
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise InvalidRequest(field, f"{field} must be finite numbers, but {given} was given")
        if self.low > self.high:
            raise InvalidRequest(
                field,
                f"{field} {given} is the wrong way round: write {self.high:g}:{self.low:g}",
            )
        if self.low < lowest or self.high > highest:
            raise InvalidRequest(
                field,
                f"{field} {given} is out of range: allowed is {allowed}",
            )


@dataclass(frozen=True)
class CameraRanges:
    """From where the object is seen while it is optimised (DreamFusion section 3.2).

    Attributes:
        azimuth_degrees: 0 is the front (camera at -Y), 90 the camera at +X; -360 to 360, at most a
            whole turn.
        elevation_degrees: from the horizon, -90 to 90.
        distance: from the camera to the origin in object radii, 1.5 to 10; of a scene, whose
            cameras stand inside, in radii of the sphere that bounds it, 0.01 to 0.9.
        fov_degrees: vertical field of view, 10 to 100.
    """

    azimuth_degrees: Interval = Interval(-180.0, 180.0)
    elevation_degrees: Interval = Interval(-10.0, 60.0)
    distance: Interval = Interval(2.4, 3.0)
    fov_degrees: Interval = Interval(40.0, 50.0)

    def check(self, is_scene: bool = False) -> None:
        """Raise `InvalidRequest` for the first range that is not allowed."""
        self.azimuth_degrees.check("azimuth", -360.0, 360.0, "degrees")
        if self.azimuth_degrees.high - self.azimuth_degrees.low > 360.0:
            raise InvalidRequest("azimuth", "azimuth spans more than a whole turn of 360 degrees")
        self.elevation_degrees.check("elevation", -90.0, 90.0, "degrees")
        if is_scene:
            unit = "radii of the scene, for its cameras stand inside"
            self.distance.check("distance", 0.01, 0.9, unit)
        else:
            self.distance.check("distance", 1.5, 10.0, "object radii")
        self.fov_degrees.check("fov", 10.0, 100.0, "degrees")


@dataclass(frozen=True)
class DistillationSettings:
    """How a method is applied; every setting composes with every method that it concerns.

    Attributes:
        guidance_scale: of SDS and VSD, 0 to 1000, 1 being no guidance; None: the
            prior's.
        guidance_rescale: of SDS and VSD, share of the guided picture that keeps the contrast of the
            one without guidance, 0 to 1.
        threshold: the noise level M up to which SSD seeks modes, 0 to 1; None: the prior's, which
            is the paper's 0.2 but for the bundled one.
        omega: weight of a noise level: ``sigma_squared``, ``constant``, ``alpha_sigma_squared`` or
            ``sigma_over_alpha``.
        time_schedule: noise levels of the field stage: ``uniform``, ``annealed``, ``falling`` or
            ``dreamtime``.
        negative_after: share of the field stage, 0 to 1, in which the negative prompt takes the
            empty one's place; 0 for at once (CSD, section 4.2).
        perp_neg: keep each view's text away from the other views' (Perp-Neg), against objects
            with several fronts; two more passes through the prior a step.
        clip: largest number of an update before its weight, above 0; None: any.
        surface_pictures: what the surface stage shows the prior: ``shaded``, shape and colours
            together, or ``normals``, the shape alone (Fantasia3D, section 3.1); its colours are
            then left to the texture stage.
        surface_method: the estimator of the surface stage, its guidance scale being the prior's;
            empty: the request's.
        lora_objective: what VSD's LoRA learns to predict of the renderings: ``epsilon``, the noise,
            or ``velocity``, which counts high noise levels more.
    """

    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    threshold: float | None = None
    omega: str = "sigma_squared"
    time_schedule: str = "uniform"
    negative_after: float = 0.0
    perp_neg: bool = False
    clip: float | None = None
    surface_pictures: str = "shaded"
    surface_method: str = ""
    lora_objective: str = "epsilon"

    @classmethod
    def parse(
        cls, texts: Sequence[str], base: DistillationSettings | None = None
    ) -> DistillationSettings:
        """Read ``NAME=VALUE``, for instance ``threshold=0.3``, in place of what ``base`` says.

        Raises:
            InvalidRequest: no setting has that name, or it takes other values.
        """
        values: dict[str, Any] = {}
        known = {item.name: item.default for item in dataclasses.fields(cls)}
        for text in texts:
            name, equals, value = text.partition("=")
            name = name.strip().replace("-", "_")
            if name not in known or not equals:
                raise InvalidRequest(
                    "set", f"{text!r} sets nothing: write NAME=VALUE with one of {', '.join(known)}"
                )
            values[name] = _read(name, value.strip(), known[name])
        return dataclasses.replace(base or cls(), **values)

    def check(self) -> None:
        """Raise `InvalidRequest` for the first setting that is not allowed."""
        _one_of("omega", self.omega, OMEGAS)
        _one_of("time schedule", self.time_schedule, TIME_SCHEDULES)
        _one_of("surface pictures", self.surface_pictures, SURFACE_PICTURES)
        if self.surface_method:
            _one_of("surface method", self.surface_method, METHODS)
        _one_of("lora objective", self.lora_objective, LORA_OBJECTIVES)
        for name, value, highest in (
            ("guidance scale", self.guidance_scale, 1000.0),
            ("guidance rescale", self.guidance_rescale, 1.0),
            ("threshold", self.threshold, 1.0),
            ("negative after", self.negative_after, 1.0),
            ("clip", self.clip, 1e6),
        ):
            if value is not None:
                Interval(value, value).check(name, 0.0, highest, "")
        if self.clip == 0:
            raise InvalidRequest("clip", "clip 0 would leave nothing of an update: leave it out")


@dataclass(frozen=True)
class GenerationRequest:
    """One generation, complete: the same request gives the same asset on the same kind of device.

    Attributes:
        prompt: 1 to 2000 characters.
        negative_prompt: what to avoid; empty for none.
        method: the estimator: ``ssd`` (default), ``sds``, ``vsd`` or ``csd``.
        prior: ``bundled``, a directory in diffusers layout, a safetensors file, or a model id;
            then, if wanted, ``@`` and a revision, or ``@sha256:`` and the hash of the network's
            weights.
        loras: LoRA files on top of the prior, each ``FILE`` or ``FILE:SCALE``; of those that a
            server offers ``server:NAME`` or ``server:NAME:SCALE``.
        preset: ``draft``, ``standard`` or ``high``.
        recipe: of a paper, for the weights and schedules of the field stage; empty for our own.
        seed: 0 to 2^63 - 1.
        variations: assets to make in one job, 1 to 8; with ``vsd`` they keep away from each other.
        steps: optimisation steps of the field stage, or of painting; None takes the preset's,
            or the recipe's if the prior is not the bundled one.
        start: a mesh file of this machine (`dreamsmith.asset.own_mesh.FORMATS`) that is painted or
            refined where it is; empty: a shape is made too.
        stages: what to do with it: ``texture`` keeps its shape, which is the default; ``surface``
            and ``texture`` refine that too.
        keep_texture: whether a mesh that is painted begins with its own texture, which is refined.
        mask: a picture of this machine in the mesh's UVs, white where its texture may change;
            elsewhere its texels stay as they are; empty: it may everywhere.
        band: how far its surface may move when it is refined, in lengths of the longest edge of
            its bounding box, 0.001 to 0.5.
        resolution: largest edge of the pictures that are shown to the prior, in pixels, 16 to 1024;
            None: the preset's or the recipe's.
        cameras: from where the object is seen.
        distillation: how the method is applied.
        height_metres: of the finished mesh, 0.001 to 1000.
        face_budget: most triangles of the finished mesh, 100 to 1 000 000; None: the preset's.
        texture_size: edge of the square texture in texels, 64 to 4096, a power of two; None: the
            preset's.
        smoothing: rounds of Taubin's smoothing of the surface before its triangles are reduced, 0
            to 100; the default just evens out the steps that marching tetrahedra leave.
        normal_map: whether the finished mesh is shaded like the surface before its triangles were
            reduced to the face budget.
        lods: levels of detail that the asset has besides, 0 to 4.
        pbr: whether the texture stage optimises roughness and metallic too, for a texture of their
            own.
    """

    prompt: str
    negative_prompt: str = ""
    method: str = "ssd"
    prior: str = "bundled"
    loras: tuple[str, ...] = ()
    preset: str = "standard"
    recipe: str = ""
    seed: int = 0
    variations: int = 1
    steps: int | None = None
    start: str = ""
    stages: tuple[str, ...] = ()
    band: float = 0.05
    keep_texture: bool = False
    mask: str = ""
    resolution: int | None = None
    cameras: CameraRanges = CameraRanges()
    distillation: DistillationSettings = DistillationSettings()
    height_metres: float = 1.0
    face_budget: int | None = None
    texture_size: int | None = None
    smoothing: int = 4
    normal_map: bool = False
    lods: int = 0
    pbr: bool = False

    @property
    def is_scene(self) -> bool:
        """Whether the cameras stand inside what is made: a room rather than an object."""
        return self.recipe in SCENE_RECIPES

    @property
    def refines(self) -> bool:
        """Whether the shape of a mesh that is there may change."""
        return bool(self.start) and "surface" in self.stages

    @property
    def surface_method(self) -> str:
        """The estimator of the surface stage."""
        return self.distillation.surface_method or self.method

    @property
    def learns(self) -> bool:
        """Whether a stage is distilled by VSD, whose adapter learns in the prior's network."""
        return "vsd" in (self.method, self.surface_method)

    @property
    def paints_from_nothing(self) -> bool:
        """Whether the texture stage is the first that decides on colours: of a mesh of the user's.

        Of one that is refined it is where the surface stage shows the prior no colours.
        """
        is_shape_alone = self.distillation.surface_pictures == "normals"
        return bool(self.start) and (not self.refines or is_shape_alone)

    def validated(self) -> GenerationRequest:
        """The request with its texts normalised (NFC, outer blanks removed).

        Raises:
            InvalidRequest: naming the first field that is not allowed.
        """
        request = dataclasses.replace(
            self,
            prompt=_text("prompt", self.prompt),
            negative_prompt=_text("negative prompt", self.negative_prompt),
        )
        if not request.prompt:
            raise InvalidRequest("prompt", 'the prompt is empty: say what to make, "a red mug"')
        _one_of("method", self.method, METHODS)
        _one_of("preset", self.preset, PRESETS)
        if self.recipe:
            _one_of("recipe", self.recipe, RECIPES)
        if len(self.loras) > MAXIMUM_LORAS:
            raise InvalidRequest(
                "lora", f"at most {MAXIMUM_LORAS} LoRA files, not {len(self.loras)}"
            )
        _whole("seed", self.seed, 0, MAXIMUM_SEED)
        _whole("variations", self.variations, 1, MAXIMUM_VARIATIONS)
        if self.steps is not None:
            _whole("steps", self.steps, 1, MAXIMUM_STEPS)
        if self.resolution is not None:
            _whole("resolution", self.resolution, 16, 1024)
        self.cameras.check(self.is_scene)
        self.distillation.check()
        if self.is_scene and self.distillation.perp_neg:
            raise InvalidRequest(
                "perp neg",
                f"perp_neg keeps the views of an object apart, but recipe {self.recipe!r} makes a "
                "scene, which has no front: leave it out",
            )
        if self.start and self.is_scene:
            raise InvalidRequest(
                "start",
                f"recipe {self.recipe!r} makes a scene and cannot paint a mesh: leave it out",
            )
        self._check_stages()
        self._check_kept()
        _whole("smoothing", self.smoothing, 0, MAXIMUM_SMOOTHING)
        _whole("lods", self.lods, 0, MAXIMUM_LODS)
        if self.start and not self.refines:
            self._check_unchanged_shape()
        Interval(self.height_metres, self.height_metres).check("height", 0.001, 1000.0, "metres")
        if self.face_budget is not None:
            _whole("faces", self.face_budget, 100, 1_000_000)
        if self.texture_size is not None:
            _whole("texture size", self.texture_size, 64, 4096)
            if self.texture_size & (self.texture_size - 1):
                raise InvalidRequest(
                    "texture size",
                    f"texture size must be a power of two such as 1024, not {self.texture_size}",
                )
        return request

    def _check_kept(self) -> None:
        if not (self.keep_texture or self.mask):
            return
        field = "keep texture" if self.keep_texture else "mask"
        if not self.start or self.refines:
            raise InvalidRequest(
                field,
                f"{field} is of a mesh that is painted: name one with --start and --stages texture",
            )
        if self.pbr:
            raise InvalidRequest(
                "pbr", f"with {field} a material keeps its roughness and metallic: leave pbr out"
            )
        if self.texture_size is not None:
            raise InvalidRequest(
                "texture size", f"with {field} the texture keeps its size: leave texture size out"
            )

    def _check_unchanged_shape(self) -> None:
        default = GenerationRequest(self.prompt)
        for field, name in (
            ("faces", "face_budget"),
            ("smoothing", "smoothing"),
            ("normal map", "normal_map"),
            ("lods", "lods"),
        ):
            if getattr(self, name) != getattr(default, name):
                raise InvalidRequest(
                    field, f"a mesh that is painted keeps its triangles: leave {field} out"
                )

    def _check_stages(self) -> None:
        Interval(self.band, self.band).check("band", 0.001, 0.5, "of the longest edge")
        if not self.stages:
            return
        allowed = START_STAGES if self.start else (STAGES,)
        if self.stages not in allowed:
            known = " or ".join(",".join(stages) for stages in allowed)
            raise InvalidRequest(
                "stages",
                f"stages {','.join(self.stages)!r} is not possible "
                f"{'with' if self.start else 'without'} a mesh to start from: write {known}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GenerationRequest:
        """The inverse of `to_dict`; fields that are missing take their defaults.

        Raises:
            InvalidRequest: a field is not known.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidRequest(
                    name, f"{name!r} is no field of a request: known are {', '.join(sorted(known))}"
                )
        values = dict(values)
        for name in ("loras", "stages"):
            if name in values:
                values[name] = tuple(values[name])
        if "distillation" in values:
            values["distillation"] = DistillationSettings(**values["distillation"])
        if "cameras" in values:
            values["cameras"] = CameraRanges(
                **{name: Interval(**ends) for name, ends in values["cameras"].items()}
            )
        return cls(**values)

    def fingerprint(self) -> str:
        """SHA-256 of all fields and of the files to begin with.

        Two requests with the same one give the same asset.
        """
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode())
        for file in filter(None, (self.start, self.mask)):
            with contextlib.suppress(OSError):  # Reading it will say why it cannot be read.
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()


def _read(name: str, text: str, default: object) -> object:
    """The value of a setting from its text, of the kind of its default."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InvalidRequest("set", f"{name} must be true or false, not {text!r}")
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest("set", f"{name} must be a number, not {text!r}") from None


def _text(field: str, text: str) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > MAXIMUM_PROMPT_LENGTH:
        raise InvalidRequest(
            field, f"the {field} has {len(text)} characters: {MAXIMUM_PROMPT_LENGTH} are allowed"
        )
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidRequest(field, f"the {field} holds a control character: write it on one line")
    return text


def _one_of(field: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InvalidRequest(field, f"{field} {given!r} is not known: choose {', '.join(allowed)}")


def _whole(field: str, given: int, lowest: int, highest: int) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not lowest <= given <= highest:
        raise InvalidRequest(
            field, f"{field} must be a whole number from {lowest} to {highest}, not {given!r}"
        )
