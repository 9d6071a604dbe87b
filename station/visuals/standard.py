"""STOMP 1.1 and 1.2 as the standard says (https://stomp.github.io): every ERROR closes the connection.

Our own programs may read the log (`/feed`) and hold locks (`/lock/<name>`) as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from station.visuals import frames, reference, topics
from station.visuals.bus import Entry
from station.visuals.frames import Frame
from station.visuals.hub import Subscription
from station.visuals.service import SUBSCRIPTIONS, NotAllowed

if TYPE_CHECKING:
    from station.visuals.session import Session

SERVER = "stationmaster"
ROOM = 64
"""Entries of a feed that may wait for its reader."""
_BEATS = re.compile(r"(\d{1,9}),(\d{1,9})", re.ASCII)
_TRANSACTIONS = "transactions are not supported; send without"


class Fault(Exception):
    """A frame that gets an ERROR: the header `message`, and a text that says more."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(text)
        self.message = message


def heart_beat(text: str) -> tuple[int, int] | None:
    """Return the two numbers of a `heart-beat` header in milliseconds, None if it has another form."""
    match = _BEATS.fullmatch(text.strip())
    return (int(match[1]), int(match[2])) if match else None


def connected(session: Session, beats: tuple[int, int]) -> None:
    """Answer a CONNECT that was accepted, and agree on heart-beats.

    Args:
        session: whose.
        beats: what the client can send and wants to get, in milliseconds; 0 for none.
    """
    ours = session.service.settings.heart_beat
    offer = int(ours * 1000)
    if beats[0] and ours:
        session.promised = max(beats[0] / 1000, ours)
    if beats[1] and ours:
        session.wanted = max(beats[1] / 1000, ours)
    session.reply(
        "CONNECTED",
        ("version", session.dialect or frames.V12),
        ("heart-beat", f"{offer},{offer}"),
        ("session", session.session_id),
        ("server", SERVER),
    )


async def handle(session: Session, frame: Frame) -> None:
    """Do what a frame after the CONNECT asks for."""
    command = _COMMANDS.get(frame.command)
    try:
        if command is None:
            raise Fault("unknown command", f"the server does not know the command {frame.command[:64]!r}")
        if await command(session, frame):
            _receipt(session, frame)
    except Fault as fault:
        _fail(session, frame, fault.message, str(fault))
    else:
        if frame.command == "DISCONNECT":
            session.close()


def _receipt(session: Session, frame: Frame) -> None:
    if (receipt := frame.headers.get("receipt")) is not None:
        session.reply("RECEIPT", ("receipt-id", receipt))


def _fail(session: Session, frame: Frame, message: str, text: str) -> None:
    if session.ended:
        return
    session.service.counters.errors += 1
    receipt = frame.headers.get("receipt")
    headers = [("receipt-id", receipt)] if receipt is not None else []
    session.reply("ERROR", ("message", message), *headers, ("content-type", "text/plain"), body=text.encode())
    session.close()


async def _send(session: Session, frame: Frame) -> bool:
    if "transaction" in frame.headers:
        raise Fault(_TRANSACTIONS, "a SEND must not have the header `transaction`")
    if session.principal is None:
        raise Fault(reference.NOT_ALLOWED, "only who has logged in may send")
    if not frame.headers.get("destination"):
        raise Fault(reference.NO_DESTINATION, "a SEND needs the header `destination`")
    try:
        await session.send(
            frame,
            lambda: _receipt(session, frame),
            lambda text: _fail(session, frame, "not sent", text),
        )
    except NotAllowed as error:
        raise Fault(reference.NOT_ALLOWED, "the destination is none of this login's channels") from error
    return False


