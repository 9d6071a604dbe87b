"""Large files to an SSH server, gone on with in the middle after a cut.

rclone 1.60 begins a file anew that was cut off, and removes what had arrived: over an uplink that fails
every ten minutes a talk of two gigabytes would never be whole. So files from
LARGE on go to SFTP targets this way; all others, and the checking, are rclone's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncssh

from station.rclone import IO_TIMEOUT, STALL_LIMIT, Progress, RcloneError
from station.remote import Remote

log = logging.getLogger(__name__)
LARGE = 16 << 20
"""Bytes from which it is worth a second way of sending: 13 s at 10 Mbit/s."""
CHUNK = 1 << 20
"""Bytes under way at once."""
BLOCK = 32 << 10
"""Bytes in a request: every server takes as much."""
OVERLAP = 4 * CHUNK
"""Bytes at the end of what arrived that are sent again: a server may have written them out of order."""
CONNECT_TIMEOUT = 15


class Sender:
    """Sends files to the staging folder of one SFTP target."""

    def __init__(
        self,
        remote: Remote,
        entry: Mapping[str, Any],
        tick: Callable[[], object],
        report: Callable[[Progress], object],
        rate: Callable[[], int | None],
    ) -> None:
        """`entry` is the resolved target with its secrets; the rest is as in `Rclone`."""
        self._remote = remote
        self._entry = entry
        self._tick = tick
        self._report = report
        self._rate = rate

    def send(self, path: Path, place: str) -> None:
        """Send a local file to a path below the target's folder; what is there already is not sent again.

        Raises RcloneError with the reason, whatever `tick` raises, OSError for the local file.
        """
        # Its own lines are of single requests.
        asyncssh.set_log_level(logging.WARNING)
        asyncio.run(self._with_ticks(path, place))

    async def _with_ticks(self, path: Path, place: str) -> None:
        work = asyncio.create_task(self._send(path, place))
        try:
            while not (await asyncio.wait({work}, timeout=0.25))[0]:
                self._tick()
            await work
        except (asyncssh.Error, ConnectionError, TimeoutError) as error:
            raise RcloneError(self._remote.scrub(f"{place}: {_reason(error)}")) from error
        finally:
            work.cancel()
            with contextlib.suppress(BaseException):
                await work

    async def _send(self, path: Path, place: str) -> None:
        target = "/".join([*([self._remote.base] if self._remote.base else []), place])
        known = self._remote.config.parent / "known_hosts"
        key = self._entry.get("private_key")
        connection = asyncssh.connect(
            str(self._entry["host"]),
            int(self._entry.get("port", 22)),
            username=str(self._entry["user"]),
            password=self._entry.get("password"),
            client_keys=[asyncssh.import_private_key(str(key))] if key else None,
            known_hosts=None
            if self._entry.get("accept_any_host_key") and not self._entry.get("host_key")
            else str(known),
            agent_path=None,
            config=[],
            login_timeout=CONNECT_TIMEOUT,
            connect_timeout=CONNECT_TIMEOUT,
            keepalive_interval=IO_TIMEOUT // 3,
        )
        async with connection as link, link.start_sftp_client() as sftp:
            await sftp.makedirs(target.rpartition("/")[0], exist_ok=True)
            arrived = (await sftp.getsize(target) or 0) if await sftp.exists(target) else 0
            size = path.stat().st_size
            # What has the full size and still is to be sent is known to differ.
            begin = max(arrived - OVERLAP, 0) if arrived < size else 0
            if begin:
                log.info("%s: going on at %d of %d bytes", place, begin, size)
                try:
                    await self._write(sftp, path, target, begin)
                    return
                except asyncssh.SFTPConnectionLost:
                    raise
                except asyncssh.SFTPError as error:
                    log.info("%s: this server cannot go on in a file (%s); it is sent anew", place, error.reason)
            await self._write(sftp, path, target, 0)

    async def _write(self, sftp: asyncssh.SFTPClient, path: Path, target: str, begin: int) -> None:
        size = path.stat().st_size
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | (0 if begin else asyncssh.FXF_TRUNC)
        rate = self._rate()
        started = time.monotonic()
        with path.open("rb") as local:
            local.seek(begin)
            done = begin
            async with sftp.open(target, flags, encoding=None, block_size=BLOCK) as file:
                while data := local.read(CHUNK):
                    await asyncio.wait_for(file.write(data, done), STALL_LIMIT)
                    done += len(data)
                    took = max(time.monotonic() - started, 0.001)
                    if rate and (early := (done - begin) / rate - took) > 0:
                        await asyncio.sleep(early)
                        took += early
                    speed = (done - begin) / took
                    self._report(Progress(done - begin, size - begin, speed, (size - done) / speed))


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncssh.PermissionDenied):
        return "unable to authenticate: the server refuses account, password or key"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return f"key mismatch: the server's host key is not the one that the target names ({error.reason})"
    if isinstance(error, TimeoutError):
        return f"no advance for {STALL_LIMIT} s"
    return str(getattr(error, "reason", "") or error) or type(error).__name__
