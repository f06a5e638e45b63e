# SPDX-License-Identifier: Apache-2.0
"""Diffusion models behind one interface.

`check_prompt` is light: it looks at names and words only and imports no tensor library, so that a
server can refuse a request at once. `load_prior` loads the model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from dreamsmith.priors.locate import Place, locate
from dreamsmith.priors.lora import Lora
from dreamsmith.priors.words import check_words
from dreamsmith.request import GenerationRequest

if TYPE_CHECKING:
    import torch

    from dreamsmith.events import Download
    from dreamsmith.priors.prior import Prior

__all__ = ["check_prompt", "downloads", "load_prior"]


def check_prompt(request: GenerationRequest, find: Callable[[str], Place] = locate) -> None:
    """Check what can be known about prior and prompt without loading the model.

    Args:
        request: with a prior and a prompt.
        find: `locate`, or `locate_named` where the request comes from somebody else.

    Raises:
        PriorNotFound: nothing lies under the prior's name.
        InvalidRequest: a word that the prior has never seen, or a LoRA file that is not there.
    """
    for text in request.loras:
        Lora.parse(text)
    folder = find(request.prior).folder
    if folder is not None:
        check_words(folder, "prompt", request.prompt)
        check_words(folder, "negative prompt", request.negative_prompt)


def downloads(name: str) -> Generator[Download | None]:
    """Fetch the model ``name`` from the Hub, if that is where it is; how far that is, meanwhile.

    None, several times a second, where there is nothing new to tell. `load_prior` finds the model
    in the local cache afterwards.

    Raises:
        PriorNotFound: nothing usable lies under that name; says what was tried.
    """
    place = locate(name)
    if place.hub_ids:
        from dreamsmith.priors import hub

        yield from hub.downloads(place)


def load_prior(
    name: str,
    device: torch.device,
    *,
    trainable: bool = False,
    loras: Sequence[str] = (),
    vram_gib: float | None = None,
) -> Prior:
    """Load the diffusion model ``name``.

    Args:
        name: as in `GenerationRequest.prior`.
        device: where its networks run.
        trainable: full precision, for an adapter that is trained on top (VSD).
        loras: as in `GenerationRequest.loras`; added to the weights.
        vram_gib: GiB that all tensors of this process may take of the GPU, from now on; None for
            no limit.

    Raises:
        PriorNotFound: nothing usable lies under that name; says what was tried.
        InvalidRequest: a LoRA is not there or does not fit.
    """
    from dreamsmith.priors.load import load

    parsed = [Lora.parse(text) for text in loras]
    return load(name, device, trainable=trainable, loras=parsed, vram_gib=vram_gib)
