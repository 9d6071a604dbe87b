"""Messages that count only while a channel is silent: a default visual must not follow a real one.

Between the watchdog's look at the log and the place that its message gets there, a real message may come. So the
message says what its channel had last, and everybody who reads the log leaves it out where that is true no more: all
read the same log, and all decide the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from station.visuals.message import Message

HEADER = "unless-newer"
"""Never sent on to subscribers."""

Last = Callable[[str], tuple[str, float] | None]
"""Message-id and `when` of the last message of a topic."""


def condition(silence: float, known: Mapping[str, str]) -> str:
    """Return the header's value.

    Args:
        silence: seconds; what is older harms nothing, and so a wrong memory of the sender's does not last.
        known: topics, with the message-id of what each had last, "" where that is not known.
    """
    return json.dumps([silence, dict(known)])


def settle(message: Message, last: Last) -> Message | None:
    """Return a message as it is to be delivered, or None for one that is to be left out.

    Args:
        message: the next one of the log.
        last: asked for the topics of the condition.
    """
    text = message.headers.get(HEADER)
    if text is None:
        return message
    try:
        silence, known = json.loads(text)
        newer = [
            found
            for topic, name in known.items()
            # `when` is in whole seconds
            if (found := last(topic)) is not None and found[0] != name and found[1] > message.when - silence - 1
        ]
    except (ValueError, TypeError, AttributeError):
        newer = []
    if newer:
        return None
    return Message(message.topic, message.body, {k: v for k, v in message.headers.items() if k != HEADER})
