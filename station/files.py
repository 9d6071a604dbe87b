"""Files that a power cut leaves either old or new, never torn."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without this a rename may be gone after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable; it may have been written by another process."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes | str, *, durable: bool = False, mode: int = 0o640) -> None:
    """Replace a file in one rename.

    `durable` adds the fsyncs that a power cut asks for; leave it off for what is
    written again within seconds (status, preview, metrics). Raises OSError; the
    old file is then untouched and nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    # Hidden, and of a random name: two writers never share one, and nginx does not serve it.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask says
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def write_json(path: Path, value: Any, *, durable: bool = False, mode: int = 0o640) -> None:
    """Replace a JSON file in one rename; see `write`."""
    write(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n", durable=durable, mode=mode)


def make_folder(folder: Path, *, durable: bool = False) -> None:
    """Make a folder and its parents; with `durable` each new name survives a power cut."""
    missing = []
    step = folder
    while not step.exists():
        missing.append(step)
        step = step.parent
    folder.mkdir(parents=True, exist_ok=True)
    if durable:
        for made in reversed(missing):
            sync_folder(made.parent)
