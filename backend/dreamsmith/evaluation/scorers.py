# SPDX-License-Identifier: Apache-2.0
"""Judges of R-precision: they say which of many prompts the pictures of an asset show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsmith.errors import InvalidRequest
from dreamsmith.evaluation.classifier import RESOLUTION, WEIGHTS, load_classifier
from dreamsmith.priors.bundled.vocabulary import COLORS, OBJECTS
from dreamsmith.priors.weights import weights_sha256

# Of a model's folder; the rest of it are pictures and notes.
_MODEL_SUFFIXES: Final = (".safetensors", ".bin", ".json", ".txt")


class Scorer(Protocol):
    """Compares pictures with prompts.

    Attributes:
        resolution: edge of the pictures that it wants, in pixels.
    """

    resolution: int

    def recognises(self, images: Tensor, prompt: str, *, by_shape: bool) -> bool:
        """Whether the prompt is the one, of all candidates, that suits V pictures together best.

        Args:
            images: shape (V, 3, R, R), in [0, 1].
            prompt: the true one.
            by_shape: the pictures have no colours, so that only the object counts.
        """


class VocabularyScorer:
    """The classifier that was trained apart from the prior; candidates are all 240 pairs.

    A prompt counts by its object and its first colour.
    """

    resolution = RESOLUTION

    def __init__(self) -> None:
        self._classifier = load_classifier()

    @torch.no_grad()
    def recognises(self, images: Tensor, prompt: str, *, by_shape: bool) -> bool:
        """By the mean log-probability over the pictures."""
        name, color = object_and_color(prompt)
        objects, colors = (logits.log_softmax(1).mean(0) for logits in self._classifier(images))
        found = list(OBJECTS)[int(objects.argmax())]
        # Object and colour are judged independently: the best pair is the pair of the best.
        return found == name and (by_shape or list(COLORS)[int(colors.argmax())] == color)


class ClipScorer:
    """CLIP (Radford et al. 2021), as DreamFusion judges; for prompts of any words."""

    def __init__(self, folder: Path, candidates: Sequence[str]) -> None:
        """Load a model and embed the prompts to choose from.

        Args:
            folder: of a CLIP model as transformers saves it, with its processor.
            candidates: all prompts, the true ones among them.

        Raises:
            InvalidRequest: no CLIP model lies there.
        """
        from transformers import CLIPModel, CLIPTokenizer

        try:
            self._model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                "scorer", f"no CLIP model can be read from {str(folder)!r}: {error}"
            ) from error
        self.resolution = int(self._model.config.vision_config.image_size)
        self._candidates = list(candidates)
        tokens = tokenizer(self._candidates, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            pooled = self._model.text_model(**tokens).pooler_output
            self._texts = normalize(self._model.text_projection(pooled), dim=-1)

    @torch.no_grad()
    def recognises(self, images: Tensor, prompt: str, *, by_shape: bool) -> bool:
        """By the mean cosine over the pictures."""
        mean = torch.tensor(_CLIP_MEAN)[:, None, None]
        spread = torch.tensor(_CLIP_SPREAD)[:, None, None]
        pooled = self._model.vision_model((images - mean) / spread).pooler_output
        features = normalize(self._model.visual_projection(pooled), dim=-1)
        similarity = (features @ self._texts.T).mean(0)
        return self._candidates[int(similarity.argmax())] == prompt


# Of the pictures that CLIP was trained on.
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_SPREAD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Judge:
    """A scorer before it is loaded: all that decides what it says.

    Attributes:
        name: ``vocabulary`` or ``clip``.
        weights: SHA-256 of its model.
        candidates: the prompts that CLIP chooses from; none for the vocabulary, whose pairs its
            model decides.
        folder: of the CLIP model.
    """

    name: str
    weights: str
    candidates: tuple[str, ...] = ()
    folder: Path | None = None

    @classmethod
    def by_vocabulary(cls) -> Judge:
        """The vocabulary's own classifier."""
        return cls("vocabulary", model_sha256(WEIGHTS))

    @classmethod
    def by_clip(cls, folder: Path, prompts: Sequence[str]) -> Judge:
        """A CLIP model, which chooses among ``prompts``.

        Raises:
            InvalidRequest: no CLIP model lies there, or there is nothing to choose from.
        """
        candidates = tuple(sorted(set(prompts)))
        if len(candidates) < 2:
            raise InvalidRequest(
                "prompt",
                "--scorer clip chooses among the prompts of the run, and one alone would always be "
                "named right: give at least two different ones with --prompt",
            )
        if not (folder / "config.json").is_file():
            raise InvalidRequest(
                "scorer",
                f"no CLIP model lies in {str(folder)!r}: give a folder as transformers saves it",
            )
        return cls("clip", model_sha256(folder), candidates, folder)

    def load(self) -> Scorer:
        """The scorer itself.

        Raises:
            InvalidRequest: the CLIP model cannot be read.
        """
        if self.folder is None:
            return VocabularyScorer()
        return ClipScorer(self.folder, self.candidates)

    @property
    def gib(self) -> float:
        """What the CLIP model holds of memory, about."""
        files = model_files(self.folder) if self.folder else []
        return sum(file.stat().st_size for file in files) / 2**30

    def identity(self) -> dict[str, object]:
        """What tells it from others; JSON-serialisable. A model that was moved is the same."""
        return {"name": self.name, "weights": self.weights, "candidates": list(self.candidates)}

    def __str__(self) -> str:
        begin = f"R-precision by {self.name}, weights {self.weights[:12]}, among "
        if self.candidates:
            return f"{begin}the {len(self.candidates)} prompts of this run"
        return f"{begin}all {len(OBJECTS) * len(COLORS)} pairs of object and colour"


def model_files(model: Path) -> list[Path]:
    """A model's one file, or those of its folder that decide what it does, by their names."""
    if model.is_file():
        return [model]
    return sorted(file for file in model.rglob("*") if file.suffix in _MODEL_SUFFIXES)


def model_sha256(model: Path) -> str:
    """SHA-256 of all `model_files`, their names among them; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in model_files(model):
        digest.update(f"{file.relative_to(model).as_posix()} {weights_sha256(file)}\n".encode())
    return digest.hexdigest()


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, in small letters and without commas."""
    return prompt.lower().replace(",", " ").split()


def object_and_color(prompt: str) -> tuple[str | None, str | None]:
    """The prop and the first colour that a prompt names; None for what it does not."""
    words = words_of(prompt)
    return (
        next((word for word in words if word in OBJECTS), None),
        next((word for word in words if word in COLORS), None),
    )
