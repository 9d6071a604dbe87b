"""Differences as text, for `--diff`; nothing secret is ever in them."""

from __future__ import annotations

from station.applier.files import SECRETS
from station.applier.layout import Layout
from station.applier.light import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from station.applier.generation import Blobs

CODE = "lib/"
"""Code lies in folders named by its hash: a change is a new folder, and its text is in the repository."""


def _on_disk(layout: Layout, path: str, have: dict[str, Any]) -> str:
    if path in have["links"]:
        return f"link to {have['links'][path]}\n"
    try:
        return read(f"{layout.current}/{path}").decode(errors="replace")
    except OSError:
        return ""


def _wanted(layout: Layout, path: str, target: dict[str, Any], blobs: Blobs) -> str | None:
    """Return the text that a path will have, None if it is none or did not come along."""
    if path in target["links"]:
        return f"link to {target['links'][path]}\n"
    if path not in target["files"]:
        return ""
    data = blobs.get(target["files"][path]["sha256"])
    try:
        return None if data is None or b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def texts(
    layout: Layout, have: dict[str, Any], target: dict[str, Any], changed: list[str], blobs: Blobs
) -> list[dict[str, str]]:
    """Return for each changed path what Ansible's `diff` wants: `prepared` unified text."""
    import difflib

    found, code = [], 0
    for path in changed:
        if path.startswith(CODE):
            code += 1
        elif path.startswith(SECRETS + "/"):
            found.append({"prepared": f"{path}: (secret changed)\n"})
        elif path.endswith("/"):
            found.append({"prepared": f"{path}: mode\n"})
        else:
            before, after = _on_disk(layout, path, have), _wanted(layout, path, target, blobs)
            if after is None:
                found.append({"prepared": f"{path}: other content\n"})
                continue
            lines = difflib.unified_diff(
                before.splitlines(keepends=True), after.splitlines(keepends=True), f"before: {path}", f"after: {path}"
            )
            text = "".join(line if line.endswith("\n") else line + "\n" for line in lines)
            found.append({"prepared": text or f"{path}: mode or owner\n"})
    if code:
        found.append({"prepared": f"{CODE}: {code} files of code come or go\n"})
    return found
