# SPDX-License-Identifier: Apache-2.0
"""The Python client of a Dreamsmith server.

>>> from dreamsmith.client import Client
>>> with Client("127.0.0.1:50051") as client:
...     job = client.create(GenerationRequest("a red mug"))
...     for event in client.watch(job.name):
...         print(event.body)
...     client.download(job.name, "model.glb", Path("mug.glb"))

`AsyncClient` is the same for asyncio.
"""

from dreamsmith.client.async_client import AsyncClient
from dreamsmith.client.calls import full_name
from dreamsmith.client.capabilities import Capabilities, Device, Prior
from dreamsmith.client.client import Client
from dreamsmith.client.core import DEFAULT_SERVER
from dreamsmith.client.stream import WatchEvent
from dreamsmith.client.tls import Tls

__all__ = [
    "DEFAULT_SERVER",
    "AsyncClient",
    "Capabilities",
    "Client",
    "Device",
    "Prior",
    "Tls",
    "WatchEvent",
    "full_name",
]
