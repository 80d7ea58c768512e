"""The visitor's pictures: those that were drawn, and those that were brought."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from studio.adapter_files import KeptAdapter
from studio.parts import StudioParts, check_owner
from studio.pictures import Picture
from studio.readback import ReadRecipe, read_recipe


class VisitorPictures(StudioParts):
    """What a visitor does with pictures and other files."""

    def pictures(self, owner: str, limit: int = 60, offset: int = 0) -> list[Picture]:
        """Kept pictures, newest first."""
        return self._library.newest(owner, limit, offset)

    def picture(self, picture_id: str, owner: str) -> Picture:
        """One kept picture; raises NotFound."""
        return self._library.find(picture_id, owner)

    def delete_picture(self, picture_id: str, owner: str) -> None:
        """Hide a picture; `restore_picture` undoes it for a day. Raises NotFound."""
        self._library.delete(picture_id, owner)

    def restore_picture(self, picture_id: str, owner: str) -> Picture:
        """Undo `delete_picture`; raises NotFound."""
        self._library.restore(picture_id, owner)
        return self._library.find(picture_id, owner)

    def keep_input(self, picture: bytes | Path | Image.Image, owner: str) -> str:
        """Keep a picture that a visitor brings, for requests to name; return its id.

        Raises:
            InvalidRequest: it is no picture, or too large.
            StorageFailed: the disk did not take it.
        """
        check_owner(owner)
        return self._inputs.keep(picture, owner)

    def input_path(self, picture_id: str, owner: str) -> Path | None:
        """The PNG of a picture that this visitor brought; None if there is none."""
        return self._inputs.path(picture_id, owner)

    def keep_adapter(self, file: Path, name: str, owner: str) -> KeptAdapter:
        """Keep a LoRA or an embedding that a visitor brings, for requests to name.

        Raises:
            InvalidRequest: it is none, damaged, a pickle, or too much.
            StorageFailed: the disk did not take it.
        """
        check_owner(owner)
        return self.adapter_files.keep(file, name, owner)

    def read_settings(self, file: Path | bytes) -> ReadRecipe:
        """The settings that a PNG of Croquis or of another program carries.

        Raises:
            InvalidRequest: it is no PNG, or it is too large or broken.
        """
        return read_recipe(file, self.catalogue)
