# SPDX-License-Identifier: Apache-2.0
"""The parts of the extension that need no Blender, imported without it."""

from __future__ import annotations

import sys
import types
from pathlib import Path

# As a package of another name, whose __init__ (which imports bpy) is not run.
_package = types.ModuleType("addon")
_package.__path__ = [str(Path(__file__).parents[2] / "blender_addon")]
sys.modules["addon"] = _package
