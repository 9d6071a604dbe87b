"""Server-sent events (HTML Standard, 9.2): `GET /radiodns/push/1.0/<identifier>`, the pictures and texts of a service.

The identifier is the topic without `/topic/` and the last part. Events `image {src, link, …}` and `text {body, …}`,
a comment as heartbeat. Query: `types=image,text,programme` (what the screen page needs; the default is image and
text), `beat=1` for heartbeats that a script sees, `last_id` as the header Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Mapping

from aiohttp import web

from station.http_connection import LAST_CHUNK, Connection, Pipe, chunk
from station.visuals.history import History, Line
from station.visuals.hub import Subscription
from station.visuals.longpoll import WRONG_FORM
from station.visuals.message import Message
from station.visuals.outbox import Outbox
from station.visuals.service import Service

HEARTBEAT = 15.0
"""Seconds, as in the original."""
RETRY = 3000
"""Milliseconds after which a browser connects again by itself."""
TYPES = ("image", "text", "programme")
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events until it has some kilobytes of them
    "Access-Control-Allow-Origin": "*",
}


class Stream:
    """One client: a subscriber of some topics whose queue is that of every other client (outbox.py)."""

    def __init__(self, service: Service, connection: Connection, topics: Mapping[str, str], beat: bytes) -> None:
        self.session_id = str(uuid.uuid4())
        self.address, self.port = connection.address, connection.port
        self._service = service
        self._beat = beat
        self.outbox = Outbox(Pipe(connection, chunk, LAST_CHUNK), service.flusher, self._dropped)
        self._places = dict.fromkeys(topics, "-")
        self._subscriptions = [Subscription(topic, topic, kind, self) for kind, topic in topics.items()]

    def begin(self, lines: Mapping[str, Line], known: str) -> None:
        """Subscribe, and send what the client has not got yet.

        Args:
            lines: of each type.
            known: the last event's id as the client tells it; "" for none.
        """
        places = dict(zip(lines, known.split("."), strict=False)) if known else {}
        waiting = []
        for subscription in self._subscriptions:
            kind = subscription.id or ""
            self._service.subscribe(self, subscription)
            kept = [message for _, message in lines[kind].kept]
            found = [number for number, message in enumerate(kept) if place(message) == places.get(kind)]
            if found:
                self._places[kind] = places[kind]
            waiting += [(message, subscription) for message in (kept[found[-1] + 1 :] if found else kept[-1:])]
        for message, subscription in waiting:
            self.take(message, subscription)

    def end(self) -> None:
        """Unsubscribe; the connection has gone."""
        self.outbox.close()
        for subscription in self._subscriptions:
            self._service.unsubscribe(self, subscription)

    def take(self, message: Message, subscription: Subscription) -> None:
        """Queue a message as an event."""
        kind = subscription.id or ""
        data = event(kind, message)
        if data is not None:
            self._places[kind] = place(message)
            self.outbox.add(b"id: %b\n%b" % (".".join(self._places.values()).encode(), data))

    def heartbeat(self) -> None:
        """Show that the connection lives."""
        if self._beat:
            self.outbox.reply(b"event: beat\ndata: %b\n\n" % (self._beat % int(time.time() * 1000)))
        else:
            self.outbox.reply(b": \n\n")

    def stop(self) -> None:
        """Close it soon: the instance ends."""
        self.outbox.finish()

    def _dropped(self, reason: str) -> None:
        self._service.counters.dropped[reason] += 1


class Streams:
    """The handler of the push address.

    `version` is the screen page's: told with each `beat`, so that a page that is old can load itself anew.
    """

    def __init__(self, service: Service, history: History, version: str = "", heartbeat: float = HEARTBEAT) -> None:
        self._service = service
        self._history = history
        self._beat = b'{"now": %%d, "version": "%b"}' % version.encode()
        self._heartbeat = heartbeat

    async def push(self, request: web.Request, connection: Connection) -> web.StreamResponse:
        """Stream events until the client goes."""
        topics = await self._topics(request)
        beat = self._beat if request.query.get("beat") == "1" else b""
        stream = Stream(self._service, connection, topics, beat)
        if self._service.admit(stream) is not None:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "10"}, text="too many clients\n")
        try:
            response = web.StreamResponse(headers=HEADERS)
            response.enable_chunked_encoding()
            await response.prepare(request)
            # some versions of aiohttp keep the head back until the first write
            await response.write(b"retry: %d\n\n" % RETRY)
            connection.stream(stream.outbox)
            stream.heartbeat()
            known = request.headers.get("Last-Event-ID") or request.query.get("last_id", "")
            stream.begin(dict(zip(topics, self._history.lines(list(topics.values())), strict=True)), known)
            while not connection.gone.is_set():
                try:
                    await asyncio.wait_for(connection.gone.wait(), self._heartbeat)
                except TimeoutError:
                    stream.heartbeat()
            return response
        finally:
            stream.end()
            self._service.leave(stream)

    async def _topics(self, request: web.Request) -> dict[str, str]:
        kinds = request.query.get("types", "image,text").split(",")
        if len(set(kinds)) != len(kinds) or not set(kinds) <= set(TYPES):
            raise web.HTTPBadRequest(text=f"types: needed are some of {', '.join(TYPES)}, with a comma between them\n")
        topics = {}
        for kind in kinds:
            topic = await self._service.resolve(f"/topic/{request.match_info['identifier']}/{kind}")
            if topic is None:
                raise web.HTTPBadRequest(text=f"{WRONG_FORM}\n")
            topics[kind] = topic
        return topics


def place(message: Message) -> str:
    """Return a short form of a message's id, without any character that means something in an event's id."""
    return hashlib.blake2s(message.id.encode(), digest_size=8).hexdigest()


_rendered: tuple[Message, str, bytes | None] | None = None


def event(kind: str, message: Message) -> bytes | None:
    """Return the lines of an event, or None for a picture's message that shows none.

    Args:
        kind: image, text or programme.
        message: the message; the last one is remembered, for it goes to many.
    """
    global _rendered
    if _rendered is not None and _rendered[0] is message and _rendered[1] == kind:
        return _rendered[2]
    body = message.body.decode(errors="replace")
    told = {key.replace("-", "_"): message.headers[key] for key in ("trigger-time", "link") if key in message.headers}
    told |= {"message_id": message.id, "when": message.headers.get("when", "")}
    data: bytes | None = None
    if kind == "image":
        word, _, address = body.partition(" ")
        if word.upper() == "SHOW" and address.strip():
            data = json.dumps({"src": address.strip(), **told}).encode()
    elif kind == "text":
        data = json.dumps({"body": body[5:] if body[:5].upper() == "TEXT " else body, **told}).encode()
    else:
        data = json.dumps({"body": body, **told}).encode()
    lines = None if data is None else b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
    _rendered = (message, kind, lines)
    return lines
