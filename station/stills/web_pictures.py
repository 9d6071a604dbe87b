"""Single pictures: `/streams/<id>/latest`, `next` and `<n>`, in another kind with `?type=`."""

from __future__ import annotations

import hashlib

from aiohttp import web

from station.http_server import RETRY, HttpServer
from station.stills import pictures
from station.stills.limits import Limits, Ticket
from station.stills.pictures import MEDIA_TYPES, Picture, Unreadable
from station.stills.stream import Stream
from station.stills.web_streams import Directory

WAKE = 3.0
"""Seconds that `latest` waits for a live source that has to be woken; ffmpeg shows its first picture after 0.2 s
[measured], but a source may first have to prove that it goes on."""
AWAY = 0.5
"""Seconds that `latest` waits for one that was known to be away already."""
PATIENCE = 30.0
"""Seconds that `next` waits."""
WAY = "http"


def enter(limits: Limits, request: web.Request) -> Ticket:
    """Return a place for whoever holds a connection. Raises HTTPTooManyRequests, HTTPServiceUnavailable."""
    ticket = limits.enter(request.remote or "")
    if ticket is not None:
        return ticket
    if limits.clients >= limits.settings.clients:
        raise web.HTTPServiceUnavailable(text="too many clients; try again later", headers=RETRY)
    raise web.HTTPTooManyRequests(
        text=f"more than {limits.settings.per_address} clients of this address; close some", headers=RETRY
    )


class Pictures:
    """The handler of single pictures."""

    def __init__(self, directory: Directory, limits: Limits, server: HttpServer) -> None:
        self._directory = directory
        self._limits = limits
        self._server = server

    async def picture(self, request: web.Request) -> web.Response:
        """Answer with a picture."""
        stream = self._directory.find(request)
        kind, after = _kind(request), _after(request)
        what = request.match_info["what"]
        if what == "next":
            picture = await self._next(request, stream, after)
        elif what == "latest":
            patience = AWAY if stream.state.word == "waiting" else WAKE
            picture = stream.now() if not stream.live else None
            picture = picture or await self._server.while_there(request, stream.latest(patience))
        else:
            picture = stream.at(int(what)) if len(what) < 20 else None
            if picture is None:
                count = stream.source.count
                known = f"has the pictures 0 to {count - 1}" if count else "is live; ask for `latest` or `next`"
                raise web.HTTPNotFound(text=f"there is no picture {what[:20]}: stream {stream.key} {known}")
        if picture is None:
            reason = stream.state.text or "no picture came in time"
            raise web.HTTPServiceUnavailable(text=f"stream {stream.key}: {reason}", headers=RETRY)
        try:
            picture = await stream.as_kind(picture, kind or picture.kind)
        except Unreadable as error:
            raise web.HTTPServiceUnavailable(text=f"stream {stream.key}: {error}", headers=RETRY) from error
        return self._answer(request, stream, picture)

    async def _next(self, request: web.Request, stream: Stream, after: int | None) -> Picture | None:
        ticket = enter(self._limits, request)
        tally = stream.tally(WAY)
        tally.clients += 1
        try:
            return await self._server.while_there(request, stream.following(after, PATIENCE))
        finally:
            tally.clients -= 1
            ticket.leave()

    def _answer(self, request: web.Request, stream: Stream, picture: Picture) -> web.Response:
        tag = hashlib.blake2s(picture.data, digest_size=12).hexdigest()
        headers = {
            "X-Picture-Number": str(picture.number),
            "ETag": f'"{tag}"',
            # may be kept, but is to be asked for each time: `no-store` would make the tag useless to browsers
            "Cache-Control": "no-cache",
            "Access-Control-Expose-Headers": "X-Picture-Number, ETag",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        tally = stream.tally(WAY)
        tally.sent += 1
        tally.bytes += len(picture.data)
        return web.Response(body=picture.data, content_type=MEDIA_TYPES[picture.kind], headers=headers)


def _kind(request: web.Request) -> str:
    try:
        return pictures.normal(request.query.get("type", "")[:16])
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"type: {error}") from error


def _after(request: web.Request) -> int | None:
    text = request.query.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise web.HTTPBadRequest(text="after: needed is the number of a picture, such as ?after=7")
    return int(text)
