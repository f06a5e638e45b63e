# SPDX-License-Identifier: Apache-2.0
"""Names of the files that a server reads for a job, never a path that a client chose.

An upload is named by the SHA-256 of its content, a LoRA of the server's own by a plain word.
"""

from __future__ import annotations

import math
import re
from typing import Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import SERVER_LORA, GenerationRequest

MAXIMUM_UPLOAD_CHUNK_BYTES: Final = 512 * 2**10
MAXIMUM_LORA_SCALE: Final = 10.0
_SAFETENSORS: Final = ".safetensors"
_NAME: Final = re.compile(r"uploads/([0-9a-f]{64})")
_SHARED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHARED_FOLDER: Final = "loras"


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


def is_shared_name(name: str) -> bool:
    """Whether a server may offer a LoRA by this name."""
    return _SHARED.fullmatch(name) is not None and not name.endswith(_SAFETENSORS)


def lora_text(name: str, scale: float) -> str:
    """An upload, or ``server:NAME``, and its scale as an entry of `GenerationRequest.loras`."""
    return f"{name}:{scale!r}"


def lora_parts(text: str) -> tuple[str, float]:
    """Name and scale of such an entry: ``uploads/{sha256}`` or ``server:NAME``.

    Raises:
        InvalidRequest: it is none.
    """
    prefix = SERVER_LORA if text.startswith(SERVER_LORA) else ""
    name, _, scale = text.removeprefix(prefix).partition(":")
    if not prefix:
        upload_digest(name, "lora")
    elif not is_shared_name(name):
        raise InvalidRequest(
            "lora",
            f"a LoRA of a server is named {SERVER_LORA}NAME or {SERVER_LORA}NAME:SCALE, the name "
            f"being of letters, digits, dots, dashes and underscores, not {name[:100]!r}",
        )
    try:
        number = float(scale) if ":" in text.removeprefix(prefix) else 1.0
    except ValueError:
        number = math.nan
    if not abs(number) <= MAXIMUM_LORA_SCALE:
        raise InvalidRequest(
            "lora",
            f"the scale of a LoRA must be -{MAXIMUM_LORA_SCALE:g} to {MAXIMUM_LORA_SCALE:g}, "
            f"not {scale[:40]!r}",
        )
    return prefix + name, number


def is_at_server(text: str) -> bool:
    """Whether an entry of `GenerationRequest.loras` names no file of this machine."""
    return text.startswith(SERVER_LORA) or is_upload_name(text.partition(":")[0])


def shared_lora(text: str) -> str | None:
    """The name of the server's own LoRA in such an entry; None where it is an upload."""
    name, _ = lora_parts(text)
    return name.removeprefix(SERVER_LORA) if name.startswith(SERVER_LORA) else None


def local_loras(request: GenerationRequest) -> tuple[str, ...]:
    """Entries that name the files of `upload_files` and `shared_files`, in a job's workspace."""
    found = []
    for text in request.loras:
        name, scale = lora_parts(text)
        shared = shared_lora(text)
        path = name if shared is None else f"{_SHARED_FOLDER}/{shared}"
        found.append(lora_text(path + _SAFETENSORS, scale))
    return tuple(found)


def shared_files(request: GenerationRequest) -> dict[str, str]:
    """Under which path in its workspace a worker finds which of the server's own LoRAs."""
    names = filter(None, map(shared_lora, request.loras))
    return {f"{_SHARED_FOLDER}/{name}{_SAFETENSORS}": name for name in names}


def upload_digests(request: GenerationRequest) -> list[str]:
    """What a request that came to a server needs of its uploads, each once."""
    return list(dict.fromkeys(upload_files(request).values()))


def upload_files(request: GenerationRequest) -> dict[str, str]:
    """Under which name below ``uploads`` a worker finds which upload, by its SHA-256."""
    named = {"start": request.start, "mask": request.mask}
    digests = [upload_digest(name, field) for field, name in named.items() if name]
    files = {digest: digest for digest in digests}
    for text in request.loras:
        if shared_lora(text) is not None:
            continue
        digest = upload_digest(lora_parts(text)[0])
        # What has another ending would be read as a pickle.
        files[digest + _SAFETENSORS] = digest
    return files
