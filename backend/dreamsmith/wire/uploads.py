# SPDX-License-Identifier: Apache-2.0
"""Names of the files that a server reads for a job, never a path that a client chose.

An upload is named by the SHA-256 of its content, a LoRA of the server's own by a plain word.
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

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


class LoraAtServer(NamedTuple):
    """An entry of `GenerationRequest.loras` that a server understands.

    Attributes:
        upload: its name; empty where it is one of the server's own.
        name: of the server's own; empty where it is an upload.
        scale: how strongly it counts, -10 to 10.
    """

    upload: str
    name: str
    scale: float

    @property
    def text(self) -> str:
        """The entry."""
        return lora_text(SERVER_LORA + self.name if self.name else self.upload, self.scale)

    @classmethod
    def parse(cls, text: str) -> LoraAtServer:
        """Read ``uploads/{sha256}`` or ``server:NAME``, each with ``:SCALE`` or without.

        Raises:
            InvalidRequest: it is none.
        """
        is_own = text.startswith(SERVER_LORA)
        name, colon, scale = text.removeprefix(SERVER_LORA if is_own else "").partition(":")
        if not is_own:
            upload_digest(name, "lora")
        elif not is_shared_name(name):
            raise InvalidRequest(
                "lora",
                f"a LoRA of a server is named {SERVER_LORA}NAME or {SERVER_LORA}NAME:SCALE, the "
                "name being of letters, digits, dots, dashes and underscores, not "
                f"{name[:100]!r}",
            )
        try:
            number = float(scale) if colon else 1.0
        except ValueError:
            number = math.nan
        if not abs(number) <= MAXIMUM_LORA_SCALE:
            raise InvalidRequest(
                "lora",
                f"the scale of a LoRA must be -{MAXIMUM_LORA_SCALE:g} to {MAXIMUM_LORA_SCALE:g}, "
                f"not {scale[:40]!r}",
            )
        return cls("", name, number) if is_own else cls(name, "", number)

    @property
    def place(self) -> str:
        """Where a worker finds it, in its job's workspace."""
        return (self.upload or f"{_SHARED_FOLDER}/{self.name}") + _SAFETENSORS


def lora_text(name: str, scale: float) -> str:
    """An entry of `GenerationRequest.loras`."""
    return f"{name}:{scale!r}"


def is_at_server(text: str) -> bool:
    """Whether an entry of `GenerationRequest.loras` names no file of this machine."""
    return text.startswith(SERVER_LORA) or is_upload_name(text.partition(":")[0])


def local_loras(request: GenerationRequest) -> tuple[str, ...]:
    """Entries that name the files of `upload_files` and `shared_files`, in a job's workspace."""
    return tuple(
        lora_text(lora.place, lora.scale) for lora in map(LoraAtServer.parse, request.loras)
    )


def shared_files(request: GenerationRequest) -> dict[str, str]:
    """Under which path in its workspace a worker finds which of the server's own LoRAs."""
    return {lora.place: lora.name for lora in map(LoraAtServer.parse, request.loras) if lora.name}


def upload_digests(request: GenerationRequest) -> list[str]:
    """What a request that came to a server needs of its uploads, each once."""
    return list(dict.fromkeys(upload_files(request).values()))


def upload_files(request: GenerationRequest) -> dict[str, str]:
    """Under which name below ``uploads`` a worker finds which upload, by its SHA-256."""
    named = {"start": request.start, "mask": request.mask}
    digests = [upload_digest(name, field) for field, name in named.items() if name]
    files = {digest: digest for digest in digests}
    for lora in map(LoraAtServer.parse, request.loras):
        if lora.upload:
            digest = upload_digest(lora.upload)
            # What has another ending would be read as a pickle.
            files[digest + _SAFETENSORS] = digest
    return files
