# SPDX-License-Identifier: Apache-2.0
"""What the Hub's local cache holds, and what of it can be distilled; imports no tensor library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from dreamsmith.priors.refuse import FAMILY_NAMES, refusal
from dreamsmith.priors.weights import network_files

_INDEX = "model_index.json"


@dataclass(frozen=True)
class CachedModel:
    """A revision of a pipeline in the cache.

    Attributes:
        name: as in `GenerationRequest.prior`; with its revision where that is not the main branch.
        folder: where it lies.
        revision: the commit, 40 hexadecimal digits.
        size_bytes: on disk; files that revisions share count for each.
        family: for a person; the pipeline's class where it is none of ours.
        refusal: why it cannot be distilled, in a few words; empty where it can.
    """

    name: str
    folder: Path
    revision: str
    size_bytes: int
    family: str
    refusal: str


def cached_models() -> list[CachedModel]:
    """The pipelines in the local cache, sorted by their names."""
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = []
    for repository in repositories:
        for revision in repository.revisions:
            folder = revision.snapshot_path
            if repository.repo_type != "model" or not (folder / _INDEX).is_file():
                continue
            name = repository.repo_id
            if "main" not in revision.refs:
                name += f"@{min(revision.refs, default=revision.commit_hash)}"
            index = read_index(folder)
            found.append(
                CachedModel(
                    name,
                    folder,
                    revision.commit_hash,
                    revision.size_on_disk,
                    family_of(index),
                    refusal_of(repository.repo_id, folder, index),
                )
            )
    return sorted(found, key=lambda model: model.name)


def read_index(folder: Path) -> dict[str, Any]:
    """The ``model_index.json`` of a folder; empty where it is none."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return index if isinstance(index, dict) else {}


def family_of(index: dict[str, Any]) -> str:
    """What a ``model_index.json`` is of, for a person; its class where that is none of ours."""
    kind = str(index.get("_class_name", "unknown"))
    return FAMILY_NAMES.get(kind, kind)


def refusal_of(name: str, folder: Path, index: dict[str, Any]) -> str:
    """Why a pipeline that lies in a folder cannot be distilled; empty where it can."""
    reason = refusal(name, index)
    if reason is None and not network_files(folder):
        return "its weights are not here as safetensors, or not yet"
    return reason or ""
