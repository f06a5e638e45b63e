# SPDX-License-Identifier: Apache-2.0
"""Fetching models from the Hub or its local cache, and saying why not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import fetch_diffusers_config
from huggingface_hub import (
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    DryRunError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm
from safetensors import SafetensorError
from safetensors.torch import load_file

from dreamsmith.errors import PriorNotFound
from dreamsmith.events import Download
from dreamsmith.priors.cache import cached_models, read_index
from dreamsmith.priors.locate import Place, copies, removal
from dreamsmith.priors.refuse import refuse

_INDEX = "model_index.json"
_WEIGHTS = "*.safetensors"
_CONFIGURATION = ("*.json", "*.txt", "*.model")
_FAILURES = (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError)
# Of the same weights in another precision, for instance ``model.fp16.safetensors``.
_VARIANTS = "*.*.safetensors"
_LOOK_SECONDS = 0.2
# What `downloads` has seen to; the Hub need not be asked again.
_fetched: Final[set[Place]] = set()


def download(place: Place) -> Path:
    """The folder of a model of the Hub, from the local cache where it is there.

    Raises:
        PriorNotFound: none of the places has it; says what was tried, and what to do.
    """
    if place in _fetched:
        with suppress(PriorNotFound):
            return _download(place, is_local=True)
    return _download(place, is_local=not _is_reachable(place.hub_ids[0]))


def _download(place: Place, *, is_local: bool) -> Path:
    """The same; ``is_local``: without asking the Hub."""

    def fetch(hub_id: str) -> str:
        options: dict[str, Any] = {"revision": place.revision, "local_files_only": is_local}
        index = _index(hub_id, **options)
        if index["_class_name"] == "MVDreamPipeline":
            # Its UNet's class is not one of diffusers', which would not know what to fetch.
            return str(snapshot_download(hub_id, **_wanted(index), **options))
        return str(DiffusionPipeline.download(hub_id, use_safetensors=True, **options))

    return _first_of(place.hub_ids, fetch, _called(place), place.revision)


def downloads(place: Place) -> Iterator[Download | None]:
    """Fetch what `download` wants into the local cache; how far that is, five times a second.

    None stands for nothing new; all of it does where everything is in the cache. Closing it ends
    the download; files that have arrived stay.

    Raises:
        PriorNotFound: none of the places has it; says what was tried, and what to do.
    """
    meter = _Meter()
    failures: list[Exception] = []

    def work() -> None:
        is_local = not _is_reachable(place.hub_ids[0])

        def fetch(hub_id: str) -> str:
            index = _index(hub_id, revision=place.revision, local_files_only=is_local)
            if is_local:
                return ""
            return meter.fetch(hub_id, revision=place.revision, **_wanted(index))

        try:
            _first_of(place.hub_ids, fetch, _called(place), place.revision)
            if not is_local:
                _fetched.add(place)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    told: Download | None = None
    try:
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            news = meter.reading()
            yield None if news == told else news
            told = news
    finally:
        meter.is_stopped = True
    if failures:
        raise failures[0]


class _Meter:
    """Counts the bytes of a download, whichever threads they come in by."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._read: Download | None = None
        self._lock = threading.Lock()

    def reading(self) -> Download | None:
        """How far it is; None while there is nothing to fetch."""
        return self._read

    def fetch(self, hub_id: str, **wanted: Any) -> str:
        """The folder of a model; empty where the Hub cannot be asked what there is."""
        try:
            files = snapshot_download(hub_id, dry_run=True, tqdm_class=self._bar(), **wanted)
        except DryRunError:
            return ""
        total = sum(file.file_size or 0 for file in files if file.will_download)
        self._read = Download(hub_id, 0, total) if total else None
        return str(snapshot_download(hub_id, tqdm_class=self._bar(), **wanted))

    def _bar(self) -> Any:
        """What the Hub's library takes for a progress bar; it draws nothing."""
        meter = self

        class Bar(tqdm):
            def __init__(self, *given: Any, **options: Any) -> None:
                self.counts_bytes = options.get("unit") == "B"
                super().__init__(*given, **options | {"disable": True})  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> None:
                if meter.is_stopped:
                    raise _Stopped
                with meter._lock:
                    self.n += n or 0
                    if self.counts_bytes:
                        meter._count(int(self.n))

        return Bar

    def _count(self, done: int) -> None:
        # One bar counts what came in, another what was written: the same bytes.
        before = self._read
        if before is not None and done > before.done_bytes:
            self._read = replace(before, done_bytes=min(done, before.total_bytes))