async def _subscribe(session: Session, frame: Frame) -> bool:
    destination, name = frame.headers.get("destination", ""), frame.headers.get("id")
    if not destination:
        raise Fault(reference.NO_DESTINATION_TO_SUBSCRIBE, "a SUBSCRIBE needs the header `destination`")
    if not name:
        raise Fault("You need an id to subscribe.", "since STOMP 1.1 a SUBSCRIBE needs the header `id`")
    if name in session.by_id:
        raise Fault("already subscribed", f"the id {name[:64]!r} is that of another subscription")
    if frame.headers.get("ack", "auto") != "auto":
        raise Fault("ack mode not supported", "only the ack mode `auto` is supported")
    if len(session.by_id) >= SUBSCRIPTIONS:
        raise Fault(reference.TOO_MANY, f"a client may have {SUBSCRIPTIONS} subscriptions")
    own = session.principal is not None and session.principal.internal and session.dialect == frames.V12
    if own and (destination == topics.FEED or destination.startswith(topics.LOCK)):
        subscription = session.subscribe(destination, destination, name)
        work = _feed(session, subscription, frame) if destination == topics.FEED else _lock(session, subscription)
        session.tasks[subscription] = asyncio.get_running_loop().create_task(work)
        return True
    topic = await session.service.resolve(destination)
    if topic is None:
        raise Fault(reference.WRONG_FORMAT, "an FM topic is /topic/fm/<country>/<pi>/<frequency>/<image|text>")
    if session.ended:
        return False
    subscription = session.subscribe(destination, topic, name)
    last = session.service.hub.subscribe(subscription)
    if last is not None and frame.headers.get("x-ebu-nofastreply") != "yes":
        session.take(last, subscription)
    return True


async def _unsubscribe(session: Session, frame: Frame) -> bool:
    name = frame.headers.get("id")
    if not name:
        raise Fault(reference.NO_ID_OR_CHANNEL, "since STOMP 1.1 an UNSUBSCRIBE needs the header `id`")
    subscription = session.by_id.get(name)
    if subscription is None:
        raise Fault(reference.NOT_SUBSCRIBED, f"the id {name[:64]!r} is that of no subscription")
    session.unsubscribe(subscription)
    return True


async def _acknowledge(session: Session, frame: Frame) -> bool:
    return True


async def _transaction(session: Session, frame: Frame) -> bool:
    raise Fault(_TRANSACTIONS, f"the command {frame.command} is not supported")


async def _disconnect(session: Session, frame: Frame) -> bool:
    return await session.part()


_COMMANDS: dict[str, Callable[[Session, Frame], Coroutine[Any, Any, bool]]] = {
    "SEND": _send,
    "SUBSCRIBE": _subscribe,
    "UNSUBSCRIBE": _unsubscribe,
    "ACK": _acknowledge,
    "NACK": _acknowledge,
    "BEGIN": _transaction,
    "COMMIT": _transaction,
    "ABORT": _transaction,
    "DISCONNECT": _disconnect,
}


async def _feed(session: Session, subscription: Subscription, frame: Frame) -> None:
    """Send every entry of the log after `since`, as fast as it is read."""
    since = frame.headers.get("since", "")
    after = int(since) if since.isascii() and since.isdigit() else None
    outbox = session.outbox

    async def deliver(entry: Entry) -> None:
        message = entry.message
        headers = [("subscription", subscription.id or ""), ("destination", message.topic), *message.headers.items()]
        headers.append(("offset", str(entry.offset)))
        if entry.refresh:
            headers.append(("refresh", "1"))
        outbox.add(frames.encode(frames.V12, "MESSAGE", headers, message.body))
        while outbox.count > ROOM and not outbox.closed:
            await asyncio.sleep(0.005 if outbox.blocked else 0)

    await session.service.bus.run(after, deliver)


async def _lock(session: Session, subscription: Subscription) -> None:
    """Tell when the connection holds the lock; a lock that is lost ends the connection."""
    headers = [("subscription", subscription.id or ""), ("destination", subscription.destination)]
    headers.append(("message-id", session.session_id))
    name = subscription.destination.removeprefix(topics.LOCK)
    async with contextlib.aclosing(session.service.bus.lock(name)) as lock:
        async for held in lock:
            if not held:
                session.close()
                return
            session.outbox.add(frames.encode(frames.V12, "MESSAGE", headers))
