# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a batch: CSV or JSON lines into what the panel would hold. No bpy here."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cameras, request

MAXIMUM_FILE_BYTES = 64 << 20
MAXIMUM_STEM_LENGTH = 48


class BadBatch(Exception):
    """The file is no batch; the message is one line for a person."""


class BadRow(Exception):
    """One row cannot be done; the message names what is wrong with it."""


def _text(value: Any) -> str:
    return str(value).strip()


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(float(value)) != float(value):
        raise ValueError(f"{value!r} is no whole number")
    return int(float(value))


def _yes_or_no(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if _text(value).lower() not in words:
        raise ValueError(f"{value!r} is neither yes nor no")
    return words[_text(value).lower()]


def _range(value: Any) -> tuple[float, float]:
    parts = value if isinstance(value, (list, tuple)) else str(value).split(":")
    ends = [float(part) for part in parts]
    if len(ends) not in {1, 2}:
        raise ValueError(f"{value!r} is no range, which is written LOW:HIGH")
    return ends[0], ends[-1]


def _choice(choices: tuple[tuple[str, str, str], ...]) -> Callable[[Any], str]:
    names = [name for name, _, _ in choices]

    def read(value: Any) -> str:
        if _text(value) not in names:
            raise ValueError(f"{value!r} is none of {', '.join(names)}")
        return _text(value)

    return read


# What a row may say, beside `name`, `catalog` and `tags`: the panel's fields.
COLUMNS: dict[str, Callable[[Any], Any]] = {
    "prompt": _text,
    "negative_prompt": _text,
    "recipe": _choice(request.RECIPES),
    "method": _choice(request.METHODS),
    "preset": _choice(request.PRESETS),
    "texture_size": _choice(request.TEXTURE_SIZES),
    "face_budget": _whole,
    "smoothing": _whole,
    "normal_map": _yes_or_no,
    "lods": _whole,
    "pbr": _yes_or_no,
    "seed": _whole,
    "variations": _whole,
    "height": float,
    "steps": _whole,
    "prior": _text,
    "lora": _text,
    "lora_scale": float,
    **dict.fromkeys(request.RANGES, _range),
}
DEFAULTS: dict[str, Any] = {
    "negative_prompt": "",
    "recipe": request.OWN_RECIPE,
    "method": "ssd",
    "preset": "draft",
    "texture_size": request.FROM_PRESET,
    **request.OF_SHAPE,
    "pbr": False,
    "seed": 0,
    "variations": 1,
    "height": 1.0,
    "steps": 0,
    "prior": "bundled",
    "lora": "",
    "lora_scale": 1.0,
    "azimuth": (-180.0, 180.0),
    "elevation": (-10.0, 60.0),
    "distance": cameras.USUAL_DISTANCE,
    "fov": cameras.USUAL_FOV,
}
_ABOUT_ASSET = ("name", "catalog", "tags")


@dataclass(frozen=True)
class Row:
    """One asset to make.

    Attributes:
        number: of its line in the file, the first being 1.
        name: of the asset.
        catalog: of the asset library, for instance ``Props/Kitchen``.
        tags: of the asset.
        request: of ``request.build``.
        key: what it asks for, as 16 hexadecimal digits: rows that say the same have the same, but
            for their count.
    """

    number: int
    name: str
    catalog: str
    tags: tuple[str, ...]
    request: dict[str, Any]
    key: str

    @property
    def file_stem(self) -> str:
        """Name of its file, without suffix: another one for every row."""
        stem = re.sub(r"[^\w-]+", "_", self.name.lower()).strip("_")[:MAXIMUM_STEM_LENGTH]
        return f"{stem or 'asset'}-{self.key[:8]}"

    def request_id(self, library: str) -> str:
        """The job's id in a library: the same in every run, so that no run makes it twice."""
        return str(uuid.uuid5(uuid.UUID(library), self.key))


def read(path: Path) -> tuple[list[Row], dict[int, str]]:
    """The rows of a file that can be done, and of each other one, by its line, what is wrong.

    Raises:
        BadBatch: the file cannot be read, has no rows, or a column that is not known.
    """
    try:
        if path.stat().st_size > MAXIMUM_FILE_BYTES:
            raise BadBatch(f"{path} is larger than {MAXIMUM_FILE_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadBatch(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadBatch(f"{path} is not UTF-8 text") from None
    is_json = path.suffix.lower() in {".jsonl", ".ndjson", ".json"}
    found = _json_lines(text) if is_json else _csv(text, path)
    rows: list[Row] = []
    bad: dict[int, str] = {}
    counts: Counter[str] = Counter()
    for number, values in found:
        try:
            if isinstance(values, str):
                raise BadRow(values)
            row = _row(number, values, counts, path.absolute().parent)
            rows.append(row)
        except BadRow as error:
            bad[number] = str(error)
    if not found:
        raise BadBatch(f"{path} has no rows")
    return rows, bad


def _csv(text: str, path: Path) -> list[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        columns = [(name or "").strip() for name in reader.fieldnames or ()]
        _check_columns(columns, str(path))
        reader.fieldnames = columns
        found: list[tuple[int, Any]] = []
        for values in reader:
            if None in values:
                found.append((reader.line_num, "it has more fields than there are columns"))
            else:
                # An empty field says nothing.
                said = {k: v for k, v in values.items() if v is not None and v.strip()}
                found.append((reader.line_num, said))
    except csv.Error as error:
        raise BadBatch(f"{path} is no CSV: line {reader.line_num}: {error}") from None
    return found


def _json_lines(text: str) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            found.append((number, f"it is no JSON: {error}"))
            continue
        if isinstance(values, dict):
            found.append((number, values))
        else:
            found.append((number, "it is no JSON object"))
    return found


def _check_columns(columns: list[str], where: str) -> None:
    known = [*COLUMNS, *_ABOUT_ASSET]
    unknown = [name for name in columns if name not in known]
    if unknown or "prompt" not in columns:
        problem = (
            f"no column {unknown[0]!r} is known" if unknown else "the column prompt is missing"
        )
        raise BadBatch(f"{where}: {problem}; columns are {', '.join(known)}")


def _row(number: int, values: Mapping[str, Any], counts: Counter[str], folder: Path) -> Row:
    try:
        _check_columns([*values, "prompt"], "it")
    except BadBatch as error:
        raise BadRow(str(error)) from None
    fields = dict(DEFAULTS)
    for name, value in values.items():
        if name in COLUMNS:
            try:
                fields[name] = COLUMNS[name](value)
            except (TypeError, ValueError) as error:
                raise BadRow(f"{name}: {error}") from None
    for name, least, most in (
        ("variations", 1, request.MAXIMUM_VARIATIONS),
        ("lods", 0, request.MAXIMUM_LODS),
        ("smoothing", 0, request.MAXIMUM_SMOOTHING),
    ):
        if not least <= fields[name] <= most:
            raise BadRow(f"{name}: {least} to {most} are allowed")
    lora = fields["lora"]
    is_file = request.is_lora_file(lora)
    if is_file:
        # Beside the table, wherever that was moved.
        fields["lora"] = str(folder / lora)
    try:
        built = request.build({"prompt": "", **fields})
    except request.BadRequest as error:
        raise BadRow(str(error)) from None
    tags = values.get("tags", "")
    split = tags if isinstance(tags, list) else str(tags).replace(";", ",").split(",")
    as_written = {"lora_file": lora} if is_file else {}
    said = json.dumps({**built, **as_written, "name": values.get("name", "")}, sort_keys=True)
    # The same row a second time asks for a second asset.
    key = hashlib.sha256(f"{said} {counts[said]}".encode()).hexdigest()[:16]
    counts[said] += 1
    return Row(
        number,
        _text(values.get("name", "")) or built["prompt"],
        _text(values.get("catalog", "")),
        tuple(filter(None, (_text(tag) for tag in split))),
        built,
        key,
    )
