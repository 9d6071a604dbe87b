"""Differences as text, for `--diff`; nothing secret is ever in them."""

from __future__ import annotations

from station.applier.files import SECRETS
from station.applier.layout import Layout
from station.applier.light import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Contents = Callable[[dict[str, Any]], bytes | None]

CODE = "lib/"
"""Code lies in folders named by its hash: a change is a new folder, and its text is in the repository."""

LARGEST = 256 * 1024
"""Bytes of a text that is compared line by line; larger contents do not come along with an apply either."""


def _text(data: bytes | None) -> str | None:
    """Return a content as text, None if it is none, is too long or is not at hand."""
    if data is None or len(data) > LARGEST or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _on_disk(layout: Layout, path: str, have: dict[str, Any]) -> str | None:
    if path in have["links"]:
        return f"link to {have['links'][path]}\n"
    try:
        return _text(read(f"{layout.current}/{path}"))
    except OSError:
        return ""


def _wanted(path: str, target: dict[str, Any], contents: Contents) -> str | None:
    if path in target["links"]:
        return f"link to {target['links'][path]}\n"
    if path not in target["files"]:
        return ""
    return _text(contents(target["files"][path]))


def texts(
    layout: Layout, have: dict[str, Any], target: dict[str, Any], changed: list[str], contents: Contents
) -> list[dict[str, str]]:
    """Return for each changed path what Ansible's `diff` wants: `prepared` unified text.

    `contents` gives the content of a file of `target`, None if it is not at hand.
    """
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
            before, after = _on_disk(layout, path, have), _wanted(path, target, contents)
            if before is None or after is None:
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
