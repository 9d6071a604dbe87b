"""Limits at the door: how large a body may be, and how often one address may ask for what is open to all."""

from __future__ import annotations

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem

BODY_BYTES = 1 << 20
"""Largest body of a request; a hello of a station with 20 instances is 15 kB."""
OPEN_PER_MINUTE = 60
"""Requests without credentials, or with wrong ones, of one address in a minute: a room that boots behind one NAT
address, not a guesser."""
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
]


class RateLimit:
    """Counts requests of each address in a moving minute; in memory, each process its own."""

    def __init__(self, per_minute: int = OPEN_PER_MINUTE) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, address: str) -> None:
        """Count one request; raise the problem 429 for one too many."""
        if not self._limiter.hit(self._item, address):
            raise Problem(
                429,
                "TooManyRequests",
                f"More than {self._item.amount} such requests in a minute from {address}.",
                "Wait as long as Retry-After says.",
                retryable=True,
                headers={"Retry-After": "60"},
            )


class Door:
    """ASGI middleware: refuses bodies that are too large, adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, body_bytes: int = BODY_BYTES) -> None:
        self._app = app
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                had = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in SECURITY_HEADERS if one[0] not in had)]
            await send(message)

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._body_bytes:
            await self._too_large()(scope, receive, send_guarded)
            return
        if b"content-length" not in dict(scope["headers"]) and scope["method"] not in ("GET", "HEAD"):
            # without a length it has to be read to know; so nothing behind the door ever gets more than the limit
            body = b""
            more = True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = bool(message.get("more_body")) and message["type"] == "http.request"
                if len(body) > self._body_bytes:
                    await self._too_large()(scope, receive, send_guarded)
                    return
            whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive_whole() -> Message:
                return whole.pop() if whole else await receive()

            await self._app(scope, receive_whole, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _too_large(self) -> Response:
        detail = f"The body has more than {self._body_bytes} bytes."
        return Problem(413, "BodyTooLarge", detail, "Send less.").response()
