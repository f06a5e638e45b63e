# SPDX-License-Identifier: Apache-2.0
"""What all tests share. Imports nothing of the backend: Blender's Python has none."""

from __future__ import annotations

import importlib.util

# Those tests run in another environment; a plain `pytest` in this one leaves them out.
collect_ignore = [] if importlib.util.find_spec("bpy") else ["blender"]
