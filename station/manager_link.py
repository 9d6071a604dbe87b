"""Talking to the manager as a client of its API: what visuals, signage and the catalogue ask and tell it.

Whoever uses it works on while the manager is away: every failure is an `Away` or a `Refused`, and no text of
either holds a token.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from station.config import ConfigError
from station.manager_trust import Trust

log = logging.getLogger(__name__)
TIMEOUT = 15.0
"""Seconds for a request, unless it waits for something."""
WAIT = 20.0
"""Seconds for which one question for the directory waits in the manager; less than any proxy's limit."""
PAUSES = (1.0, 2.0, 5.0, 10.0)
"""Seconds between two attempts, the last one for all further ones."""
WRONG = 60.0
"""Seconds before it is tried again what the manager does not allow: only a person can mend that."""
LONGEST = 32 << 20
"""Bytes of an answer: 10,000 channels take 5 MB."""


class LinkError(Exception):
    """The manager did not do what it was asked; the text says why.

    ├── Away      it was not reached, cannot work now, or something else answered
    └── Refused   it does not allow or not understand what it was asked
    """


class Away(LinkError):
    """The manager was not reached, cannot work now, or something else than a manager answered."""


class Refused(LinkError):
    """The manager refused; `status` is its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the members of the JSON object that came, and the ETag header."""

    status: int
    body: Mapping[str, Any]
    etag: str = ""


def in_clear(url: str) -> bool:
    """Return whether what is sent to a URL can be read by others: http:// to anywhere but this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return False
    host = parts.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


class ManagerLink:
    """The manager at an address, asked with a bearer token, such as one of scope `visuals`."""

    def __init__(self, url: str, token: str, certificate: str | None = None) -> None:
        """Take where it is.

        Args:
            url: `https://HOST:PORT`.
            token: sent with each request, to this address only.
            certificate: PEM file that is trusted instead of the brought one or the system's.

        Raises:
            ConfigError: the address is none.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError("options.manager", "must be https://HOST:PORT")
        self._url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._trust = Trust(certificate)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, *, etag: str = "", wait: float = 0.0) -> Answer:
        """Ask for something.

        Args:
            path: from the first slash, with its query.
            etag: of the answer that is known; 304 comes while it stands.
            wait: seconds that the manager was asked to wait.

        Raises:
            LinkError: see there.
        """
        return await self._ask("GET", path, None, {"If-None-Match": etag} if etag else {}, TIMEOUT + wait)

    async def items(self, path: str) -> list[Any]:
        """Ask for something that is a JSON list; see `get`."""
        answer = await self._ask("GET", path, None, {}, TIMEOUT, listed=True)
        return list(answer.body["items"])

    async def post(self, path: str, value: Mapping[str, Any]) -> Answer:
        """Send a JSON object; see `get`."""
        return await self._ask("POST", path, value, {}, TIMEOUT)

    async def directory(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the manager's directory (`broadcasters`, `overrides`) now and whenever it changes, for ever.

        Failures are logged once until it goes well again; the iterator outlives them.
        """
        etag, failures, told = "", 0, ""
        while True:
            began = time.monotonic()
            try:
                wait = WAIT if etag else 0.0
                path = "/v1/visuals/directory" + (f"?wait={wait:.0f}" if wait else "")
                answer = await self.get(path, etag=etag, wait=wait)
                failures, told = 0, ""
                if answer.status != 304:
                    etag = answer.etag
                    yield answer.body
                    if etag:
                        continue
                # One that does not wait is not asked more than once in a second.
                await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)) if etag else PAUSES[-1])
            except LinkError as error:
                if str(error) != told:
                    log.warning("the manager's directory: %s", error)
                    told = str(error)
                await asyncio.sleep(pause(failures, error))
                failures += 1

    async def close(self) -> None:
        """End its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(
        self,
        method: str,
        path: str,
        value: Mapping[str, Any] | None,
        headers: dict[str, str],
        patience: float,
        listed: bool = False,
    ) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        data = None
        if value is not None:
            data = json.dumps(value, ensure_ascii=False).encode()
            headers = headers | {"Content-Type": "application/json"}
        try:
            more: dict[str, Any] = {"ssl": self._trust.context()} if self._secure else {}
            async with self._session.request(
                method,
                self._url + path,
                data=data,
                headers=headers,
                allow_redirects=False,  # or the token would go wherever it is sent
                timeout=aiohttp.ClientTimeout(total=patience),
                **more,
            ) as response:
                if response.status == 304:
                    return Answer(304, {}, response.headers.get("ETag", ""))
                content = await _read(response)
                status, etag = response.status, response.headers.get("ETag", "")
        except (aiohttp.ClientError, OSError) as error:
            raise Away(f"it cannot be reached: {str(error) or type(error).__name__}") from None
        return _judge(status, content, etag, listed)


def pause(failures: int, error: LinkError) -> float:
    """Return the seconds before it is tried again, after a number of failures before this one."""
    if isinstance(error, Refused) and error.status in (401, 403, 404):
        return WRONG
    return PAUSES[min(failures, len(PAUSES) - 1)]


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_chunked(1 << 16):
        size += len(part)
        if size > LONGEST:
            raise Away(f"its answer has more than {LONGEST} bytes")
        parts.append(part)
    return b"".join(parts)


def _judge(status: int, content: bytes, etag: str, listed: bool) -> Answer:
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        body = None
    if listed and status < 300:
        body = {"items": body} if isinstance(body, list) else None
    if not isinstance(body, dict):
        raise Away(f"no manager answers there: status {status}, and no JSON {'list' if listed else 'object'}")
    if status < 300:
        return Answer(status, body, etag)
    text = str(body.get("detail") or body.get("title") or f"status {status}")
    if status < 400 or status >= 500 or status in (408, 429):
        raise Away(f"it cannot work now: {text}")
    raise Refused(status, f"it refused with status {status}: {text}")


def open_link(
    manager: str | None, token: str | None, certificate: str | None = None, *, tls: bool = False
) -> ManagerLink | None:
    """Return the way to the manager, None without an address or a token.

    Raises:
        ConfigError: the address is none, or would send passwords in clear although `tls`.
    """
    if not manager or not token:
        return None
    if tls and in_clear(manager):
        raise ConfigError("options.manager", "must be https://: with `tls` no password travels in clear")
    return ManagerLink(manager, token, certificate)
