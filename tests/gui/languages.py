# SPDX-License-Identifier: Apache-2.0
"""The panel in each of its languages; Blender runs this (see ``test_click_through.py``)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))

import driver
from driver import settle

MODULE = "bl_ext.user_default.dreamsmith"


def script() -> driver.Script:
    """Ask Blender for every text, and look at the panel."""
    translations = importlib.import_module(f"{MODULE}.translations")
    language = importlib.import_module(f"{MODULE}.language")
    view = bpy.context.preferences.view
    view.use_translate_tooltips = view.use_translate_interface = True
    yield from driver.open_sidebar()
    found = bpy.app.translations
    for code in translations.LANGUAGES:
        # With a country in Blender 4.3, without one later.
        view.language = next(name for name in found.locales if name.partition("_")[0] == code)
        texts = translations.LANGUAGES[code]
        differing = [english for english, text in texts.items() if english != text]
        # Blender's own word for something comes first, so any other than the English will do.
        english_still = [
            english
            for english in differing
            if english in {found.pgettext_iface(english), found.pgettext_tip(english)}
        ]
        print(f"{code}: {len(english_still)} of {len(differing)} are in English: {english_still}")
        time_left = language.say("About {time}, by {count} like it", time="1 min", count=3)
        assert time_left == texts["About {time}, by {count} like it"].format(time="1 min", count=3)
        driver.area().tag_redraw()
        yield settle()
        yield settle()
        driver.screenshot(f"8_{code}")


bpy.ops.preferences.addon_enable(module=MODULE)
bpy.context.preferences.view.show_splash = False
driver.run(script())
