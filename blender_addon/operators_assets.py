# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator that makes assets of finished objects."""

from __future__ import annotations

from pathlib import Path

import bpy

from . import pump
from .apply import asset, scene
from .language import say


def _libraries(owner: object, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    found = (context or bpy.context).preferences.filepaths.asset_libraries
    hint = say("The catalogues of the folder of this .blend file")
    _choices[:] = [("LOCAL", say("Current File"), hint)]
    _choices.extend((item.name, item.name, item.path) for item in found)
    return _choices


# Blender keeps no reference to the strings of an enum that is made while it is drawn.
_choices: list[tuple[str, str, str]] = []


def generated(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selected objects that were generated."""
    return [o for o in context.selected_objects if "dreamsmith_prompt" in o]


class DREAMSMITH_OT_mark_as_asset(bpy.types.Operator):
    """Make assets of the selected objects."""

    bl_idname = "dreamsmith.mark_as_asset"
    bl_label = "Mark as Asset"
    bl_description = (
        "Make assets of the selected generated objects, with their prompt, method and a picture. "
        "With a library they are also written into its folder, each into a .blend of its own"
    )
    bl_options = {"REGISTER", "UNDO"}

    library: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Library",
        description="Where the assets can be found later. Libraries are listed in Preferences > "
        "File Paths",
        items=_libraries,
    )
    catalog: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Catalogue",
        description="Path of the catalogue, for instance Props/Kitchen; made where it is new",
        default=asset.DEFAULT_CATALOG,
    )
    tags: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Tags",
        description="More words to find the assets by, with commas between them",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a generated object."""
        if generated(context):
            return True
        cls.poll_message_set(say("Select one or more objects that Dreamsmith has made"))
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask where to."""
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Mark them, and write them into the library."""
        folder = self._folder(context)
        tags = [tag.strip() for tag in self.tags.split(",") if tag.strip()]
        items = generated(context)
        try:
            catalog_id = asset.catalog(folder, self.catalog) if folder else ""
            for item in items:
                asset.mark(item, catalog_id=catalog_id, tags=tags, thumbnail_png=_picture_of(item))
                if self.library != "LOCAL" and folder:
                    path = asset.free_path(folder, item.name)
                    asset.write(path, scene.with_levels([item]))
        except OSError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if not folder and self.catalog != asset.DEFAULT_CATALOG:
            problem = say("Catalogues need a saved file: the assets are in none yet")
            self.report({"WARNING"}, problem)
        return {"FINISHED"}

    def _folder(self, context: bpy.types.Context) -> Path | None:
        if self.library == "LOCAL":
            return Path(bpy.data.filepath).parent if bpy.data.filepath else None
        found = context.preferences.filepaths.asset_libraries[self.library]
        return Path(bpy.path.abspath(found.path))


def _picture_of(item: bpy.types.Object) -> bytes:
    """The preview of the object's job, where this Blender knows that, and it shows no other."""
    for job in pump.jobs.values():
        if job.request.get("variations", 1) != 1:
            continue
        if job.job == item.get("dreamsmith_job") and job.server == item.get("dreamsmith_server"):
            file = pump.history().picture(job.request_id)
            return file.read_bytes() if file.is_file() else b""
    return b""


def draw_menu(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    """In the object's context menu, where there is something for it."""
    if generated(context):
        menu.layout.separator()
        menu.layout.operator("dreamsmith.mark_as_asset", icon="ASSET_MANAGER")


def draw_add_menu(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    """In Add > Mesh."""
    menu.layout.operator("dreamsmith.generate", text="Dreamsmith", icon="OUTLINER_OB_LIGHT")


def register() -> None:
    """Put the operators into Blender's own menus."""
    bpy.types.VIEW3D_MT_object_context_menu.append(draw_menu)
    bpy.types.VIEW3D_MT_mesh_add.append(draw_add_menu)


def unregister() -> None:
    """Take them out again."""
    bpy.types.VIEW3D_MT_mesh_add.remove(draw_add_menu)
    bpy.types.VIEW3D_MT_object_context_menu.remove(draw_menu)


CLASSES = (DREAMSMITH_OT_mark_as_asset,)
