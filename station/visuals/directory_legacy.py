"""The directory of an existing installation: the HTTP API of the original's manager.

Every call is a GET with a form-encoded body and a JSON answer, below a URL that holds the secret: neither the URL nor
any parameter is ever logged. What it said last is used while it is away; logins that were right are kept as hashes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from station import files
from station.config import ConfigError
from station.manager_link import in_clear
from station.visuals.defaults import Default
from station.visuals.directory import Broadcaster, Channel, Listing, Verdict
from station.visuals.passwords import Checker, hashed

log = logging.getLogger(__name__)
FILE = "directory-legacy.json"
TIMEOUT = 10.0
SHORT, LONG = 60.0, 600.0
"""Seconds for which answers are used, as by the original: a station's channels; countries, channels, defaults."""
AGAIN = 15.0
"""Seconds before the API is asked again for what it just did not answer."""
LOGINS = 2000
"""Logins of which a hash is kept."""
LONGEST = 16 << 20


class Absent(Exception):
    """The API gave no answer that can be used; the text says why, without parameters."""


class Legacy:
    """The API at a prefix such as `http://HOST/SECRET/action/radiovis/api/SECRET/`."""

    def __init__(
        self, url: str, folder: Path, *, tls: bool = False, picture_base: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Begin with what was known.

        Args:
            url: the prefix of all calls.
            folder: data folder of the instance; answers are kept in its `directory-legacy.json`, for the owner only.
            tls: whether passwords must not travel in clear.
            picture_base: put before the file names of default pictures; "": the API's own public URL of each.
            clock: seconds that only grow.

        Raises:
            ConfigError: the URL is none, or would send passwords in clear although `tls`.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("RADIODNS_API_URL", "must be http://HOST/…/ or https://HOST/…/, the prefix of all calls")
        if tls and in_clear(url):
            raise ConfigError(
                "RADIODNS_API_URL", "must be https:// or on this machine: with `tls` no password travels in clear"
            )
        self._url = url if url.endswith("/") else url + "/"
        self._path = folder / FILE
        self._base = picture_base
        self._clock = clock
        self._checker = Checker()
        self._session: aiohttp.ClientSession | None = None
        self._asked: dict[str, tuple[float, bool]] = {}
        self._asking: dict[str, asyncio.Task[Any]] = {}
        self._kept: dict[str, dict[str, Any]] = {"answers": {}, "logins": {}}
        self._changed = False
        self._told: set[str] = set()
        self._load()

    def listing(self) -> Listing:
        """Return the channels that are known, those with defaults; the API lists neither users nor who owns them."""
        defaults = self._kept["answers"]
        channels = []
        for topic, key in _pairs(defaults.get("get_all_vis_channels", {}).get("list")):
            default = self._default(defaults.get(f"get_channel_default {key}", {}).get("info"))
            picture, text, link = (default.picture, default.text, default.link) if default else (None, None, None)
            channels.append(Channel(topic, key, topic, "", picture, text, link))
        return Listing({"": Broadcaster("", channels=tuple(channels))} if channels else {})

    async def check(self, login: str, passcode: str, address: str) -> Verdict:
        """Ask whether a login is right; while the API is away, whether it was."""
        station = login.partition(".")[0]
        try:
            answer = await self._call("check_auth", {"username": login, "password": passcode, "ip": address})
        except Absent as error:
            self._tell("check_auth", error)
            stored = self._kept["logins"].get(f"{login} {address}")
            right = isinstance(stored, str) and await self._checker.check(passcode, stored)
            return Verdict(right, station if right else None, "" if right else "the directory is away")
        key = f"{login} {address}"
        if answer.get("result") is not True:
            if self._kept["logins"].pop(key, None) is not None:
                self._changed = True
            return Verdict(False, error=str(answer.get("error") or "Wrong password"))
        stored = self._kept["logins"].get(key)
        if stored is None or not await self._checker.check(passcode, stored):
            self._kept["logins"][key] = await asyncio.to_thread(hashed, passcode)
            while len(self._kept["logins"]) > LOGINS:
                del self._kept["logins"][next(iter(self._kept["logins"]))]
            self._changed = True
        return Verdict(True, station)

    async def channels(self, station: str) -> list[str]:
        """Return the topics of a station."""
        answer = await self._answer("get_channels", SHORT, station_id=station)
        return [topic for topic in answer.get("list") or () if isinstance(topic, str) and topic]

    async def known(self) -> Collection[str]:
        """Return the topics of channels that have a default picture."""
        return frozenset(topic for topic, _ in _pairs((await self._answer("get_all_vis_channels", LONG)).get("list")))

    async def gcc(self, country: str, pi: str) -> str | None:
        """Return the global country code of a two-letter code."""
        gcc = (await self._answer("get_gcc", LONG, cc=country)).get("gcc")
        return str(gcc).lower() if gcc else None

    async def watched(self) -> Mapping[str, str]:
        """Return the channels with a default picture: topic to id; see `Defaults`."""
        return dict(_pairs((await self._answer("get_all_vis_channels", 0.0)).get("list")))

    async def default(self, key: str) -> Default | None:
        """Return the default visuals of a channel by its id; see `Defaults`."""
        return self._default((await self._answer("get_channel_default", LONG, id=key)).get("info"))

    async def add_log(self, topic: str, message: str, headers: Mapping[str, str], timestamp: float) -> None:
        """Hand in a message for the manager's log. Raises Absent."""
        form = {"topic": topic, "message": message, "headers": json.dumps(dict(headers)), "timestamp": str(timestamp)}
        await self._call("add_log", form)

    async def cleanup_logs(self, max_age: float) -> None:
        """Have the manager forget messages older than `max_age` seconds. Raises Absent."""
        await self._call("cleanup_logs", {"max_age": f"{max_age:.0f}"})

    async def run(self) -> None:
        """Keep the channels fresh and what is known on the disk, until cancelled."""
        try:
            while True:
                await self.known()
                await asyncio.to_thread(self.save)
                await asyncio.sleep(AGAIN)
        finally:
            self.save()
            await self.close()

    async def close(self) -> None:
        """End its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def save(self) -> None:
        """Write what is known, if it changed; a failure is logged."""
        if self._changed:
            self._changed = False
            try:
                files.write_json(self._path, self._kept, mode=0o600)
            except OSError as error:
                log.error("the directory cannot be kept in %s: %s", self._path, error)

    def _default(self, info: Any) -> Default | None:
        if not isinstance(info, dict):
            return None
        name = info.get("filename")
        picture = f"{self._base}{name}" if self._base and name else info.get("public_url")
        return Default(
            *(str(item) if item else None for item in (picture, info.get("radiotext"), info.get("radiolink")))
        )

    async def _answer(self, name: str, age: float, **form: str) -> dict[str, Any]:
        """Return an answer that is at most `age` seconds old, or the last one when the API is away, or {}."""
        key = " ".join([name, *form.values()])
        asked = self._asked.get(key)
        if asked is None or self._clock() - asked[0] >= (age if asked[1] else min(age, AGAIN)):
            task = self._asking.get(key)
            if task is None:
                task = self._asking[key] = asyncio.create_task(self._ask(key, name, form))
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            await asyncio.shield(task)
        found = self._kept["answers"].get(key)
        return found if isinstance(found, dict) else {}

    async def _ask(self, key: str, name: str, form: dict[str, str]) -> None:
        try:
            answer = await self._call(name, form)
        except Absent as error:
            self._tell(name, error)
            self._asked[key] = (self._clock(), False)
            return
        self._asked[key] = (self._clock(), True)
        if self._kept["answers"].get(key) != answer:
            self._kept["answers"][key] = answer
            self._changed = True

    async def _call(self, name: str, form: Mapping[str, str]) -> dict[str, Any]:
        """Call the API. Raises Absent; its text holds neither URL nor parameters."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        try:
            async with self._session.get(self._url + name, data=form, allow_redirects=False) as response:
                content = await response.content.read(LONGEST)
                while not response.content.at_eof() and len(content) < LONGEST:
                    content += await response.content.read(LONGEST - len(content))
        except (aiohttp.ClientError, OSError) as error:
            raise Absent(f"the API cannot be reached ({type(error).__name__})") from None
        if response.status != 200:
            raise Absent(f"the API answered with status {response.status}")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise Absent("the API answered with something that is no JSON") from None
        if not isinstance(answer, dict):
            raise Absent("the API answered with something that is no JSON object")
        self._told.discard(name)
        return answer

    def _tell(self, name: str, error: Absent) -> None:
        """Log a failure of a call, once until it goes well again."""
        if name not in self._told:
            self._told.add(name)
            log.warning("%s: %s", name, error)

    def _load(self) -> None:
        try:
            kept = json.loads(self._path.read_text())
            self._kept = {"answers": dict(kept["answers"]), "logins": dict(kept["logins"])}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not used: %s", self._path, error)


def _pairs(value: Any) -> list[tuple[str, str]]:
    """Return (topic, id) of a list of such pairs, of which the id may be a number."""
    rows = value if isinstance(value, list) else []
    return [(str(row[0]), str(row[1])) for row in rows if isinstance(row, list | tuple) and len(row) >= 2 and row[0]]
