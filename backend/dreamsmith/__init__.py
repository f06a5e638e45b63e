# SPDX-License-Identifier: Apache-2.0
"""Dreamsmith: a prompt becomes a textured mesh by score distillation.

>>> from dreamsmith.generate import generate
>>> from dreamsmith.request import GenerationRequest
"""

from __future__ import annotations

__version__ = "0.1.0"
