# SPDX-License-Identifier: Apache-2.0
"""Who calls: set where a call is let in, read where jobs are looked up."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

OWNER: Final[ContextVar[str]] = ContextVar("owner", default="")
"""Whose jobs and uploads this call is about; empty where the server knows no users."""
