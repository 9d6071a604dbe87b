"""How much one client, and all together, may have of a server; and what the server counts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
BURST = 1.0
"""Seconds of the rate that a client may use at once: the fragments of a picture come together."""
CONVERSIONS = 2
"""Pictures of all streams that are made into another kind at once: each takes a processor of its own meanwhile."""
BUCKETS = 4096
"""Addresses whose rate is remembered; a full bucket says nothing and is forgotten first."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Clients of all kinds, in total and of one address; `udp_rate` and `udp_total` are bytes a second."""

    clients: int = 2000
    per_address: int = 64
    udp_rate: float = 2_000_000.0
    udp_total: float = 20_000_000.0


@dataclass(slots=True)
class Tally:
    """What went out of one stream in one way; `clients` are those of now, `skipped` pictures they had no room for."""

    sent: int = 0
    bytes: int = 0
    skipped: int = 0
    clients: int = 0


class Ticket:
    """The place of one client; `leave` gives it back, once."""

    __slots__ = ("_leave", "address")

    def __init__(self, address: str, leave: Callable[[str], None]) -> None:
        self.address = address
        self._leave: Callable[[str], None] | None = leave

    def leave(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._leave is not None:
            self._leave(self.address)
            self._leave = None


class _Bucket:
    __slots__ = ("level", "rate", "when")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.level = rate * BURST
        self.when = now

    def fill(self, now: float) -> float:
        self.level = min(self.rate * BURST, self.level + (now - self.when) * self.rate)
        self.when = now
        return self.level


def plain(address: str) -> str:
    """Return an address as text in one form: an IPv4 address that came over IPv6 as IPv4, without a scope."""
    address = address.partition("%")[0]
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


class Limits:
    """What all streams of a server share."""

    def __init__(
        self,
        settings: LimitSettings | None = None,
        networks: Iterable[Network] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make them.

        Args:
            settings: the limits.
            networks: who may use the methods over UDP.
            clock: seconds.
        """
        self.settings = settings or LimitSettings()
        self._networks = tuple(networks)
        self._clock = clock
        self._addresses: Counter[str] = Counter()
        self._buckets: dict[str, _Bucket] = {}
        self._total = _Bucket(self.settings.udp_total, clock())
        self.clients = 0
        """Those that are there now, of all kinds."""
        self.unproven = 0
        """Those of them whose address may be forged."""
        self.refused: Counter[str] = Counter()
        """How many were not let in, by the reason: clients, per_address, network, rate."""
        self.conversions = asyncio.Semaphore(CONVERSIONS)
        """Places for making a picture into another kind."""
        self.tallies: dict[tuple[str, str], Tally] = {}
        """By key of the stream and way (`tcp_push`, `mjpeg`, …)."""

    def enter(self, address: str, *, proven: bool = True) -> Ticket | None:
        """Return a place for a client, None where there is none left for its address or for anybody.

        Args:
            address: of the client.
            proven: False where it may be forged, as over UDP. All such together have half of the places: who forges
                addresses of a network that is allowed shuts nobody out who is connected by TCP.
        """
        address = plain(address)
        if self.clients >= self.settings.clients or (not proven and self.unproven * 2 >= self.settings.clients > 1):
            self.refused["clients"] += 1
            return None
        if self._addresses[address] >= self.settings.per_address:
            self.refused["per_address"] += 1
            return None
        self.clients += 1
        self.unproven += not proven
        self._addresses[address] += 1
        return Ticket(address, self._leave if proven else self._leave_unproven)

    def _leave_unproven(self, address: str) -> None:
        self.unproven -= 1
        self._leave(address)

    def _leave(self, address: str) -> None:
        self.clients -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def allowed(self, address: str) -> bool:
        """Say whether an address may use the methods over UDP, which anybody can point at a victim."""
        try:
            found = ip_address(plain(address))
        except ValueError:
            return False
        if any(found.version == network.version and found in network for network in self._networks):
            return True
        self.refused["network"] += 1
        return False

    def rate(self, address: str, size: int) -> bool:
        """Take bytes of UDP from what an address, and all together, may get now; False where there are too few left.

        Args:
            address: of the client.
            size: bytes; more than a second's rate pass when the bucket is full, and are paid for afterwards.
        """
        now = self._clock()
        bucket = self._bucket(plain(address), now)
        if bucket is not None:
            whole = bucket.fill(now) >= min(size, bucket.rate * BURST)
            if whole and self._total.fill(now) >= min(size, self._total.rate * BURST):
                bucket.level -= size
                self._total.level -= size
                return True
        self.refused["rate"] += 1
        return False

    def _bucket(self, address: str, now: float) -> _Bucket | None:
        bucket = self._buckets.get(address)
        if bucket is None:
            if len(self._buckets) >= BUCKETS:
                full = [key for key, one in self._buckets.items() if one.fill(now) >= one.rate * BURST]
                for key in full:
                    del self._buckets[key]
                if not full:
                    return None
            bucket = self._buckets[address] = _Bucket(self.settings.udp_rate, now)
        return bucket

    def tally(self, stream: str, way: str) -> Tally:
        """Return the counters of a stream's key and a way; always the same object."""
        return self.tallies.setdefault((stream, way), Tally())

    @property
    def counters(self) -> dict[str, float]:
        """All of it, by name and labels as Prometheus writes them."""
        found: dict[str, float] = {}
        for (stream, way), tally in self.tallies.items():
            labels = f'{{stream="{stream}",way="{way}"}}'
            found[f"stills_pictures_sent_total{labels}"] = tally.sent
            found[f"stills_bytes_sent_total{labels}"] = tally.bytes
            found[f"stills_skipped_total{labels}"] = tally.skipped
            found[f"stills_clients{labels}"] = tally.clients
        for why, count in self.refused.items():
            found[f'stills_refused_total{{why="{why}"}}'] = count
        return found
