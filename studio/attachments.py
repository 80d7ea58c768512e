"""Files that belong to a kept picture beside its PNG, such as a mesh; named by their suffix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

GIF = ".gif"
"""The picture in motion: a thing seen from all sides."""
GLB = ".glb"
"""A mesh with its colours, in glTF 2.0's binary form (ISO/IEC 12113)."""

MEDIA_TYPES: Mapping[str, str] = {GIF: "image/gif", GLB: "model/gltf-binary"}
"""What each kind is sent as. Nothing else is ever kept."""

NO_ATTACHMENTS: Mapping[str, bytes] = MappingProxyType({})
