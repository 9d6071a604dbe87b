"""Streams by hand, without config.json: one, or all of a server file with their catalogue, in one process.

A server file has `ServerAddress: a` and `ServerPort: p`, where the catalogue is, and the paths of descriptors, one a
line. Each stream that runs has a descriptor in `running/`, where `stationmaster catalogue` looks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from station.catalogues.board import Board
from station.catalogues.folder import shown
from station.catalogues.text import TextServer
from station.catalogues.web import Web
from station.config import ConfigError
from station.metrics import Metrics
from station.stills import descriptor as descriptors
from station.stills import running, trace
from station.stills.descriptor import Descriptor, DescriptorError
from station.stills.instance import Server
from station.stills.settings import LOOPBACK, Settings, networks
from station.stills.stream_settings import StreamSettings, checked, numbered

log = logging.getLogger(__name__)
USAGE = "usage: python3 -m station.stills SERVER_FILE VERBOSITY (0 to 5), or --config FILE, or --example"

_ITEMS = {"ServerAddress:": "ServerAddress: 127.0.0.1", "ServerPort:": "ServerPort: 8000"}
"""What a server file says besides paths, each with an example."""


class AloneError(Exception):
    """What cannot be started as it was asked; the text has a line for each reason."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a catalogue is: `address` is what its clients are told, `page_port` the one of its page (0: none)."""

    address: str
    port: int
    page_port: int = 0


@dataclass(frozen=True, slots=True)
class Ways:
    """What descriptors do not say: the HTTP port (0: no HTTP), and the networks that UDP is for."""

    http_port: int = 0
    networks: Sequence[str] = LOOPBACK


def read_server_file(path: Path) -> tuple[Listing, list[Path]]:
    """Return where the catalogue is to be, and the descriptors.

    Raises:
        AloneError: it cannot be read, or lacks one of its parts.
    """
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise AloneError(f"{path}: cannot be read: {error.strerror}") from error
    items: dict[str, str] = {}
    paths, unknown = [], []
    for line in lines:
        words = line.split()
        if len(words) == 1 and not words[0].endswith(":"):
            paths.append(descriptors.image_path(words[0].replace("\\", "/"), path.parent))
        elif len(words) == 2 and words[0] in _ITEMS:
            items[words[0]] = words[1]
        elif words and not line.startswith("#"):
            unknown.append(line.strip())
    port = items.get("ServerPort:", "")
    missing = [key for key in _ITEMS if key not in items]
    if missing:
        instead = f"; it has {unknown[0]!r}" if unknown else ""
        raise AloneError(
            f"{path}: has no {' and no '.join(missing)} a line such as `{_ITEMS[missing[0]]}` is needed{instead}"
        )
    for line in unknown:
        log.warning(
            "%s: the line %r says nothing: it is no path of one word, and none of %s", path, line, " ".join(_ITEMS)
        )
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise AloneError(f"{path}: ServerPort: is {port!r}; needed is a port from 1 to 65535")
    if not paths:
        raise AloneError(f"{path}: names no descriptor; needed is the path of one on a line of its own")
    return Listing(items["ServerAddress:"], int(port)), paths


def read_descriptors(paths: Sequence[Path]) -> list[Descriptor]:
    """Return the descriptors of files, images by paths from here.

    Raises:
        AloneError: some cannot be used; all of them are named.
    """
    found, wrong = [], []
    for path in paths:
        try:
            one = from_here(descriptors.read(path), path.parent)
            if one.method is None:
                raise DescriptorError(
                    f"{path}: has no Protocol: line; allowed are {', '.join(descriptors.METHODS.values())}"
                )
        except DescriptorError as error:
            text = str(error)
            wrong.append(text if text.startswith(str(path)) else f"{path}: {text}")
        else:
            found.append(one)
    if wrong:
        raise AloneError("\n".join(wrong))
    return found


def from_here(descriptor: Descriptor, folder: Path) -> Descriptor:
    """Return a descriptor of a folder with its images by paths from the working directory."""
    images = [str(descriptors.image_path(image, folder)) for image in descriptor.images]
    return replace(descriptor, images=tuple(images))


def settings_of(found: Sequence[Descriptor], ways: Ways, listing: Listing | None = None) -> Settings:
    """Return the settings of a process that serves descriptors, and has a catalogue if `listing` says where.

    Raises:
        AloneError: one of them cannot be served, or two want one port.
    """
    keys: list[str] = []
    ids: set[int] = set()
    streams = []
    try:
        for one in found:
            # Descriptors of one server file may have the same ID, as they may have none.
            number = one.id if one.numbered and one.id not in ids else -1
            ids.add(number)
            keys.append(_key(one.name, keys))
            streams.append(
                checked(
                    StreamSettings(
                        key=keys[-1],
                        id=number,
                        name=one.name or keys[-1],
                        type=one.type,
                        ips=one.ips,
                        method=one.method,
                        port=one.port,
                        address=one.address,
                        images=one.images,
                    )
                )
            )
        return Settings(
            streams=tuple(numbered(streams, _ports(ways, listing))),
            http_port=ways.http_port,
            networks=networks(list(ways.networks)),
        )
    except (ConfigError, DescriptorError) as error:
        # the options of role.yml are not what was written here
        raise AloneError(re.sub(r"^options\.(streams\.)?", "", str(error))) from error


