# SPDX-License-Identifier: Apache-2.0
"""The services beside generation: uploads, and what the server can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dreamsmith import __version__
from dreamsmith.request import (
    MAXIMUM_LORAS,
    MAXIMUM_PROMPT_LENGTH,
    MAXIMUM_START_FACES,
    MAXIMUM_STEPS,
    METHODS,
    PRESETS,
    RECIPES,
    GenerationRequest,
)
from dreamsmith.service import limits
from dreamsmith.service.answering import answers
from dreamsmith.service.board import MAXIMUM_ACTIVE_JOBS, MAXIMUM_ACTIVE_JOBS_OF_OWNER
from dreamsmith.service.caller import OWNER, SCOPE
from dreamsmith.service.devices import Devices
from dreamsmith.service.loras import SharedLoras
from dreamsmith.service.servicers import MAXIMUM_PAGE_SIZE, MAXIMUM_REQUEST_ID_LENGTH
from dreamsmith.service.uploads import MAXIMUM_TOTAL_BYTES, MAXIMUM_UPLOAD_BYTES, Uploads
from dreamsmith.v1 import generation_pb2 as api
from dreamsmith.wire import convert


class UploadServicer:
    """``dreamsmith.v1.UploadService``."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    @answers
    async def GetUpload(self, message: api.GetUploadRequest) -> api.GetUploadResponse:  # noqa: N802
        """Say how far an upload is."""
        return api.GetUploadResponse(upload=await self._uploads.get(OWNER.get(), message.name))

    @answers
    async def WriteUpload(  # noqa: N802
        self, messages: AsyncIterator[api.WriteUploadRequest]
    ) -> api.WriteUploadResponse:
        """Take the bytes of an upload."""
        return api.WriteUploadResponse(upload=await self._uploads.write(OWNER.get(), messages))


class CapabilityServicer:
    """``dreamsmith.v1.CapabilityService``."""

    def __init__(self, devices: Devices, loras: SharedLoras) -> None:
        self._devices = devices
        self._loras = loras

    @answers
    async def GetCapabilities(  # noqa: N802
        self, message: api.GetCapabilitiesRequest
    ) -> api.GetCapabilitiesResponse:
        """Say what this server can do."""
        answer = api.GetCapabilitiesResponse(
            server_version=__version__,
            methods=METHODS,
            presets=PRESETS,
            recipes=RECIPES,
            priors=await asyncio.to_thread(_priors),
            loras=await asyncio.to_thread(self._loras.files),
            devices=await self._devices.get(),
            limits=api.Limits(
                max_prompt_length=MAXIMUM_PROMPT_LENGTH,
                max_steps=MAXIMUM_STEPS,
                max_active_jobs=MAXIMUM_ACTIVE_JOBS,
                max_active_jobs_of_owner=MAXIMUM_ACTIVE_JOBS_OF_OWNER,
                max_upload_bytes=MAXIMUM_UPLOAD_BYTES,
                max_total_upload_bytes=MAXIMUM_TOTAL_BYTES,
                max_request_bytes=limits.MAXIMUM_REQUEST_BYTES,
                max_metadata_bytes=limits.MAXIMUM_METADATA_BYTES,
                max_page_size=MAXIMUM_PAGE_SIZE,
                max_request_id_length=MAXIMUM_REQUEST_ID_LENGTH,
                max_streams_per_caller=limits.MAXIMUM_STREAMS_PER_CALLER,
                max_streams_per_connection=limits.MAXIMUM_STREAMS_PER_CONNECTION,
                max_calls=limits.MAXIMUM_CALLS,
                max_start_faces=MAXIMUM_START_FACES,
                max_loras=MAXIMUM_LORAS,
            ),
            defaults=convert.request_to_spec(GenerationRequest(prompt="")),
            caller=api.Caller(name=OWNER.get(), scope=SCOPE.get()),
        )
        answer.server_time.GetCurrentTime()
        return answer


def _priors() -> list[api.Prior]:
    from dreamsmith.service.capabilities import usable_priors

    return [api.Prior(name=prior.name, words=prior.words) for prior in usable_priors()]
