"""Metrics in the Prometheus text format, in a file that node_exporter or the agent reads."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Literal

from station import files

log = logging.getLogger(__name__)
Kind = Literal["gauge", "counter"]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) else repr(float(value))


class Metrics:
    """The metrics of one instance.

    `path` is the file; `labels` (role, instance…) are added to every sample.
    """

    def __init__(self, path: Path, labels: dict[str, str]) -> None:
        self.path = path
        self._labels = labels
        self._families: dict[str, tuple[Kind, str]] = {}
        self._samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        self._failed = False

    def set(self, name: str, value: float, text: str, *, kind: Kind = "gauge", **labels: str) -> None:
        """Set one sample; `text` is the family's help, `labels` tell samples of one family apart."""
        self._families[name] = (kind, text)
        key = tuple(sorted({**self._labels, **labels}.items()))
        self._samples.setdefault(name, {})[key] = float(value)

    def drop(self, name: str) -> None:
        """Forget a family: an old value must not stand for a current one."""
        self._families.pop(name, None)
        self._samples.pop(name, None)

    def text(self) -> str:
        """The whole file in the exposition format 0.0.4."""
        lines = []
        for name, (kind, text) in sorted(self._families.items()):
            lines.append(f"# HELP {name} " + text.replace("\\", "\\\\").replace("\n", "\\n"))
            lines.append(f"# TYPE {name} {kind}")
            for key, value in sorted(self._samples[name].items()):
                labels = ",".join(f'{label}="{_escape(text)}"' for label, text in key)
                lines.append(f"{name}{{{labels}}} {_number(value)}" if labels else f"{name} {_number(value)}")
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Replace the file. A failure is logged once and never ends the program that measures."""
        try:
            files.write(self.path, self.text(), mode=0o644)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("cannot write metrics to %s: %s", self.path, error)
            self._failed = True
