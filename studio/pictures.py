"""A kept picture: a file, its thumbnail and its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from studio.attachments import MEDIA_TYPES
from studio.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of one visitor, as stored."""

    id: str
    """uuid4 as 32 hex digits."""
    job_id: str
    owner: str
    index: int
    """Place among the pictures of its job, from 0."""
    path: Path
    """PNG with the recipe inside."""
    thumbnail_path: Path
    """WebP, longest side at most 256 px."""
    width: int
    height: int
    """Of the file in px, so after upscaling."""
    recipe: Recipe
    created_at: datetime
    """Aware, UTC."""
    deleted_at: datetime | None = None
    """When the visitor deleted it; it can be restored for a day."""

    def attachment(self, suffix: str) -> Path | None:
        """A file that belongs to it, such as its mesh (".glb"); None if it has no such file."""
        path = self.path.with_suffix(suffix)
        return path if suffix in MEDIA_TYPES and path.is_file() else None
