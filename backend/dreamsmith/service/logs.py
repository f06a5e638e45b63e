# SPDX-License-Identifier: Apache-2.0
"""What a server tells its operator: lines on standard error, for a person or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")

logger: Final = logging.getLogger("dreamsmith.service")


def set_up(level: str, form: str) -> None:
    """Send what the server logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def log(level: int, event: str, **values: Any) -> None:
    """One event with its values. A prompt is none of them, unless the operator asked for it."""
    logger.log(level, event, extra={"values": values})


def info(event: str, **values: Any) -> None:
    """Something that happened as it should."""
    log(logging.INFO, event, **values)


def incident(number: str, error: BaseException) -> None:
    """An unexpected error, with its traceback, under the number that the caller was told."""
    logger.error("incident", exc_info=error, extra={"values": {"incident": number}})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = getattr(record, "values", {})
        parts = [_time(record), record.levelname.lower().ljust(7), record.getMessage()]
        parts += [f"{name}={_word(value)}" for name, value in values.items()]
        if record.exc_info:
            parts.append("\n" + self.formatException(record.exc_info))
        return " ".join(parts)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "values", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{record.msecs:03.0f}Z"


def _word(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    # What a client sent must not look like a line of ours.
    return text if text.isprintable() and " " not in text and text else json.dumps(text)
