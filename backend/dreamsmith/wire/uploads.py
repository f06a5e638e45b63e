# SPDX-License-Identifier: Apache-2.0
"""Names of uploads: the SHA-256 of the content, and so never a path that a client chose."""

from __future__ import annotations

import math
import re
from typing import Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import GenerationRequest

MAXIMUM_UPLOAD_CHUNK_BYTES: Final = 512 * 2**10
MAXIMUM_LORA_SCALE: Final = 10.0
_SAFETENSORS: Final = ".safetensors"
_NAME: Final = re.compile(r"uploads/([0-9a-f]{64})")


def upload_name(digest: str) -> str:
    """``uploads/{sha256}``."""
    return f"uploads/{digest}"


def is_upload_name(name: str) -> bool:
    """Whether it has the form ``uploads/{sha256}``."""
    return _NAME.fullmatch(name) is not None


def upload_digest(name: str, field: str = "name") -> str:
    """The SHA-256 in a name, 64 hexadecimal digits.

    Raises:
        InvalidRequest: of ``field``, where it is no name of an upload.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidRequest(
            field,
            f"an upload is named uploads/ and the 64 hexadecimal digits of its SHA-256, "
            f"not {name[:100]!r}",
        )
    return match[1]


def lora_text(name: str, scale: float) -> str:
    """An upload and its scale as an entry of `GenerationRequest.loras`."""
    return f"{name}:{scale!r}"


def lora_upload(text: str) -> tuple[str, float]:
    """Name and scale of such an entry.

    Raises:
        InvalidRequest: it is none.
    """
    name, _, scale = text.rpartition(":")
    upload_digest(name or text, "lora")
    try:
        number = float(scale) if name else 1.0
    except ValueError:
        number = math.nan
    if not abs(number) <= MAXIMUM_LORA_SCALE:
        raise InvalidRequest(
            "lora",
            f"the scale of a LoRA must be -{MAXIMUM_LORA_SCALE:g} to {MAXIMUM_LORA_SCALE:g}, "
            f"not {scale[:40]!r}",
        )
    return name or text, number


def is_lora_upload(text: str) -> bool:
    """Whether an entry of `GenerationRequest.loras` names an upload, not a file."""
    return text.startswith("uploads/") and is_upload_name(text.partition(":")[0])


def local_loras(request: GenerationRequest) -> tuple[str, ...]:
    """Entries that name the files of `upload_files`, below the folder that they lie in."""
    named = map(lora_upload, request.loras)
    return tuple(lora_text(name + _SAFETENSORS, scale) for name, scale in named)


def upload_digests(request: GenerationRequest) -> list[str]:
    """What a request that came to a server needs of its uploads, each once."""
    return list(dict.fromkeys(upload_files(request).values()))


def upload_files(request: GenerationRequest) -> dict[str, str]:
    """Under which name below ``uploads`` a worker finds which upload, by its SHA-256."""
    named = {"start": request.start, "mask": request.mask}
    digests = [upload_digest(name, field) for field, name in named.items() if name]
    files = {digest: digest for digest in digests}
    for text in request.loras:
        digest = upload_digest(lora_upload(text)[0])
        # What has another ending would be read as a pickle.
        files[digest + _SAFETENSORS] = digest
    return files