def _ports(ways: Ways, listing: Listing | None) -> dict[tuple[str, int], str]:
    wanted = [("--http-port", ways.http_port)]
    if listing is not None:
        wanted += [("ServerPort:", listing.port), ("--page-port", listing.page_port)]
    found: dict[tuple[str, int], str] = {}
    for name, number in wanted:
        if number and found.setdefault(("tcp", number), name) != name:
            raise ConfigError(name.rstrip(":"), f"is {number}, as that of {found['tcp', number]}; give it another")
    return found


def _key(name: str, taken: Sequence[str]) -> str:
    key = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60] or "stream"
    key = f"stream{key}" if key.isdecimal() else key
    number, free = 2, key
    while free in taken:
        number, free = number + 1, f"{key}-{number}"
    return free


class Alone(Server):
    """A server with its running descriptors, and with a catalogue if it is to have one."""

    def __init__(self, settings: Settings, found: Sequence[Descriptor], listing: Listing | None = None) -> None:
        """Read the pictures.

        Args:
            settings: as `settings_of` makes them of the descriptors.
            found: the descriptors, in the same order.
            listing: where the catalogue is; None for none.

        Raises:
            ConfigError: some cannot be used.
        """
        super().__init__(settings)
        self._found, self._listing = found, listing
        self._running = running.Running()

    async def start(self) -> None:
        """Open all ports, and only then tell of it. Raises OSError for one that is taken."""
        await super().start()
        running.clean(running.FOLDER)
        rows = list(zip(self._found, self.settings.streams, strict=True))
        for one, stream in rows:
            told = replace(one, images=tuple(image for image in one.images if not re.search(r"\s", image)))
            try:
                self._running.add(descriptors.text(told), self.settings.http_port, stream.key)
            except running.RunningError as error:
                log.warning("%s", error)
                break
        if self._listing is not None:
            await self._open(self._listing)

    async def _open(self, listing: Listing) -> None:
        board = Board()
        board.files(
            [
                shown("here", running.Found(stream.key, "", self.settings.http_port, stream.key), one)
                for one, stream in zip(self._found, self.settings.streams, strict=True)
            ]
        )
        text = TextServer(board, listing.port, told=listing.address, sent=tell_catalogue)
        await text.start()
        self._closers.append(text.stop)
        if listing.page_port:
            page = Web(board, listing.page_port, Metrics(Path(), {}).text)
            await page.start()
            self._closers.append(page.stop)

    async def close(self) -> None:
        """Close everything and remove the descriptors."""
        self._running.close()
        await super().close()


def tell_catalogue(text: str) -> None:
    """Tell the text that a client of the catalogue was sent."""
    trace.tell(trace.RECEIVED, "catalogue", text)


def serve(found: Sequence[Descriptor], ways: Ways, listing: Listing | None = None) -> int:
    """Serve descriptors until SIGINT or SIGTERM; returns the exit status.

    Args:
        found: images by paths from here.
        ways: what they do not say.
        listing: where the catalogue is; None for none.

    Raises:
        AloneError: something cannot be used, or a port is taken.
    """
    try:
        asyncio.run(_serve(found, ways, listing))
    except ConfigError as error:
        raise AloneError(re.sub(r"^options\.(streams\.)?", "", str(error))) from error
    except OSError as error:
        raise AloneError(f"cannot serve: {error.strerror or error}") from error
    return 0


async def _serve(found: Sequence[Descriptor], ways: Ways, listing: Listing | None) -> None:
    await Alone(settings_of(found, ways, listing), found, listing).run()
    log.info("stopped")


def serve_file(path: Path, ways: Ways, page_port: int = 0) -> int:
    """Serve all descriptors of a server file with their catalogue; see `serve`. Raises AloneError."""
    listing, paths = read_server_file(path)
    return serve(read_descriptors(paths), ways, replace(listing, page_port=page_port))


def main(arguments: Sequence[str]) -> int:
    """Run as the original's `__main__`, `SERVER_FILE VERBOSITY`; returns the exit status."""
    verbosity = arguments[1] if len(arguments) == 2 else ""
    if not re.fullmatch("[0-5]", verbosity):
        print(USAGE, file=sys.stderr)
        return 1
    trace.use(int(verbosity))
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return serve_file(Path(arguments[0]), Ways())
        return 0
    except AloneError as error:
        print(f"{USAGE}\n{error}", file=sys.stderr)
        return 1
