"""The SFTP store of the station role `target`: what is finished there stays as it is.

Below a folder `.incoming/` everything is allowed. Anywhere else a file comes to
be once: by a rename from there, or by one upload that is closed properly; then
nobody who logs in can change, rename or remove it. A file that was cut off
may be sent again. What the server has confirmed (close, rename) is on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import asyncssh
from asyncssh.constants import FXP_CLOSE, FXP_WRITE
from asyncssh.packet import SSHPacket, String, UInt64
from asyncssh.sftp import SFTPServerHandler

from station.files import sync_folder
from station.incoming import INCOMING

log = logging.getLogger(__name__)
REPLACEABLE = ("index.jsonl",)
"""Names that may be replaced: an index grows with every segment, and holds no recording."""
FINISHED = 0o440
UNFINISHED = 0o640
FOLDER = 0o750
HASHES = {"md5sum": "md5", "sha1sum": "sha1", "sha256sum": "sha256"}


class Store(asyncssh.SFTPServer):
    """One SFTP session below the store's folder."""

    def __init__(
        self, channel: asyncssh.SSHServerChannel[bytes], root: Path, received: Callable[[int], object]
    ) -> None:
        """`received` is told the number of bytes of each write."""
        super().__init__(channel, chroot=os.fsencode(root))
        self._root = root
        self._received = received
        self._writing: dict[int, Path] = {}
        self.asked_to_close = False

    def _path(self, path: bytes) -> Path:
        return Path(os.fsdecode(self.map_path(path)))

    def _free(self, path: Path) -> bool:
        """Say whether a path may be changed: incoming, not finished, or an index."""
        if INCOMING in path.relative_to(self._root).parts or path.name in REPLACEABLE:
            return True
        try:
            found = path.lstat()
        except FileNotFoundError:
            return True
        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & stat.S_IWUSR)

    def _need_free(self, path: Path, verb: str) -> None:
        if not self._free(path):
            raise asyncssh.SFTPPermissionDenied(f"{path.name} is finished: nobody may {verb} it here")

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        place = self._path(path)
        if pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_TRUNC | asyncssh.FXF_CREAT):
            self._need_free(place, "overwrite")
        # Rights are ours to set: a client could make a file unreadable for the media group, or finished.
        file = super().open(path, pflags, asyncssh.SFTPAttrs(permissions=UNFINISHED))
        if pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND):
            self._writing[id(file)] = place
        return file

    def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
        self._received(len(data))
        return super().write(file_obj, offset, data)

    async def close(self, file_obj: Any) -> None:
        asked, self.asked_to_close = self.asked_to_close, False
        place = self._writing.pop(id(file_obj), None)
        if place is None:
            file_obj.close()
            return
        # The end of a session closes its files too; what the client did not close itself is not whole.
        finished = asked and INCOMING not in place.relative_to(self._root).parts
        await asyncio.to_thread(self._close, file_obj, place, finished)

    @staticmethod
    def _close(file: BinaryIO, place: Path, finished: bool) -> None:
        with file:
            if finished:
                os.fchmod(file.fileno(), FINISHED)
            os.fsync(file.fileno())
        sync_folder(place.parent)

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if self._path(newpath).exists():
            raise asyncssh.SFTPFailure(f"{self._path(newpath).name} exists")
        await self.posix_rename(oldpath, newpath)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = self._path(oldpath), self._path(newpath)
        self._need_free(old, "rename")
        if new.exists():
            self._need_free(new, "replace")
        if old.is_dir() and INCOMING not in old.relative_to(self._root).parts:
            raise asyncssh.SFTPPermissionDenied(f"{old.name} is not below {INCOMING}: it keeps its name")
        await asyncio.to_thread(self._rename, old, new)

    def _rename(self, old: Path, new: Path) -> None:
        if INCOMING not in new.relative_to(self._root).parts:
            for path in _regular(old):
                path.chmod(FINISHED)
        old.replace(new)
        sync_folder(new.parent)
        sync_folder(old.parent)

    def remove(self, path: bytes) -> None:
        self._need_free(self._path(path), "remove")
        self._path(path).unlink()

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        place = self._path(path)
        place.mkdir(FOLDER)
        sync_folder(place.parent)

    def rmdir(self, path: bytes) -> None:
        if self._path(path) == self._root:
            raise asyncssh.SFTPPermissionDenied("this is the store itself")
        self._path(path).rmdir()

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._need_free(self._path(path), "change")
        super().setstat(path, _times_and_size(attrs))

    def fsetstat(self, file_obj: Any, attrs: asyncssh.SFTPAttrs) -> None:
        if id(file_obj) not in self._writing:
            raise asyncssh.SFTPPermissionDenied("opened for reading")
        super().fsetstat(file_obj, _times_and_size(attrs))

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("no links here: one could lead out of the store")

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("no links here")


def adapt_asyncssh() -> None:
    """Mend two things in asyncssh's SFTP sessions for which it has no hook.

    The SFTP library in Debian 12's rclone sends the last piece of a file with
    its whole buffer behind it (measured with rclone 1.60.1). asyncssh calls
    that a bad message; we take the bytes that it announces, as OpenSSH does.
    And a file that a client closes is told from one that the session's end closes.
    """
    handlers: dict[int, Callable[..., Any]] = SFTPServerHandler._packet_handlers  # type: ignore[assignment]
    write, close = handlers[FXP_WRITE], handlers[FXP_CLOSE]

    async def exact_write(handler: Any, packet: SSHPacket) -> Any:
        exact = String(packet.get_string()) + UInt64(packet.get_uint64()) + String(packet.get_string())
        return await write(handler, SSHPacket(exact))

    async def noted_close(handler: Any, packet: SSHPacket) -> Any:
        handler._server.asked_to_close = True
        try:
            return await close(handler, packet)
        finally:
            handler._server.asked_to_close = False

    handlers[FXP_WRITE] = exact_write
    handlers[FXP_CLOSE] = noted_close


def _regular(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (below for below in path.rglob("*") if below.is_file() and not below.is_symlink())
    else:
        yield path


def _times_and_size(attrs: asyncssh.SFTPAttrs) -> asyncssh.SFTPAttrs:
    """Leave of what a client wants to set the times and the size; owner and rights are not its to choose."""
    return asyncssh.SFTPAttrs(size=attrs.size, atime=attrs.atime, mtime=attrs.mtime)


async def answer(command: str, root: Path) -> tuple[int, str]:
    """Answer what a client runs over SSH: a checksum of a file, and nothing else.

    Args:
        command: such as `sha256sum /demo/hall_a/t1/t1.mp4`, as a shell would read it. Without a file it
            is the checksum of nothing, by which rclone finds out what there is.
        root: the store's folder, the `/` of paths.

    Returns:
        Exit status, and what is printed.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words or words[0] not in HASHES:
        return 127, "only md5sum, sha1sum and sha256sum of a file are to be had here\n"
    if len(words) == 1:
        return 0, hashlib.new(HASHES[words[0]], usedforsecurity=False).hexdigest() + "  -\n"
    name = next((word for word in words[1:] if word != "--"), "")
    # As the SFTP session sees it: nothing is above `/`.
    path = root / os.path.normpath("/" + name).lstrip("/")
    try:
        with path.open("rb") as file:
            digest = await asyncio.to_thread(hashlib.file_digest, file, HASHES[words[0]])
    except OSError as error:
        return 1, f"{words[0]}: {name}: {error.strerror}\n"
    return 0, f"{digest.hexdigest()}  {name}\n"
