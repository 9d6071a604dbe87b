"""What happens to real stations, done to those of the lab.

Each takes a `station.Machine`; `lab.find` and `lab.machine` lead there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from . import network
from .errors import LabError
from .station import Machine

EXT4_IOC_SHUTDOWN = 0x8004587D
"""linux/fs/ext4/ext4.h: _IOR('X', 125, __u32)."""
NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written out."""
BLOCK = 4096
"""Bytes of an ext4 block as mkfs.ext4 makes them here."""


def cut(station: Machine) -> bool:
    """Unplug the station's network cable; return whether it was plugged in."""
    return network.set_link(station.plan, up=False)


def restore(station: Machine) -> bool:
    """Plug the station's network cable in again; return whether it was out."""
    return network.set_link(station.plan, up=True)


def power_cut(station: Machine) -> bool:
    """Take the station's power away; return whether it had any.

    In this order: the link goes, so that nobody is told by a closing
    connection; the file system stops without writing anything out, so that
    only what was synchronised is there at the next boot; all processes end.
    """
    if not station.running():
        return False
    network.set_link(station.plan, up=False)
    handle = os.open(station.inside(station.folder / "disk"), os.O_RDONLY)
    try:
        fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(handle)
    station.clear()
    return True


def fill(station: Machine, leave: int = 0) -> bool:
    """Fill the station's disk up to `leave` free bytes, with a file that the station does not see.

    Returns whether there was anything to fill.
    """
    with _filler(station).open("ab") as file:
        before = file.tell()
        attempt = left = _free(file.fileno()) - leave
        while min(attempt, left) >= BLOCK:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, min(attempt, left))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise LabError(f"{station.plan.name}: the disk cannot be filled: {error}") from error
                # the file's own extents take room too
                attempt //= 2
            left = _free(file.fileno()) - leave
        # a full disk is full after a power cut too
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size > before


def free(station: Machine) -> bool:
    """Free what `fill` took; return whether it had taken anything."""
    if not filled(station):
        return False
    _filler(station).unlink()
    return True


def filled(station: Machine) -> bool:
    """Tell whether the station's disk holds what `fill` put there."""
    return _filler(station).exists()


def _filler(station: Machine) -> Path:
    return station.inside(station.folder / "disk/filler")


def _free(handle: int) -> int:
    state = os.fstatvfs(handle)
    return state.f_bavail * state.f_frsize
