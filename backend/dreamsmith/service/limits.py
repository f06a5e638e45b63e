# SPDX-License-Identifier: Apache-2.0
"""What the server takes from its callers at a time; clients are told in ``GetCapabilities``."""

from __future__ import annotations

from typing import Final

MAXIMUM_REQUEST_BYTES: Final = 2**20
MAXIMUM_ANSWER_BYTES: Final = 20 * 2**20
MAXIMUM_METADATA_BYTES: Final = 16 * 2**10
MAXIMUM_STREAMS_PER_CONNECTION: Final = 256
MAXIMUM_CALLS: Final = 4096
"""Of all callers together, streams among them; further ones end with RESOURCE_EXHAUSTED."""
MAXIMUM_STREAMS_PER_CALLER: Final = 64
"""Open at a time, of a caller with a name; who is alone on the machine harms only himself."""
UNREAD_SECONDS: Final = 60.0
"""A stream of which nothing is read for so long is ended, so that nobody holds files open."""
