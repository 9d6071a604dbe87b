"""The original server's dialect of STOMP: its commands, the order of its answers, and its texts to the letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from station.visuals import topics
from station.visuals.frames import Frame
from station.visuals.service import SUBSCRIPTIONS, NotAllowed

if TYPE_CHECKING:
    from station.visuals.session import Session

NO_DESTINATION_TO_SUBSCRIBE = "You need a destination to subscribe."
WRONG_FORMAT = "Your destination does not matcht required format."
NO_ID_OR_CHANNEL = "No ID or channel"
UNKNOWN_ID = "Unknow ID"
NOT_SUBSCRIBED = "Not subscribled"
NOT_ALLOWED = "You cannot do that."
NO_DESTINATION = "No destination ?"
TOO_MANY = "Too many subscriptions."


def connected(session: Session, frame: Frame) -> None:
    """Answer a CONNECT that was accepted."""
    headers = [("response-id", frame.headers["request-id"])] if "request-id" in frame.headers else []
    if "receipt" in frame.headers:
        headers.append(("receipt-id", frame.headers["receipt"]))
    session.reply("CONNECTED", *headers, ("session", session.session_id))


async def handle(session: Session, frame: Frame) -> None:
    """Do what a frame after the CONNECT asks for. Its receipt comes first, whatever happens then."""
    if frame.command == "SEND":
        await _send(session, frame)
    elif frame.command == "DISCONNECT":
        if await session.part():
            _receipt(session, frame)
        session.close()
    else:
        _receipt(session, frame)
        if frame.command == "SUBSCRIBE":
            await _subscribe(session, frame)
        elif frame.command == "UNSUBSCRIBE":
            await _unsubscribe(session, frame)


def _receipt(session: Session, frame: Frame) -> None:
    if (receipt := frame.headers.get("receipt")) is not None:
        session.reply("RECEIPT", ("receipt-id", receipt))


def _error(session: Session, text: str) -> None:
    session.service.counters.errors += 1
    session.reply("ERROR", ("message", text))


async def _send(session: Session, frame: Frame) -> None:
    error = NOT_ALLOWED if session.principal is None else "" if frame.headers.get("destination") else NO_DESTINATION
    if not error:
        try:
            await session.send(frame, lambda: _receipt(session, frame), lambda text: _error(session, text))
        except NotAllowed:
            error = NOT_ALLOWED
    if error:
        _receipt(session, frame)
        _error(session, error)


async def _subscribe(session: Session, frame: Frame) -> None:
    destination = frame.headers.get("destination", "").strip()
    if not destination:
        _error(session, NO_DESTINATION_TO_SUBSCRIBE)
        return
    topic = await session.service.resolve(destination)
    if topic is None:
        _error(session, WRONG_FORMAT)
        return
    if session.ended:
        return
    if topic in session.by_topic:
        session.unsubscribe(session.by_topic[topic])
    if len(session.by_topic) >= SUBSCRIPTIONS:
        _error(session, TOO_MANY)
        return
    subscription = session.subscribe(destination, topic, frame.headers.get("id") or None)
    session.by_topic[topic] = subscription
    last = session.service.hub.subscribe(subscription)
    if last is not None and frame.headers.get("x-ebu-nofastreply") != "yes":
        session.take(last, subscription)


async def _unsubscribe(session: Session, frame: Frame) -> None:
    destination = frame.headers.get("destination", "").strip()
    name = frame.headers.get("id")
    found = None
    if destination:
        topic = await topics.convert(destination, session.service.directory.gcc)
        for subscription in session.by_topic.values():
            if subscription.destination == destination or subscription.topic in (destination, topic):
                found = subscription
                break
    elif name:
        found = session.by_id.get(name)
        if found is None:
            _error(session, UNKNOWN_ID)
    else:
        _error(session, NO_ID_OR_CHANNEL)
    if found is None:
        _error(session, NOT_SUBSCRIBED)
    else:
        session.unsubscribe(found)
