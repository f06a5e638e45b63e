# SPDX-License-Identifier: GPL-3.0-or-later
"""What has arrived of a job, put where it is seen: the panel's picture, the scene."""

from __future__ import annotations

import bpy

from . import picture
from .apply import own, scene
from .session import Session, Status


def apply(job: Session) -> None:
    """Show the newest picture and mesh, and put the result into the scene that waits for it."""
    image = job.take_image()
    if image is not None:
        picture.show(job.request_id, image)
    preview = job.take_preview()
    # Of an object of the user's only the picture is shown until it is done.
    if preview is not None and job.is_active and not job.moved_on and not own.is_own(job):
        scene.grow(job, preview)
    if job.status is Status.READY and job.results:
        # On disk already: where no file waits for it, it need not stay in memory.
        if job.moved_on:
            job.results.clear()
        else:
            finish(job)
    if job.status in {Status.FAILED, Status.CANCELLED}:
        scene.remove_growing({job.job})


def finish(job: Session) -> bpy.types.Object:
    """Put the finished assets into the open file, as one undo step; returns the first one."""
    item = own.finish(job) if own.is_own(job) else scene.finish(job)
    job.results.clear()
    job.status = Status.SUCCEEDED
    return item
