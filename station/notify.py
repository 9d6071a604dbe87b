"""What a supervised program tells systemd (sd_notify).

Without NOTIFY_SOCKET, as when a program runs by hand, every call does nothing.
"""

from __future__ import annotations

import os
import socket


def send(*fields: str) -> bool:
    """Send `KEY=value` fields in one message; True if systemd took it.

    A failure is no error of ours: losing a status line must never end a recording.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1)
            channel.connect(address)
            channel.sendall("\n".join(fields).encode())
    except OSError:
        return False
    return True


def _line(text: str) -> str:
    return "STATUS=" + " ".join(text.split())


def ready(text: str = "") -> None:
    """Configuration accepted, supervisor up (DESIGN: READY does not wait for a source)."""
    send("READY=1", "WATCHDOG=1", *([_line(text)] if text else []))


def status(text: str) -> None:
    """The one line that `systemctl status` shows; newlines become spaces."""
    send(_line(text))


def watchdog() -> None:
    """All is as it should be: call at least every half of WATCHDOG seconds."""
    send("WATCHDOG=1")


def stopping(text: str = "") -> None:
    """The program has begun to end, on its own or because it was asked."""
    send("STOPPING=1", *([_line(text)] if text else []))


def without() -> dict[str, str]:
    """Return the environment for a child that is not to speak to systemd in our place."""
    return {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
