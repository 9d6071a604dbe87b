"""What streams there are, as JSON, and how one is found by its id or key."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from station.stills import pictures, sdp
from station.stills.pictures import Picture, Unreadable
from station.stills.settings import Settings
from station.stills.stream import Stream


class Directory:
    """The streams of one instance."""

    def __init__(self, settings: Settings, streams: Sequence[Stream]) -> None:
        self.streams = tuple(streams)
        self._settings = settings
        self._named = {stream.key: stream for stream in self.streams}
        self._named |= {str(stream.settings.id): stream for stream in self.streams}
        self._sizes: dict[str, tuple[Picture, tuple[int, int]]] = {}

    def find(self, request: web.Request) -> Stream:
        """Return the stream that a request names. Raises HTTPNotFound."""
        name = request.match_info["stream"]
        # a key is not of digits only, so an id is one however it is written
        found = self._named.get(str(int(name)) if name.isascii() and name.isdecimal() and len(name) < 20 else name)
        if found is None:
            raise web.HTTPNotFound(text=f"there is no stream {name[:64]!r}; GET /streams lists them")
        return found

    def told(self) -> dict[str, Any]:
        """Return the answer of `/streams`."""
        settings = self._settings
        return {
            "event": settings.event,
            "station": settings.station,
            "instance": settings.instance,
            "address": settings.address,
            "streams": [self._one(stream) for stream in self.streams],
        }

    def _one(self, stream: Stream) -> dict[str, Any]:
        settings, state = stream.settings, stream.state
        width, height = self._size(stream)
        base = f"/streams/{stream.key}/"
        urls = {"latest": base + "latest", "next": base + "next", "mjpeg": base + "mjpeg", "websocket": base + "ws"}
        return {
            "key": stream.key,
            "id": settings.id,
            "name": settings.name,
            "type": stream.type,
            "address": settings.address or self._settings.address,
            "port": settings.port,
            "protocol": settings.protocol,
            "ips": settings.ips,
            "count": stream.source.count,
            "room": settings.room,
            "from": settings.live.name if settings.live else None,
            "state": state.word,
            "state_text": state.text,
            "viewers": stream.viewers,
            "width": width,
            "height": height,
            "urls": urls | ({"sdp": base + "rtp.sdp"} if settings.rtp else {}),
        }

    def _size(self, stream: Stream) -> tuple[int | None, int | None]:
        picture = stream.source.at(0) if stream.source.count else stream.source.newest()
        known = self._sizes.get(stream.key)
        if picture is not None and (known is None or known[0] is not picture):
            with contextlib.suppress(Unreadable):
                known = self._sizes[stream.key] = (picture, pictures.size(picture))
        return known[1] if known else (None, None)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer `GET /streams`."""
        return web.json_response(self.told(), dumps=dumps)

    async def sdp(self, request: web.Request) -> web.Response:
        """Answer `GET /streams/<id>/rtp.sdp`."""
        stream = self.find(request)
        rtp = stream.settings.rtp
        if rtp is None:
            raise web.HTTPNotFound(text=f"stream {stream.key} is not sent by RTP; its option `rtp` would do that")
        text = sdp.text(
            name=stream.settings.name,
            address=self._settings.address,
            group=rtp.group,
            port=rtp.port,
            ttl=rtp.ttl,
            ips=stream.settings.ips,
        )
        headers = {"Content-Disposition": f'inline; filename="{stream.key}.sdp"'}
        return web.Response(text=text, content_type=sdp.MEDIA_TYPE, headers=headers)


def dumps(value: Any) -> str:
    """Return JSON on one line, with letters of all scripts as they are."""
    return json.dumps(value, ensure_ascii=False)
