"""Pictures and live streams of stations, through the manager: one address and one certificate for a page, and no CORS.

Only what the inventory says is served, and only under the names that an ingest gives its files.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.pages.session import Viewer
from api.problems import Problem, not_found
from stationmaster import resolve
from stationmaster.model import Event, Instance, Station

router = APIRouter(prefix="/media", include_in_schema=False)

FRESH = 2.0
"""Seconds that a picture, or its absence, is good for all pages; an ingest renews it every 3 s."""
LARGEST = 1 << 20
"""Bytes of a picture; one of 480 pixels' width has 20 kB."""
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
"""How pictures begin."""
SEGMENT = re.compile(r"\d{8}/\d{2}/[A-Za-z0-9_.-]{1,128}\.ts")
TYPES = {"live.m3u8": "application/vnd.apple.mpegurl", "ts": "video/mp2t"}
PLAIN = {"Content-Encoding": "identity"}
"""Has the manager not compress what is compressed already."""
PATIENCE = httpx2.Timeout(5.0, connect=2.0)
"""Seconds: a station in the same building that does not answer by then is away."""
WHOLE = 10.0
"""Seconds for a whole picture, however slowly it comes."""


def pictured(event: Event) -> Iterator[tuple[Station, Instance]]:
    """Yield the instances that make a preview picture and a live stream: those with an option `preview`."""
    for station in event.stations.values():
        for instance in station.instances():
            if "preview" in instance.options:
                yield station, instance


class Media:
    """Fetches from stations; what several pages ask for at a time is fetched once."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._client: httpx2.AsyncClient | None = None
        self._pictures: dict[str, tuple[float, bytes | None]] = {}
        self._slides: dict[str, tuple[float, str, bytes | None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        """Close the connections to stations."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def url(self, station: str, instance: str) -> str:
        """Return where an instance's files are; Problem 404 for one that the inventory does not have."""
        event = self._manager.inventory.current().event
        for host, one in pictured(event):
            if (host.name, one.id) == (station, instance) and host.address:
                return resolve.base_url(event, host, one)
        raise not_found("picture", f"{station[:64]}/{instance[:64]}")

    @asynccontextmanager
    async def open(self, url: str, patience: httpx2.Timeout = PATIENCE) -> AsyncIterator[httpx2.Response]:
        """Give a station's answer while it is read. Raises httpx2.HTTPError and httpx2.InvalidURL."""
        if self._client is None:
            # the station's own address and nothing that it, or this machine's environment, leads to
            self._client = httpx2.AsyncClient(timeout=PATIENCE, follow_redirects=False, trust_env=False)
        async with self._client.stream("GET", url, timeout=patience) as response:
            yield response

    async def picture(self, station: str, instance: str) -> bytes | None:
        """Return the newest preview picture, None if there is none now; Problem 404."""
        return await self.newest(self.url(station, instance) + "preview.jpg")

    async def newest(self, url: str, patience: httpx2.Timeout = PATIENCE) -> bytes | None:
        """Return the JPEG that is at a station's URL now, None if there is none; the URL is one of the inventory's."""
        async with self._locks.setdefault(url, asyncio.Lock()):
            at, known = self._pictures.get(url, (-FRESH, None))
            if time.monotonic() - at >= FRESH:
                known = await self.fetch(url, (JPEG,), patience)
                self._pictures[url] = time.monotonic(), known
            return known

    async def slide(self, room: str, url: str) -> bytes | None:
        """Return the slide of a room, None if it cannot be had now; a slide never changes, the next has another URL."""
        async with self._locks.setdefault(f"slide of {room}", asyncio.Lock()):
            at, before, known = self._slides.get(room, (-FRESH, "", None))
            if url != before or (known is None and time.monotonic() - at >= FRESH):
                known = await self.fetch(url, (JPEG, PNG))
                self._slides[room] = time.monotonic(), url, known
            return known

    async def fetch(self, url: str, begins: tuple[bytes, ...], patience: httpx2.Timeout = PATIENCE) -> bytes | None:
        """Return what is at a station's URL, None if that is nothing, is too large, or begins in none of these ways."""
        found = bytearray()
        try:
            # the patience is for each part that comes; a station that sends a byte at a time has no longer all the same
            async with asyncio.timeout(WHOLE), self.open(url, patience) as response:
                if response.status_code != 200:
                    return None
                async for chunk in response.aiter_bytes():
                    found += chunk
                    if len(found) > LARGEST:
                        return None
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
            return None
        return bytes(found) if found.startswith(begins) else None


@router.get("/{station}/{instance}/preview.jpg")
async def preview(request: Request, _session: Viewer, station: str, instance: str) -> Response:
    """Send the newest picture; 204 while there is none."""
    found = await request.app.state.media.picture(station, instance)
    if found is None:
        return Response(status_code=204)
    return Response(found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=1", **PLAIN})


@router.get("/{station}/{instance}/{path:path}")
async def stream(request: Request, _session: Viewer, station: str, instance: str, path: str) -> Response:
    """Send the playlist of a live stream, or a segment of it."""
    if path != "live.m3u8" and not SEGMENT.fullmatch(path):
        raise not_found("stream", path[:80])
    media: Media = request.app.state.media
    source = media.open(media.url(station, instance) + path)
    try:
        response = await source.__aenter__()
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _away(station, type(error).__name__) from error
    if response.status_code != 200:
        await source.__aexit__(None, None, None)
        raise _away(station, f"status {response.status_code}")

    async def content() -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        finally:
            await source.__aexit__(None, None, None)

    keep = "no-store" if path == "live.m3u8" else "private, max-age=3600, immutable"
    headers = {"Cache-Control": keep, **PLAIN}
    if length := response.headers.get("content-length"):
        headers["Content-Length"] = length
    return StreamingResponse(content(), media_type=TYPES.get(path, TYPES["ts"]), headers=headers)


def _away(station: str, why: str) -> Problem:
    detail = f"The station {station} does not give its stream now: {why}."
    return Problem(502, "StationAway", detail, "See the room's card for what is wrong with it.", retryable=True)
