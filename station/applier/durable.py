"""Writing so that a power cut leaves the old file or the new one, never a part."""

from __future__ import annotations

import os


def sync_folder(path: str) -> None:
    """Make a folder's entries survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create(path: str, data: bytes, mode: int) -> None:
    """Write a new file and fsync it; its folder is the caller's to fsync."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(handle, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: str, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path` in one step, durable on return."""
    staged = path + ".new"
    if os.path.lexists(staged):
        os.unlink(staged)
    create(staged, data, mode)
    os.rename(staged, path)
    sync_folder(os.path.dirname(path))


def point(path: str, target: str) -> None:
    """Make the symlink `path` lead to `target` in one step, durable on return."""
    staged = path + ".new"
    if os.path.lexists(staged):
        os.unlink(staged)
    os.symlink(target, staged)
    os.rename(staged, path)
    sync_folder(os.path.dirname(path))


def remove(path: str) -> None:
    """Remove a file if it is there, durable on return."""
    if os.path.lexists(path):
        os.unlink(path)
        sync_folder(os.path.dirname(path))


def remove_tree(path: str) -> None:
    """Remove a folder with all that it holds, or a file; nothing there is fine."""
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    with os.scandir(path) as entries:
        names = [entry.path for entry in entries]
    for name in names:
        remove_tree(name)
    os.rmdir(path)
