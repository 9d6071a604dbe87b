"""Where Debian packages come from: the package sources that this machine itself uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .errors import LabError
from .system import run

RELEASE = "bookworm"
"""What stations run: Debian 12."""
SUITES = ("", "-updates", "-security")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def host_sources() -> list[str]:
    """Return lines for a sources.list of Debian 12, from the sources of this machine.

    Raises LabError when it has no Debian sources.
    """
    lines = debian_lines(run("apt-get", "indextargets", "Created-By: Packages"), signed_by=KEYRING.exists())
    if not lines:
        raise LabError(
            "this machine's apt sources name no Debian archive, so the lab's image cannot be built: "
            "add one to /etc/apt/sources.list.d and run apt-get update"
        )
    return lines


def host_options() -> list[str]:
    """Return how this machine's apt reaches its sources (proxies, timeouts, date checks), as configuration lines."""
    wanted = re.compile(r"Acquire::(http|https|ftp|Check|Max-|Retries|ForceIPv|Queue)", re.IGNORECASE)
    return [line for line in run("apt-config", "dump").splitlines() if wanted.match(line) and not line.endswith('"";')]


def debian_lines(targets: str, signed_by: bool) -> list[str]:
    """Return sources.list lines for all Debian archives among the `targets` that `apt-get indextargets` printed.

    Archives of others are dropped by the origin that their Release file
    states, or by their suite's name where no list was ever fetched.
    """
    option = f"[signed-by={KEYRING}] " if signed_by else ""
    components: dict[tuple[str, str], list[str]] = {}
    for target in _stanzas(targets):
        if target.get("Origin", "Debian") != "Debian":
            continue
        base, dash, suffix = (target.get("Codename") or target.get("Release", "")).partition("-")
        suite = f"{RELEASE}{dash}{suffix}"
        if dash + suffix not in SUITES or not base.isalpha() or target.get("Component") not in COMPONENTS:
            continue
        listed = components.setdefault((target["Repo-URI"], suite), [])
        if target["Component"] not in listed:
            listed.append(target["Component"])
    return [f"deb {option}{uri} {suite} {' '.join(names)}" for (uri, suite), names in components.items()]


COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if fields:
            yield fields
