# SPDX-License-Identifier: Apache-2.0
"""LoRA files that a server offers: those of a folder of its operator's, by their names."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from dreamsmith.errors import InvalidRequest, ServerNotStarted
from dreamsmith.request import GenerationRequest
from dreamsmith.service.folders import link_or_copy
from dreamsmith.service.logs import log
from dreamsmith.wire.uploads import is_shared_name, shared_files

MAXIMUM_SHARED_LORAS: Final = 500
_SUFFIX: Final = ".safetensors"
_NAMES_IN_ERROR: Final = 20


class SharedLoras:
    """The LoRA files of a folder. It is looked at each time: files come and go."""

    def __init__(self, folder: Path | None = None) -> None:
        """Offer the files of a folder; None offers none.

        Raises:
            ServerNotStarted: there is no such folder.
        """
        if folder is not None and not folder.is_dir():
            raise ServerNotStarted(
                f"there is no folder {str(folder)!r} of LoRA files: name one with --loras, or none"
            )
        self._folder = folder
        # Of each file size and time, and why it is left out; headers are read once.
        self._seen: dict[str, tuple[tuple[int, int], str]] = {}
        self._is_full = False
        self._lock = threading.Lock()

    def files(self) -> dict[str, Path]:
        """Where each lies, by name, sorted; whatever is no LoRA is left out, and the log says so.

        Reads the headers of those that are new.
        """
        if self._folder is None:
            return {}
        with self._lock:
            try:
                paths = sorted(p for p in self._folder.iterdir() if p.suffix.lower() == _SUFFIX)
            except OSError as error:
                log(logging.WARNING, "loras_unreadable", why=error.strerror)
                return {}
            names = {path.name for path in paths}
            self._seen = {name: seen for name, seen in self._seen.items() if name in names}
            found: dict[str, Path] = {}
            rest = iter(paths)
            for path in rest:
                if not self._problem(path):
                    found.setdefault(path.stem, path)
                if len(found) == MAXIMUM_SHARED_LORAS:
                    break
            is_full = next(rest, None) is not None
            if is_full and not self._is_full:
                why = f"only the first {MAXIMUM_SHARED_LORAS} are offered"
                log(logging.WARNING, "loras_left_out", why=why)
            self._is_full = is_full
            return found

    def path(self, name: str) -> Path:
        """Where one lies.

        Raises:
            InvalidRequest: the server offers none of that name, or no more.
        """
        files = self.files()
        if name not in files:
            names = list(files)
            more = ", ..." if len(names) > _NAMES_IN_ERROR else ""
            offer = (
                f"it offers {', '.join(names[:_NAMES_IN_ERROR])}{more}"
                if names
                else "it offers none; whoever runs it can name a folder of them with --loras"
            )
            raise InvalidRequest("lora", f"this server has no LoRA {name[:100]!r}: {offer}")
        return files[name]

    def give(self, request: GenerationRequest, workspace: Path) -> None:
        """Put what a job wants of them into its workspace; what is there already stays as it is.

        Raises:
            InvalidRequest: the server offers one of them no more.
        """
        for place, name in shared_files(request).items():
            target = workspace / place
            if target.exists():
                continue
            path = self.path(name)
            target.parent.mkdir(exist_ok=True)
            part = target.with_suffix(".part")
            part.unlink(missing_ok=True)
            link_or_copy(path.resolve(), part)
            part.replace(target)

    def _problem(self, path: Path) -> str:
        """Why a file is not offered; empty where it is."""
        from dreamsmith.priors.lora import check_lora_file

        try:
            status = path.stat()
            mark = (status.st_size, status.st_mtime_ns)
            seen = self._seen.get(path.name)
            if seen is not None and seen[0] == mark:
                return seen[1]
            if not is_shared_name(path.stem):
                problem = "its name has more than letters, digits, dots, dashes and underscores"
                return self._tell(path, mark, problem)
            check_lora_file(path, "the file")
        except InvalidRequest as error:
            return self._tell(path, mark, error.message)
        except OSError as error:
            return self._tell(path, (0, 0), f"it cannot be read: {error.strerror}")
        self._seen[path.name] = (mark, "")
        return ""

    def _tell(self, path: Path, mark: tuple[int, int], problem: str) -> str:
        if self._seen.get(path.name) != (mark, problem):
            log(logging.WARNING, "lora_left_out", file=path.name, why=problem)
            self._seen[path.name] = (mark, problem)
        return problem
