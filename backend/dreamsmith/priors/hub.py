# SPDX-License-Identifier: Apache-2.0
"""Fetching models from the Hub or its local cache, and saying why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import fetch_diffusers_config
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from dreamsmith.errors import PriorNotFound
from dreamsmith.priors.locate import MIRRORS, Place
from dreamsmith.priors.refuse import refuse

_INDEX = "model_index.json"
_CONFIGURATION = ("*.json", "*.txt", "*.model")
_FAILURES = (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError)


def download(place: Place) -> Path:
    """The folder of a model of the Hub, from the local cache where it is there.

    Raises:
        PriorNotFound: none of the places has it; says what was tried, and what to do.
    """

    def fetch(hub_id: str) -> str:
        index = _index(hub_id, place.revision)
        refuse(hub_id, index)
        if index["_class_name"] == "MVDreamPipeline":
            # Its UNet's class is not one of diffusers', which would not know what to fetch.
            patterns = [*_CONFIGURATION, "*.safetensors"]
            return snapshot_download(hub_id, revision=place.revision, allow_patterns=patterns)
        return str(
            DiffusionPipeline.download(hub_id, revision=place.revision, use_safetensors=True)
        )

    what = f"the model {place.hub_ids[0]!r}"
    return _first_of(place.hub_ids, fetch, what, place.revision)


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

    def fetch(hub_id: str) -> str:
        return snapshot_download(hub_id, allow_patterns=list(_CONFIGURATION))

    return _first_of(
        (kind, *MIRRORS.get(kind, ())),
        fetch,
        f"the file {str(file)!r} holds weights only; the tokenizer and settings of {kind!r}, "
        f"which it looks like, can also lie in a folder {beside.name!r} beside it; that model",
        None,
    )


def cached_models() -> list[str]:
    """Ids of the pipelines in the local cache, sorted."""
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return sorted(
        repository.repo_id
        for repository in repositories
        if repository.repo_type == "model"
        and any(
            file.file_name == _INDEX for revision in repository.revisions for file in revision.files
        )
    )


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


def _index(hub_id: str, revision: str | None) -> dict[str, object]:
    path = Path(hf_hub_download(hub_id, _INDEX, revision=revision))
    index: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
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
    cached = cached_models()
    here = f"; in the local cache are {', '.join(cached)}" if cached else ""
    return (
        f"{what} is not to be had. Tried: {'; '.join(reasons)}. Check the name and the network, or "
        f"give a folder that holds it; 'bundled' needs neither{here}"
    )
