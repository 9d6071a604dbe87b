"""The watchdog: shows a channel's default visuals when it is silent.

It follows the log whether it is the active one or not, so that another one that takes over knows as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from station.visuals import conditional
from station.visuals.bus import Bus, Entry, Full
from station.visuals.defaults import Defaults, messages
from station.visuals.message_log import MessageLog
from station.visuals.silence import Silence

log = logging.getLogger(__name__)
LOCK = "fallback"
SETTLE = 1.0
"""Seconds for which the bus must be there before anything is sent: what was missed comes first."""
PATIENCE = 5.0
"""Seconds for which a confirmation is waited for before the other channels' turn comes."""
TOGETHER = 50
"""Channels that are sent for at once."""
SEEN = 20_000
"""Messages of which is remembered that they came, for the log may repeat some."""


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds: silence before the default, between two looks, and between two refreshes of the channels."""

    silence: float = 60.0
    check: float = 15.0
    refresh: float = 60.0


class Watchdog:
    """One of any number; the one that holds the lock sends."""

    def __init__(
        self, bus: Bus, defaults: Defaults, memory: MessageLog, times: Times, steady: Callable[[], float] | None = None
    ) -> None:
        """Take what to watch with; `steady` gives seconds that only grow, also while the clock is set."""
        self._bus = bus
        self._defaults = defaults
        self._memory = memory
        self._times = times
        self._steady = steady or time.monotonic
        self._silence = Silence()
        self._channels: Mapping[str, str] = {}
        self._pending: dict[str, list[asyncio.Future[None]]] = {}
        self._seen: dict[tuple[str, str], None] = {}
        self._ready_since: float | None = None
        self._wake = asyncio.Event()
        self.active = False
        self.sent = 0
        self.silent = 0

    @property
    def channels(self) -> int:
        """How many channels are watched."""
        return len(self._channels)

    async def run(self) -> None:
        """Watch until cancelled."""
        known = self._memory.known()
        for topic, name, when in known.last:
            self._silence.note(topic, name, when, self._moment(when))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bus.run(known.offset, self._deliver))
            group.create_task(self._hold())
            group.create_task(self._refresh())
            group.create_task(self._check())

    def _moment(self, when: float) -> float:
        """Return the steady time of a time of day that has passed."""
        return self._steady() - max(0.0, time.time() - when)

    async def _deliver(self, entry: Entry) -> None:
        message = conditional.settle(entry.message, self._silence.newest)
        if message is None:
            return
        key = message.topic, message.id
        if key in self._seen or (entry.refresh and self._silence.newest(message.topic)):
            return
        self._seen[key] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        # What comes live counts from now on, whatever its sender's clock says.
        live = self._bus.caught_up() and not entry.refresh
        self._silence.note(
            message.topic, message.id, message.when, self._steady() if live else self._moment(message.when)
        )
        self._memory.add(replace(entry, message=message), time.time() if live else message.when)

    async def _hold(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._bus.lock(LOCK)) as lock:
                    async for held in lock:
                        if held != self.active:
                            log.info("now the active one" if held else "no more the active one")
                        self.active = held
                        self._wake.set()
            finally:
                self.active = False
            await asyncio.sleep(1)

    async def _refresh(self) -> None:
        while True:
            channels = await self._defaults.watched()
            if set(channels) != set(self._channels):
                log.info("watching %d channels", len(channels))
            self._channels = channels
            self._wake.set()
            self._silence.keep(channels, self._steady() - 86400)
            await asyncio.sleep(self._times.refresh)

    async def _check(self) -> None:
        while True:
            pause = await self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()

    def _ready(self) -> bool:
        """Return whether all that is in the log is known, and what is sent now arrives now."""
        if not (self._bus.connected() and self._bus.caught_up()):
            self._ready_since = None
            return False
        if self._ready_since is None:
            self._ready_since = self._steady()
        return self._steady() - self._ready_since >= min(SETTLE, self._times.check / 2)

    async def _turn(self) -> float:
        """Send what is due; returns the seconds until the next look."""
        check = self._times.check
        if not (self._ready() and self.active):
            return min(check / 4, 0.5)
        due, _ = self._silence.due(self._channels, self._times.silence, self._steady())
        for first in range(0, len(due), TOGETHER):
            await self._send(due[first : first + TOGETHER])
        now = self._steady()
        due, soonest = self._silence.due(self._channels, self._times.silence, now)
        self.silent = len(due)
        return max(0.01, min(check, soonest - now))

    async def _send(self, channels: list[str]) -> None:
        found = await asyncio.gather(*(self._defaults.default(self._channels[channel]) for channel in channels))
        sent = []
        for channel, default in zip(channels, found, strict=True):
            if default is None or any(not future.done() for future in self._pending.get(channel, ())):
                continue
            # Looked at again: a real message may have come while the default was asked for.
            if not self._silence.due([channel], self._times.silence, self._steady())[0] or not self.active:
                continue
            try:
                texts = messages(channel, default, self._silence, self._times.silence)
                self._pending[channel] = [self._bus.publish(message) for message in texts]
            except Full as error:
                log.warning("no default for %s: %s", channel, error)
                continue
            sent.append(channel)
        futures = [future for channel in sent for future in self._pending[channel]]
        if futures:
            await asyncio.wait(futures, timeout=PATIENCE)
        for channel in sent:
            done = [future for future in self._pending[channel] if future.done()]
            failed = [fault for future in done if not future.cancelled() and (fault := future.exception())]
            if len(done) == len(self._pending[channel]):
                del self._pending[channel]
                if not failed:
                    self._silence.alive(channel, self._steady())
                    self.sent += 1
                    continue
            log.warning("the default for %s was not confirmed%s", channel, f": {failed[0]}" if failed else "")
