# SPDX-License-Identifier: Apache-2.0
"""Every text that the extension shows is there in every language, and no other is.

The bpy wheel is built without translations; that Blender shows them is looked at in its window.
"""

from __future__ import annotations

import ast
import importlib
import re
import string
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import bpy
import pytest
from conftest import MODULE, ROOT

SOURCES = sorted((ROOT / "blender_addon").rglob("*.py"))
# They get what has been translated, or Blender translates what they get.
SHOWING = {"label", "progress", "operator", "prop", "report", "poll_message_set"}


@pytest.fixture
def translations(addon: ModuleType) -> ModuleType:
    return importlib.import_module(f"{MODULE}.translations")


def of_property(item: bpy.types.Property) -> Iterator[str]:
    yield item.name
    yield item.description
    if item.type == "ENUM":
        for choice in item.enum_items:
            yield choice.name
            yield choice.description


def own(group: bpy.types.Struct) -> Iterator[bpy.types.Property]:
    """The properties of a type that are not those of Blender's own base of it."""
    there = group.base.properties if group.base else {}
    for item in group.properties:
        if item.identifier != "rna_type" and there.get(item.identifier) != item:
            yield item


def operators(addon: ModuleType) -> Iterator[bpy.types.Struct]:
    """Blender's descriptions of the operators."""
    for cls in addon.CLASSES:
        if issubclass(cls, bpy.types.Operator):
            group, _, name = cls.bl_idname.partition(".")
            yield getattr(getattr(bpy.ops, group), name).get_rna_type()


def registered(addon: ModuleType) -> Iterator[bpy.types.Struct]:
    """Blender's descriptions of all classes that the extension registers."""
    yield from operators(addon)
    for cls in addon.CLASSES:
        if not issubclass(cls, bpy.types.Operator):
            yield cls.bl_rna


def properties(addon: ModuleType) -> Iterator[tuple[str, bpy.types.Property]]:
    for group in registered(addon):
        for item in own(group):
            yield f"{group.identifier}.{item.identifier}", item
    for item in bpy.types.WindowManager.bl_rna.properties:
        if item.identifier.startswith("dreamsmith_"):
            yield f"WindowManager.{item.identifier}", item


def of_classes(addon: ModuleType) -> Iterator[str]:
    """What Blender reads off the registered classes, and shows."""
    for _, item in properties(addon):
        yield from of_property(item)
    for cls in addon.CLASSES:
        if issubclass(cls, bpy.types.Panel):
            yield from (cls.bl_label, cls.bl_category)
    for group in operators(addon):
        yield from (group.name, group.description)


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                named = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                yield path, named, node


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, and not those inside of its calls and conditions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from literals(value)


def of_sources() -> Iterator[str]:
    """What the code passes on to be translated."""
    for _, named, node in calls():
        if named in {"say", "deferred"}:
            yield from literals(node.args[0])
        elif named in SHOWING:
            for option in node.keywords:
                if option.arg in {"text", "placeholder"}:
                    yield from literals(option.value)


def is_text(text: str) -> bool:
    return bool(re.search(r"[^\W\d_]", text))


def shown(addon: ModuleType, translations: ModuleType) -> set[str]:
    found = {*of_classes(addon), *of_sources()}
    return {text for text in found if is_text(text)} - translations.NAMES


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_property_and_operator_has_a_name_and_a_tooltip(addon: ModuleType) -> None:
    found = list(properties(addon))
    assert len(found) > 50
    for name, item in found:
        assert item.name, name
        assert len(item.description) > 10, name
        if item.type == "ENUM":
            for choice in item.enum_items:
                assert choice.description, f"{name} {choice.identifier}"
    found = list(operators(addon))
    assert len(found) > 15
    for group in found:
        assert len(group.description) > 10, group.identifier


@pytest.mark.parametrize("language", ["de", "fr"])
def test_every_text_has_a_translation(
    addon: ModuleType, translations: ModuleType, language: str
) -> None:
    texts = translations.LANGUAGES[language]
    missing = sorted(shown(addon, translations) - set(texts))
    assert not missing, "\n".join(missing)
    assert all(text.strip() for text in texts.values())


@pytest.mark.parametrize("language", ["de", "fr"])
def test_no_translation_is_of_a_text_that_is_shown_no_more(
    addon: ModuleType, translations: ModuleType, language: str
) -> None:
    assert not sorted(set(translations.LANGUAGES[language]) - shown(addon, translations))


@pytest.mark.parametrize("language", ["de", "fr"])
def test_translations_keep_the_places_of_the_values(
    translations: ModuleType, language: str
) -> None:
    for english, text in translations.LANGUAGES[language].items():
        assert placeholders(english) == placeholders(text), english
        # Blender itself puts the full stop behind a tooltip.
        assert not text.endswith("."), english


def test_nothing_is_shown_that_was_put_together_without_a_translation() -> None:
    for path, named, node in calls():
        shown_here = [option.value for option in node.keywords if option.arg == "text"]
        if named == "report":
            shown_here.append(node.args[1])
        elif named == "poll_message_set":
            shown_here.append(node.args[0])
        elif named not in SHOWING:
            continue
        for value in shown_here:
            where = f"{path.name}:{value.lineno}"
            if isinstance(value, ast.JoinedStr):
                fixed = [part.value for part in value.values if isinstance(part, ast.Constant)]
                assert not any(is_text(part) for part in fixed), where
            if named in {"report", "poll_message_set"}:
                # Unlike labels, they show what they are given as it stands.
                assert not isinstance(value, ast.Constant), where
