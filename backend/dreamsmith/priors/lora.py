# SPDX-License-Identifier: Apache-2.0
"""A user's own LoRA files, added to a prior's weights before anything else happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import SERVER_LORA

_ADAPTER = "user"


@dataclass(frozen=True)
class Lora:
    """A LoRA file and how strongly it counts.

    Attributes:
        file: a safetensors file, as diffusers, kohya or peft write it.
        scale: 1 for as trained.
    """

    file: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Lora:
        """Read ``FILE`` or ``FILE:SCALE``, for instance ``clay.safetensors:0.8``.

        Raises:
            InvalidRequest: there is no such safetensors file, or it is one that a server offers.
        """
        if text.startswith(SERVER_LORA):
            raise InvalidRequest(
                "lora",
                f"{text!r} is a LoRA that a server offers: send the job there with `dreamsmith "
                "submit`, or give a .safetensors file of this machine",
            )
        name, _, tail = text.rpartition(":")
        try:
            lora = cls(Path(name), float(tail)) if name else cls(Path(text))
        except ValueError:  # The colon is part of the name, as in C:\clay.safetensors.
            lora = cls(Path(text))
        if lora.file.suffix != ".safetensors" or not lora.file.is_file():
            raise InvalidRequest(
                "lora",
                f"there is no LoRA file {str(lora.file)!r}: give a .safetensors file, and after a "
                "colon its scale if it is not 1",
            )
        return lora


def check_lora_file(path: Path, shown: str) -> None:
    """Look at the header of a file that somebody else sent.

    Args:
        path: where it lies.
        shown: what it is called towards its sender.

    Raises:
        InvalidRequest: it is no safetensors file, or holds no LoRA.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            names = list(file.keys())
    except SafetensorError:
        raise InvalidRequest("lora", f"{shown} is no whole safetensors file") from None
    if not any("lora" in name.lower() for name in names):
        raise InvalidRequest(
            "lora",
            f"{shown} is no LoRA: none of its {len(names)} tensors is named like a part of one",
        )


def fuse(pipeline: Any, lora: Lora) -> None:
    """Add a LoRA to the weights of a pipeline.

    Raises:
        InvalidRequest: it was made for another kind of model, or is none.
    """
    # Here, so that a server can parse without loading torch.
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors import SafetensorError

    try:
        pipeline.load_lora_weights(
            str(lora.file.parent),
            weight_name=lora.file.name,
            adapter_name=_ADAPTER,
            local_files_only=True,
        )
        fitting = [
            layer
            for part in pipeline.components.values()
            if hasattr(part, "modules")
            for layer in part.modules()
            if isinstance(layer, BaseTunerLayer)
        ]
        if not fitting:
            raise ValueError("none of its weights has a place there")
        pipeline.fuse_lora(adapter_names=[_ADAPTER], lora_scale=lora.scale)
        pipeline.unload_lora_weights()
    except (OSError, ValueError, RuntimeError, KeyError, IndexError, SafetensorError) as error:
        reason = str(error).strip().splitlines()
        raise InvalidRequest(
            "lora",
            f"the LoRA {str(lora.file)!r} does not fit a {type(pipeline).__name__} of these sizes "
            f"({reason[0] if reason else type(error).__name__}): was it trained on another base "
            "model?",
        ) from error