class _Stopped(Exception):
    """Nobody waits for the download any more."""


def _wanted(index: dict[str, Any]) -> dict[str, Any]:
    """The files of a model with this ``model_index.json``, as `snapshot_download` takes them."""
    components = [name for name, kind in index.items() if isinstance(kind, list) and kind[0]]
    patterns = [f"{name}/{end}" for name in components for end in (*_CONFIGURATION, _WEIGHTS)]
    return {"allow_patterns": [_INDEX, *patterns], "ignore_patterns": _VARIANTS}


def _called(place: Place) -> str:
    gone = removal(place.hub_ids[0])
    return f"the model {place.hub_ids[0]!r}" + (f" ({gone})" if gone else "")


def single_file_configuration(file: Path) -> Path:
    """A folder in diffusers layout that says how the weights in ``file`` are to be read.

    That is the folder beside the file with the same name but for the suffix; else that of the
    model that the file's weights look like, from the Hub.

    Raises:
        PriorNotFound: there is neither, or the file cannot be read.
    """
    beside = file.with_suffix("")
    if (beside / _INDEX).is_file():
        return beside
    try:
        kind = fetch_diffusers_config(load_file(file))["pretrained_model_name_or_path"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise PriorNotFound(f"the model in {str(file)!r} cannot be read: {error}") from error

    is_local = not _is_reachable(kind)

    def fetch(hub_id: str) -> str:
        return snapshot_download(
            hub_id, allow_patterns=list(_CONFIGURATION), local_files_only=is_local
        )

    return _first_of(
        (kind, *copies(kind)),
        fetch,
        f"the file {str(file)!r} holds weights only; the tokenizer and settings of {kind!r}, "
        f"which it looks like, can also lie in a folder {beside.name!r} beside it; that model",
        None,
    )


def _is_reachable(hub_id: str) -> bool:
    """Whether the Hub answers at all, if only that it has no such model.

    Asked once, so that without a network the local cache is all that is looked into: the Hub's
    library would try again and again for each place, and warn each time.
    """
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, _INDEX))
    except HfHubHTTPError:
        return True
    except Exception:
        # Which error says so depends on what the library speaks HTTP by, which has changed twice.
        return False
    return True


def _first_of(
    hub_ids: Sequence[str], fetch: Callable[[str], str], what: str, revision: str | None
) -> Path:
    """The folder of the first of the same models that can be fetched; why not, if none can."""
    reasons = []
    for hub_id in hub_ids:
        try:
            return Path(fetch(hub_id))
        except _FAILURES as error:
            reasons.append(f"{hub_id}: {_reason(error, revision)}")
    raise PriorNotFound(_explain(what, reasons))


def _index(hub_id: str, **options: Any) -> dict[str, Any]:
    """The ``model_index.json`` of a model that can be distilled."""
    index = read_index(Path(hf_hub_download(hub_id, _INDEX, **options)).parent)
    refuse(hub_id, index)
    return index


def _reason(error: Exception, revision: str | None) -> str:
    """Why a place has not got the model, in a few words."""
    if isinstance(error, GatedRepoError):
        return "its licence must be accepted on its page first, and `hf auth login` run here"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r}"
    if isinstance(error, RepositoryNotFoundError):
        return "does not exist, or is not open to you"
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError | ConnectionError):
        return "not in the local cache, and there is no network"
    return f"could not be fetched ({type(error).__name__})"


def _explain(what: str, reasons: list[str]) -> str:
    cached = [model.name for model in cached_models()]
    here = f"; in the local cache are {', '.join(cached)}" if cached else ""
    return (
        f"{what} is not to be had. Tried: {'; '.join(reasons)}. Check the name and the network, or "
        f"give a folder that holds it; 'bundled' needs neither{here}"
    )
