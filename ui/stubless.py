"""Import Gradio without the type stubs that it rewrites, which take as long as all the rest."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

STUB_MAKER = "gradio.component_meta"
"""Its `create_or_modify_pyi` parses the file of each component and writes a `.pyi` beside it."""


def import_gradio() -> ModuleType:
    """Import Gradio and leave its folder as it is; where it is imported already, do nothing.

    A version of Gradio that names the function otherwise is imported just as it is.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("gradio")
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != STUB_MAKER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if hasattr(module, "create_or_modify_pyi"):
            vars(module)["create_or_modify_pyi"] = lambda *args: None
