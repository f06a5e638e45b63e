# SPDX-License-Identifier: Apache-2.0
"""Loading a diffusion model: the bundled one by the same code as any other."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, IFPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from transformers.utils import logging as transformers_logging

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.locate import resolve
from dreamsmith.priors.pixel import PixelPrior

_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")


def load(name: str, device: torch.device, *, trainable: bool) -> PixelPrior:
    """See `dreamsmith.priors.load_prior`."""
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    # diffusers warns through a logger of its own that the casts below are no mistake.
    logging.getLogger("diffusers.models.modeling_utils").setLevel(logging.ERROR)
    folder = resolve(name) or _download(name)
    kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    if kind != IFPipeline.__name__:
        raise PriorNotFound(
            f"{name!r} is a {kind}; supported are pixel-space models in the layout of DeepFloyd "
            f"IF's first stage ({IFPipeline.__name__})"
        )
    dtype = torch.float32 if trainable else _fastest_dtype(device)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            safety_checker=None,
            watermarker=None,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise PriorNotFound(f"the model in {str(folder)!r} cannot be read: {error}") from error
    return PixelPrior(pipeline, device, dtype)


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise PriorNotFound(
            f"the model {name!r} is neither in the local cache nor could it be downloaded "
            f"({type(error).__name__}): check the name and the network, accept the model's licence "
            "on its page if it has one, or give a folder that holds it"
        ) from error


def _fastest_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.float16
    if torch.cpu.get_capabilities().get("avx512_bf16"):
        return torch.bfloat16
    return torch.float32
