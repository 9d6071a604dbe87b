"""The figures of a program for Prometheus: put together when they are asked for, and every few seconds for the file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from station.metrics import Metrics

PERIOD = 5.0
"""Seconds between two writes of the file."""


class Exposition:
    """The metrics of one instance.

    Args:
        metrics: where they are put together; its path is the file.
        fill: puts all of them there as they are now.
        period: seconds between two writes of the file.
    """

    def __init__(self, metrics: Metrics, fill: Callable[[], None], period: float = PERIOD) -> None:
        self._metrics = metrics
        self._fill = fill
        self._period = period

    def text(self) -> str:
        """Return the figures of now in the exposition format."""
        self._fill()
        return self._metrics.text()

    async def run(self) -> None:
        """Write the file every few seconds until cancelled."""
        while True:
            self._fill()
            self._metrics.write()
            await asyncio.sleep(self._period)
