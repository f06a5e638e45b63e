# SPDX-License-Identifier: Apache-2.0
"""Loading a diffusion model: the bundled one by the same code as any other."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.bundled.vocabulary import VIEW_WORDS
from dreamsmith.priors.cache import read_index
from dreamsmith.priors.flow import Flux2KleinPrior, StableDiffusion3Prior
from dreamsmith.priors.hub import download, single_file_configuration
from dreamsmith.priors.latent import StableDiffusionPrior, StableDiffusionXLPrior
from dreamsmith.priors.locate import locate
from dreamsmith.priors.lora import Lora, fuse
from dreamsmith.priors.memory import limit_memory
from dreamsmith.priors.multiview import MultiViewPrior, build_multiview_unet, rename_published
from dreamsmith.priors.pixel import PixelPrior, PropPrior
from dreamsmith.priors.prior import Prior
from dreamsmith.priors.refuse import refuse
from dreamsmith.priors.weights import check_hash
from dreamsmith.priors.words import known_words

_MULTI_VIEW: Final = "MVDreamPipeline"


@dataclass(frozen=True)
class _Family:
    """How a kind of pipeline is loaded, and what it becomes.

    Attributes:
        prior: its adapter.
        left_out: components that distillation has no use for.
        half: the half precision that its network was published for.
    """

    prior: Any
    left_out: tuple[str, ...] = ()
    half: torch.dtype = torch.float16


# By `_class_name` of a model_index.json.
FAMILIES: Final[dict[str, _Family]] = {
    "IFPipeline": _Family(PixelPrior, ("safety_checker", "feature_extractor", "watermarker")),
    "StableDiffusionPipeline": _Family(
        StableDiffusionPrior, ("safety_checker", "feature_extractor", "image_encoder")
    ),
    "StableDiffusionXLPipeline": _Family(
        StableDiffusionXLPrior, ("feature_extractor", "image_encoder")
    ),
    "StableDiffusion3Pipeline": _Family(
        StableDiffusion3Prior, ("feature_extractor", "image_encoder")
    ),
    "Flux2KleinPipeline": _Family(Flux2KleinPrior, half=torch.bfloat16),
    _MULTI_VIEW: _Family(MultiViewPrior),
}


def load(
    name: str,
    device: torch.device,
    *,
    trainable: bool,
    loras: Sequence[Lora] = (),
    vram_gib: float | None = None,
) -> Prior:
    """See `dreamsmith.priors.load_prior`."""
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    hub_logging.set_verbosity_error()
    # diffusers warns through a logger of its own that the casts below are no mistake.
    logging.getLogger("diffusers.models.modeling_utils").setLevel(logging.ERROR)
    place = locate(name)
    file = place.file
    folder = place.folder or (single_file_configuration(file) if file else download(place))
    index = read_index(folder)
    refuse(name, index)
    family = FAMILIES[index["_class_name"]]
    if place.sha256:
        check_hash(name, file or folder, place.sha256)
    dtype = torch.float32 if trainable else _fastest_dtype(device, family.half)
    # LoRA files add up without rounding; on a CPU there is memory enough to cast in place.
    first = torch.float32 if loras or device.type == "cpu" else dtype
    where = str(file or folder)
    try:
        if index["_class_name"] == _MULTI_VIEW:
            pipeline = _multi_view_pipeline(folder, first)
        else:
            pipeline = _pipeline(index, family, folder, file, first)
    except ImportError as error:
        raise PriorNotFound(
            f"the model in {where!r} needs a library that is missing here: "
            f"{' '.join(str(error).split())}{_remedy(error)}"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise PriorNotFound(f"the model in {where!r} cannot be read: {error}") from error
    for lora in loras:
        fuse(pipeline, lora)
    if vram_gib is not None and device.type == "cuda":
        limit_memory(vram_gib)
    words = known_words(folder) or frozenset()
    is_our_own = family.prior is PixelPrior and words.issuperset(VIEW_WORDS)
    try:
        prior: Prior = (PropPrior if is_our_own else family.prior)(pipeline, device, dtype)
    except ValueError as error:
        raise PriorNotFound(f"the model in {where!r} cannot be used: {error}") from error
    prior.vram_gib = vram_gib
    return prior


def _pipeline(
    index: dict[str, Any], family: _Family, folder: Path, file: Path | None, dtype: torch.dtype
) -> Any:
    kind = getattr(diffusers, index["_class_name"])
    absent = [name for name, component in index.items() if component == [None, None]]
    options: dict[str, Any] = dict.fromkeys((*family.left_out, *absent))
    options |= {"local_files_only": True}
    if any(
        not model.with_name("tokenizer.json").exists() for model in folder.glob("*/spiece.model")
    ):
        # Without it transformers takes the file for another format and asks for that one's library.
        import_module("sentencepiece")
    if file is not None:
        return kind.from_single_file(str(file), config=str(folder), torch_dtype=dtype, **options)
    return kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options)


def _multi_view_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """MVDream as published with a UNet class of its own, as a pipeline of diffusers' classes."""
    settings = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    if settings.get("ip_dim"):
        raise ValueError("it is ImageDream, which wants a picture beside the text")
    unet = build_multiview_unet(settings)
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    unet.load_state_dict(rename_published(weights, unet))
    return diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(
            folder / "vae", dtype=dtype, use_safetensors=True
        ),
        text_encoder=CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=dtype, use_safetensors=True
        ),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=unet.to(dtype),
        scheduler=diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _remedy(error: ImportError) -> str:
    """What to do; nothing where the libraries' own words, which then name no module, say it."""
    return f"; install it with `pip install {error.name}`" if error.name else ""


def _fastest_dtype(device: torch.device, half: torch.dtype) -> torch.dtype:
    if device.type == "cuda":
        return half
    if torch.cpu.get_capabilities().get("avx512_bf16"):
        return torch.bfloat16
    return torch.float32
