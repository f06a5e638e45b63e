# SPDX-License-Identifier: Apache-2.0
"""Names of uploads: the SHA-256 of the content, and so never a path that a client chose."""

from __future__ import annotations

import re
from typing import Final

from dreamsmith.errors import InvalidRequest
from dreamsmith.request import GenerationRequest

MAXIMUM_UPLOAD_CHUNK_BYTES: Final = 512 * 2**10
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


def upload_digests(request: GenerationRequest) -> list[str]:
    """What a request that came to a server needs of its uploads."""
    named = {"start": request.start, "mask": request.mask}
    return [upload_digest(name, field) for field, name in named.items() if name]
