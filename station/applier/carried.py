"""Imports the applier from memory, where the station has no copy of it yet.

Run on its own, with the texts in `SOURCES` (path to text); it takes its place at the
front of the import system.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

SOURCES: dict[str, str] = globals().get("SOURCES", {})


class Carried:
    """Finder and loader of the modules in SOURCES."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module comes from, None if it is not one of ours."""
        del path, target
        base = name.replace(".", "/")
        for file, package in ((base + "/__init__.py", True), (base + ".py", False)):
            if file in SOURCES:
                return ModuleSpec(name, Carried, origin=file, is_package=package)  # type: ignore[arg-type]  # duck-typed
        return None

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Fill a module from its text."""
        spec = module.__spec__
        if spec is not None and spec.origin is not None:
            exec(compile(SOURCES[spec.origin], spec.origin, "exec"), module.__dict__)  # noqa: S102 - it is our own text


sys.meta_path.insert(0, Carried)
