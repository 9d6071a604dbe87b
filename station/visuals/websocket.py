"""WebSockets (RFC 6455): STOMP for browsers on `/stomp`, and the socket of the original's HTML5 player.

The player's (`/radiovis/<topic without image or text>`) gets raw MESSAGE frames and the control messages of the
original. One thing of it is absent: the original was a proxy that looked up any station in the world's DNS and
connected there. This one serves its own topics only (hence never `NOFQDN`): a server that connects wherever a
browser says could be used against others, and stations that want to be seen are reached by their own server.
"""

from __future__ import annotations

import uuid

from aiohttp import WSMsgType, web

from station.http_connection import CLOSE, Connection, Pipe, frame
from station.visuals.hub import Subscription
from station.visuals.longpoll import WRONG_FORM
from station.visuals.message import Message
from station.visuals.outbox import Outbox
from station.visuals.service import Service
from station.visuals.session import Session

PROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")
LARGEST = 1 << 20
"""Bytes of one WebSocket message of a client; a STOMP frame may come in several."""
LINGER = 2.0
"""Seconds for a client to take the last frame and close."""
CONTROL = "RADIOVISWEBSOCKET:"
_NORMAL = 1000
END = frame(_NORMAL.to_bytes(2, "big"), CLOSE)


async def stomp(service: Service, request: web.Request, connection: Connection) -> web.StreamResponse:
    """Speak STOMP: the session is the one of the TCP port, only its frames travel in WebSocket messages."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=LARGEST, compress=False)
    await socket.prepare(request)
    pipe = Pipe(connection, frame, END, LINGER)
    session = Session(service, pipe, connection.address, connection.port, encrypted=connection.encrypted)
    connection.stream(session.outbox)
    if service.admit(session) is not None:
        pipe.finish()
        return socket
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                session.feed(message.data.encode())
            elif message.type == WSMsgType.BINARY:
                session.feed(message.data)
            else:
                break
    finally:
        session.lost()
        service.leave(session)
    return socket


class Player:
    """A client of the player's socket: subscribed to the picture and the text of one service."""

    def __init__(self, service: Service, connection: Connection) -> None:
        self.session_id = str(uuid.uuid4())
        self.address, self.port = connection.address, connection.port
        self._service = service
        # each frame is a message of its own: the player does not take them apart
        self.outbox = Outbox(Pipe(connection, bytes, END, LINGER), service.flusher, self._dropped)
        self._subscriptions: list[Subscription] = []

    def control(self, word: str) -> None:
        """Send a control message."""
        self.outbox.reply(frame(f"{CONTROL}{word}\0".encode()))

    def begin(self, topics: list[str]) -> None:
        """Subscribe, and send the last values; says NOVIS and closes where nothing is known of the service."""
        self.control("HELLO")
        channels = {channel.topic for channel in self._service.directory.listing().channels}
        if not any(self._service.hub.last(topic) or topic.rpartition("/")[0] + "/" in channels for topic in topics):
            self.control("NOVIS")
            self.outbox.finish()
            return
        for topic in topics:
            subscription = Subscription(topic, topic, None, self)
            self._subscriptions.append(subscription)
            last = self._service.subscribe(self, subscription)
            if last is not None:
                self.take(last, subscription)

    def end(self) -> None:
        """Unsubscribe; the connection has gone."""
        self.outbox.close()
        for subscription in self._subscriptions:
            self._service.unsubscribe(self, subscription)

    def take(self, message: Message, subscription: Subscription) -> None:
        """Queue a message as raw frame."""
        self.outbox.add(frame(raw(message, subscription.destination)))

    def stop(self) -> None:
        """Close it soon: the instance ends."""
        self.outbox.finish()

    def _dropped(self, reason: str) -> None:
        self._service.counters.dropped[reason] += 1


def raw(message: Message, destination: str) -> bytes:
    """Return a MESSAGE frame of the original's dialect: no escapes, so what cannot be told in it is left out."""
    told = {"destination": destination, **message.headers}
    lines = [f"{key}:{value}\n" for key, value in told.items() if not {"\n", "\r", "\0"} & set(key + value)]
    return b"MESSAGE\n%b\n%b\0" % ("".join(lines).encode(), message.body.replace(b"\0", b""))


async def player(service: Service, request: web.Request, connection: Connection) -> web.StreamResponse:
    """Serve the original's HTML5 player; whatever the client sends is an error, after which the socket closes."""
    socket = web.WebSocketResponse(max_msg_size=4096, compress=False)
    await socket.prepare(request)
    one = Player(service, connection)
    connection.stream(one.outbox)
    if service.admit(one) is not None:
        one.control("ERROR:too many clients")
        one.outbox.finish()
        return socket
    try:
        service_name = request.match_info["topic"].strip("/").removeprefix("topic/")
        topics = [await service.resolve(f"/topic/{service_name}/{kind}") for kind in ("image", "text")]
        found = [topic for topic in topics if topic is not None]
        if len(found) == len(topics):
            one.begin(found)
        else:
            one.control(f"ERROR:{WRONG_FORM}")
            one.outbox.finish()
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                one.control("ERROR:nothing is expected from the client")
                one.outbox.finish()
            break
    finally:
        one.end()
        service.leave(one)
    return socket
