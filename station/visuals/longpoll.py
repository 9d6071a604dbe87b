"""The HTTP transport of RadioVIS (ETSI TS 101 499): long polls, as JSON or JSONP, as text with headers, and `/comet`.

A request is answered at once with what the client does not know, or waits for the next message, at most POLL
seconds: then 408, upon which clients ask again.
"""

from __future__ import annotations

import json
import re

from aiohttp import web

from station.visuals.history import History, Line, wait
from station.visuals.message import Message
from station.visuals.service import Service

POLL = 10.0
"""Seconds; below the 15 s after which receivers give up, with room for a slow network."""
TOPICS = 16
"""Topics of one request."""
CALLBACK = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
WRONG_FORM = "Your destination does not matcht required format."
"""The words of the original."""


class LongPoll:
    """The handlers of `/radiodns/vis/vis.json`, `/radiodns/vis/vis` and `/comet`."""

    def __init__(self, service: Service, history: History, seconds: float = POLL) -> None:
        self._service = service
        self._history = history
        self._seconds = seconds

    async def json(self, request: web.Request) -> web.Response:
        """Answer `{"headers": …, "body": …}`; with `callback` as a script that calls it."""
        callback = request.query.get("callback")
        if callback is not None and (len(callback) > 100 or not CALLBACK.fullmatch(callback)):
            raise web.HTTPBadRequest(text="callback: needed is the name of a function of a script, such as a.b\n")
        message, destination = await self._next(request)
        told = {"headers": headers(message, destination), "body": message.body.decode(errors="replace")}
        if callback is None:
            return web.json_response(told)
        # the comment keeps the answer from being anything else than a script, whatever the name is
        return web.Response(text=f"/**/{callback}({json.dumps(told)});", content_type="application/javascript")

    async def text(self, request: web.Request) -> web.Response:
        """Answer the body as text, with the message's headers as those of the answer."""
        message, destination = await self._next(request)
        return web.Response(
            body=message.body, content_type="text/plain", charset="utf-8", headers=headers(message, destination)
        )

    async def _next(self, request: web.Request) -> tuple[Message, str]:
        lines = await self._lines(request)
        found = await wait(list(lines), request.query.get("last_id", ""), self._seconds)
        if found is None:
            raise web.HTTPRequestTimeout(text="nothing new; ask again\n")
        message, line = found
        return message, lines[line]

    async def _lines(self, request: web.Request) -> dict[Line, str]:
        destinations = [topic.strip() for topic in request.query.getall("topic", [])]
        if not destinations or not all(destinations) or len(destinations) > TOPICS:
            raise web.HTTPBadRequest(text=f"topic: needed are 1 to {TOPICS} of them, such as ?topic=/topic/…/image\n")
        topics: dict[str, str] = {}
        for destination in destinations:
            topic = await self._service.resolve(destination)
            if topic is None:
                raise web.HTTPBadRequest(text=f"{WRONG_FORM}\n")
            topics.setdefault(topic, destination)
        return dict(zip(self._history.lines(list(topics)), topics.values(), strict=True))


def headers(message: Message, destination: str) -> dict[str, str]:
    """Return the RadioVIS headers of a message; without a trigger time it is to be shown now.

    Args:
        message: the message.
        destination: the topic as the client wrote it.
    """
    found = {
        "RadioVIS-Message-ID": message.id,
        "RadioVIS-Destination": destination,
        "RadioVIS-Trigger-Time": message.headers.get("trigger-time", "NOW"),
    }
    if "link" in message.headers:
        found["RadioVIS-Link"] = message.headers["link"]
    return {key: _CONTROL.sub(" ", value) for key, value in found.items()}
