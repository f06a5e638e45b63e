# SPDX-License-Identifier: GPL-3.0-or-later
"""When the panels have to be drawn again: what they show of the live state has changed."""

from __future__ import annotations

from collections.abc import Iterable

import bpy

from . import backend, picture, servers
from .session import Session, describe


def shown(jobs: Iterable[Session]) -> tuple[object, ...]:
    """What panels draw of the live state: where it is the same, nothing need be drawn again."""
    live = tuple((job.request_id, job.status, job.error, describe(job)) for job in jobs)
    asked = tuple((name, item.is_asking, item.error) for name, item in servers.known.items())
    return (live, asked, picture.revision(), backend.local.message)


def redraw() -> None:
    """Draw the panels again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()
