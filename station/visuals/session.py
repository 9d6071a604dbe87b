"""One STOMP client, without a socket: bytes go in by `feed`, frames go out by its outbox."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

from station.visuals import frames, reference, standard
from station.visuals.bus import Full
from station.visuals.frames import Frame, Malformed, Parser
from station.visuals.hub import Subscription
from station.visuals.message import Message
from station.visuals.outbox import READING, Outbox, Outlet
from station.visuals.service import Principal, Refused, Sent, Service

log = logging.getLogger(__name__)
VERSIONS = "1.0,1.1,1.2"
BACKLOG = 64 << 10
"""Bytes that wait to be read as frames while nothing more is taken from the network."""
PENDING = 250
"""Messages of one client that may wait for the broker's word before it is read on."""
TURN = 32
"""Frames after which others get their turn."""
PARTING = 10.0
"""Seconds that a DISCONNECT waits for the broker's word about what was sent before."""


class Session:
    """A client of any transport that speaks STOMP (TCP, TLS, WebSocket).

    The transport makes it with an `Outlet`, feeds it, calls `outbox.resume` whenever the outlet has sent
    everything, and `lost` when the connection has gone. Whoever holds it calls `tick` about every second.
    """

    def __init__(self, service: Service, outlet: Outlet, address: str, port: int, *, encrypted: bool) -> None:
        self.service = service
        self.session_id = str(uuid.uuid4())
        self.address = address
        self.port = port
        self.encrypted = encrypted
        self.outbox = Outbox(outlet, service.flusher, self._dropped)
        self.principal: Principal | None = None
        self.dialect: str | None = None
        self.by_id: dict[str, Subscription] = {}
        self.by_topic: dict[str, Subscription] = {}
        self.tasks: dict[Subscription, asyncio.Task[None]] = {}
        self.connected = False
        self.ended = False
        self._parser = Parser()
        self._worker: asyncio.Task[None] | None = None
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._pending = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._opened = self._heard_at = self._wrote_at = asyncio.get_running_loop().time()
        self._heard = False
        self.promised = self.wanted = 0.0
        self._render = service.shapes.render

    @property
    def peer(self) -> str:
        """Address and port, for events and the log."""
        return f"{self.address}:{self.port}"

    # What the transport calls

    def feed(self, data: bytes) -> None:
        """Take what the client sent; whatever it is, this raises nothing."""
        if self.ended:
            return
        self._heard = True
        self.service.counters.bytes_in += len(data)
        self._parser.feed(data)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())
        elif len(self._parser) > BACKLOG:
            self.outbox.hold(READING, True)

    def lost(self) -> None:
        """End: the connection has gone."""
        self.end()
        self.outbox.close()
        self.service.leave(self)

    def stop(self) -> None:
        """Close the connection after what waits was sent."""
        self.end()
        self.outbox.finish()

    def tick(self, now: float) -> None:
        """Look at the clock (of the loop): send a heart-beat, or drop a client that is silent or never logs in."""
        outbox = self.outbox
        if outbox.closed or self.ended:
            return
        if not self.connected:
            if now - self._opened > self.service.settings.connect_timeout:
                outbox.drop("connect timeout")
            return
        if self._heard:
            self._heard, self._heard_at = False, now
        elif self.promised and now - self._heard_at > 2 * self.promised and not outbox.held:
            outbox.drop("silent")
            return
        if outbox.wrote:
            outbox.wrote, self._wrote_at = False, now
        elif self.wanted and now - self._wrote_at >= self.wanted / 2 and not outbox.blocked:
            outbox.reply(b"\n")

    def take(self, message: Message, subscription: Subscription) -> None:
        """Send a message of a subscription (see Subscriber)."""
        shape = subscription.shape
        if self._waiting and (receipts := self._waiting.pop(message.id, None)):
            # It came back from the log, so it is confirmed: the receipt stands before the message itself.
            for receipt in receipts:
                receipt()
        self.outbox.add(shape.frame if shape.message is message else self._render(shape, message))

    # What the dialects use

    def reply(self, command: str, *headers: tuple[str, str], body: bytes = b"") -> None:
        """Send a frame of the server."""
        self.outbox.reply(frames.encode(self.dialect or frames.REFERENCE, command, headers, body))

    def subscribe(self, destination: str, topic: str, name: str | None) -> Subscription:
        """Register a subscription; the last value is not sent yet."""
        subscription = Subscription(topic, destination, name, self)
        subscription.shape = self.service.shapes.acquire(self.dialect or frames.REFERENCE, destination, name)
        if name is not None:
            self.by_id[name] = subscription
        self.service.subscribed(self, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription of this client."""
        self.service.unsubscribe(self, subscription)
        self.service.shapes.release(subscription.shape)
        if subscription.id is not None and self.by_id.get(subscription.id) is subscription:
            del self.by_id[subscription.id]
        if self.by_topic.get(subscription.topic) is subscription:
            del self.by_topic[subscription.topic]
        if task := self.tasks.pop(subscription, None):
            task.cancel()

    async def send(self, frame: Frame, confirmed: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Publish a SEND frame; later one of the two is called. Raises NotAllowed."""
        destination = frame.headers["destination"]
        try:
            sent = await self.service.publish(self.principal, destination, frame.headers, frame.body)
        except Full as error:
            failed(str(error))
            return
        text = frame.body.decode("utf-8", "replace")
        self.service.tell("messages", session_id=self.session_id, ip=self.peer, topic=destination, body=text)
        self._pending += 1
        self._expect(sent, confirmed, failed)

    def _expect(self, sent: Sent, confirmed: Callable[[], None], failed: Callable[[str], None]) -> None:
        called = False

        def once() -> None:
            nonlocal called
            if not called and not self.outbox.closed:
                called = True
                confirmed()

        def done(future: asyncio.Future[None]) -> None:
            self._pending -= 1
            if self._pending < PENDING:
                self._settled.set()
            if receipts := self._waiting.get(sent.id):
                receipts.remove(once)
                if not receipts:
                    del self._waiting[sent.id]
            if future.cancelled() or (error := future.exception()) is not None:
                failed("not sent" if future.cancelled() else f"not sent: {error}")
            else:
                once()

        if sent.done.done():
            done(sent.done)
            return
        if sent.single:
            self._waiting.setdefault(sent.id, []).append(once)
        sent.done.add_done_callback(done)

    async def part(self) -> bool:
        """Wait until all that was sent is confirmed; returns False if that takes too long."""
        end = asyncio.get_running_loop().time() + PARTING
        while self._pending and asyncio.get_running_loop().time() < end and not self.outbox.closed:
            await asyncio.sleep(0.005)
        return not self._pending

    def end(self) -> None:
        """Take nothing more from the client, and forget its subscriptions."""
        if self.ended:
            return
        self.ended = True
        for subscription in {*self.by_id.values(), *self.by_topic.values()}:
            self.unsubscribe(subscription)
        if self._worker is not None and self._worker is not asyncio.current_task():
            self._worker.cancel()

    def close(self) -> None:
        """End and close, once what waits was sent."""
        self.stop()

    # Frames

    async def _work(self) -> None:
        count = 0
        try:
            while not self.ended and (frame := self._parser.next()) is not None:
                await self._handle(frame)
                count += 1
                if count % TURN == 0:
                    await asyncio.sleep(0)
                if self._pending >= PENDING and not self.ended:
                    self.outbox.hold(READING, True)
                    self._settled.clear()
                    await self._settled.wait()
        except Malformed as error:
            self._fail("malformed frame", str(error))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a frame from %s failed", self.peer)
            self._fail("internal error", "the server failed at a frame; its log says why")
        finally:
            self._worker = None
            if not self.ended:
                self.outbox.hold(READING, False)

    def _fail(self, message: str, text: str) -> None:
        self.service.counters.errors += 1
        if self.dialect in (None, frames.REFERENCE):
            self.reply("ERROR", ("message", message))
        else:
            self.reply("ERROR", ("message", message), ("content-type", "text/plain"), body=text.encode())
        self.close()

    async def _handle(self, frame: Frame) -> None:
        if not self.connected:
            await self._connect(frame)
        elif self.dialect == frames.REFERENCE:
            await reference.handle(self, frame)
        else:
            await standard.handle(self, frame)

    async def _connect(self, frame: Frame) -> None:
        headers = frame.headers
        accepted = headers.get("accept-version")
        versions = {version.strip() for version in (accepted or frames.REFERENCE).split(",")}
        known = versions & {frames.REFERENCE, frames.V11, frames.V12}
        if frame.command not in ("CONNECT", "STOMP") or (frame.command == "STOMP" and not accepted):
            self._fail("Excepted CONNECT", "")
            return
        if not known:
            self.dialect = frames.V12
            text = f"Supported protocol versions are {VERSIONS}."
            self.reply("ERROR", ("version", VERSIONS), ("message", text), ("content-type", "text/plain"))
            self.close()
            return
        self.dialect = self._parser.dialect = max(known)
        beats = standard.heart_beat(headers.get("heart-beat", "0,0")) if self.dialect != frames.REFERENCE else (0, 0)
        if beats is None:
            self._fail("malformed heart-beat", "needed are two numbers of milliseconds such as 10000,10000")
            return
        login, passcode = headers.get("login", "").strip(), headers.get("passcode", "").strip()
        try:
            self.principal = await self.service.login(login, passcode, self.address, encrypted=self.encrypted)
        except Refused:
            self._fail("Wrong credentials", "login and passcode are not accepted")
            return
        self.connected = True
        if self.dialect == frames.REFERENCE:
            reference.connected(self, frame)
        else:
            standard.connected(self, beats)

    def _dropped(self, reason: str) -> None:
        self.service.counters.dropped[reason] += 1
        log.info("dropped %s: %s", self.peer, reason)
        self.end()
