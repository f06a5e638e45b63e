# SPDX-License-Identifier: Apache-2.0
"""A model hub on this machine: the few answers of the Hub that a download asks for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"
_BLOCK = 16 * 1024


class HubServer:
    """Serves ``folder/OWNER/NAME`` as the model ``OWNER/NAME``.

    Attributes:
        url: for HF_ENDPOINT.
        asked: paths of all requests.
        sent: paths of the files that were fetched, in turn.
        pause_seconds: between two blocks of a file.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.sent: list[str] = []
        self.pause_seconds = 0.0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append(path)
                asked = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(tree|revision)/.*)?", path)
                if asked and (folder / asked[1]).is_dir():
                    self._json(_tree(folder / asked[1]) if asked[2] == "tree" else _info(asked[1]))
                    return
                asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
                if asked and (folder / asked[1] / asked[2]).is_file():
                    self._file(folder / asked[1] / asked[2], with_body)
                    return
                is_there = asked is not None and (folder / asked[1]).is_dir()
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if is_there else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _json(self, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _file(self, file: Path, with_body: bool) -> None:
                content = file.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", REVISION)
                self.send_header("ETag", f'"{_digest(content)}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if not with_body:
                    return
                hub.sent.append(str(file.relative_to(folder)))
                for at in range(0, len(content), _BLOCK):
                    time.sleep(hub.pause_seconds)
                    try:
                        self.wfile.write(content[at : at + _BLOCK])
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                return

        def _info(model: str) -> dict[str, object]:
            files = [{"rfilename": entry["path"]} for entry in _tree(folder / model)]
            return {"id": model, "sha": REVISION, "siblings": files}

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _digest(content: bytes) -> str:
    """As long as the Hub's own of small files."""
    return hashlib.sha256(content).hexdigest()[:40]


def _tree(model: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": str(file.relative_to(model)),
            "size": file.stat().st_size,
            "oid": _digest(file.read_bytes()),
        }
        for file in sorted(model.rglob("*"))
        if file.is_file()
    ]
