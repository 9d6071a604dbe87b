"""Which files of `station/` a program consists of.

A unit restarts when the code that it runs changed, and only then: so each
program's own modules are found by following its imports, and they travel to
the station in a folder named by their common hash. A module that needs other
files names them, relative to its own folder, in a constant that is a literal:
`STATIC_FILES = ("screen/index.html", "screen/screen.js")`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

STATION = Path(__file__).resolve().parent.parent / "station"


@functools.cache
def closure(module: str, folder: Path = STATION) -> dict[str, bytes]:
    """Return the source files that a module of the package needs, itself included.

    Args:
        module: dotted name, such as `station.ingest`.
        folder: the package's folder.

    Returns:
        Path (`station/ingest.py`) to content, in order of the paths.

    Raises:
        ModuleNotFoundError: the package has no such module.
        FileNotFoundError: a module names a file (`STATIC_FILES`) that is not in its folder.
    """
    if not _file(module, folder):
        raise ModuleNotFoundError(f"{folder} has no module {module}; a unit's command names it")
    found: dict[str, bytes] = {}
    waiting = [module, f"{module}.__main__"]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = _file(name, folder)
        if name in seen or path is None:
            continue
        seen.add(name)
        content = path.read_bytes()
        tree = ast.parse(content, str(path))
        found[str(path.relative_to(folder.parent))] = content
        for static in _static(tree, path):
            found[str(static.relative_to(folder.parent))] = static.read_bytes()
        waiting += _imports(name, path, tree)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return dict(sorted(found.items()))


def _file(module: str, folder: Path) -> Path | None:
    base = folder.parent.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _static(tree: ast.Module, path: Path) -> list[Path]:
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["STATIC_FILES"]:
            names += ast.literal_eval(node.value)
    found = [path.parent / name for name in names]
    for file in found:
        if ".." in file.parts or not file.is_file():
            raise FileNotFoundError(f"{path} names {file} in STATIC_FILES; needed is a file in its own folder")
    return found


def _imports(name: str, path: Path, tree: ast.Module) -> list[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    root = name.partition(".")[0]
    return [item for item in found if item.partition(".")[0] == root]


def digest(files: dict[str, bytes]) -> str:
    """Return the common hash of a program's files: 16 hex digits, enough to tell versions apart."""
    total = hashlib.sha256()
    for path, content in files.items():
        total.update(f"{path}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:16]
