"""A folder of descriptor files, as the servers of the original write them while they run, and ours do."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from station.catalogues.board import Board
from station.catalogues.rows import Row
from station.catalogues.servers import base_of
from station.catalogues.told import CHECKS, Stream, written
from station.stills import descriptor as descriptors
from station.stills import running

log = logging.getLogger(__name__)
EVERY = 0.5
"""Seconds between two looks."""


class Folder:
    """Keeps what a board shows of a folder true."""

    def __init__(self, folder: Path, board: Board, every: float = EVERY) -> None:
        """Take a folder, which need not be there yet. `every` is in seconds."""
        self._folder, self._board, self._every = folder, board, every
        self._told: set[str] = set()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            self._board.files(await asyncio.to_thread(self.look))
            await asyncio.sleep(self._every)

    def look(self) -> list[tuple[Row, Stream]]:
        """Return the streams of the folder in order of the files' names; what is wrong is logged once."""
        try:
            found = running.find(self._folder)
        except OSError as error:
            self._complain(f"the folder {self._folder} cannot be listed: {error.strerror}; nothing of it is shown")
            return []
        streams = []
        for one in found:
            try:
                told = descriptors.parse(one.text)
            except descriptors.DescriptorError as error:
                self._complain(f"{self._folder / one.name} is not shown: {error}")
                continue
            # What has no protocol cannot be had: it is another file that happens to be here.
            if told.protocol:
                streams.append(shown(self._folder.name, one, told))
        return streams

    def _complain(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)


def shown(server: str, found: running.Found, told: descriptors.Descriptor) -> tuple[Row, Stream]:
    """Return a descriptor as a row and as JSON; `server` is where it was found, for people."""
    row = Row(told.id, told.name, told.type, told.address, told.port, told.protocol, told.ips)
    values: Stream = {
        "key": found.key or told.name or found.name,
        "id": told.id,
        "name": told.name,
        "type": told.type,
        "address": told.address,
        "port": told.port,
        "protocol": told.protocol,
        "ips": told.ips,
        "count": len(told.images),
        "state": "ready",
        "state_text": "",
        "urls": {"latest": f"/streams/{found.key}/latest"} if found.http_port else {},
    }
    # anybody's file, and JSON has no place for half characters or numbers that are none
    stream: Stream = {key: check(values.get(key)) for key, check in CHECKS.items()}
    stream |= {
        "number": stream["id"],
        "server": written(f"{server}/{found.name}"),
        "base": base_of("127.0.0.1", found.http_port) if found.http_port else None,
    }
    return row, stream
