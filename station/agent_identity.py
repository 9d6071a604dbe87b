"""Who a station is to its manager: id and secret, and the claim with which it asks for them."""

from __future__ import annotations

import logging
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from station import files
from station.applier.light import read_json

log = logging.getLogger(__name__)

FILE = "identity.json"


@dataclass(slots=True)
class Identity:
    """What is kept over restarts; `station/enrol` writes the same file."""

    id: str | None = None
    secret: str | None = None
    claim: str | None = None

    @property
    def enrolled(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self.id and self.secret)


class IdentityFile:
    """The identity in a folder of the agent's own, for its eyes only."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def load(self) -> Identity:
        """Return what is kept; a file that is no identity is one that has nothing."""
        try:
            value: Any = read_json(str(self._path)) or {}
            identity = Identity(**{key: value.get(key) for key in ("id", "secret", "claim")})
            bytes.fromhex(identity.secret or "")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.error("%s cannot be used (%s): the station enrols anew", self._path, error)
            return Identity()
        return identity

    def save(self, identity: Identity) -> None:
        """Keep it durably. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_json(self._path, asdict(identity), durable=True, mode=0o600)


def new_claim() -> str:
    """Return a claim that nobody guesses."""
    return secrets.token_urlsafe(32)


def host_keys(folder: Path) -> list[str]:
    """Return the machine's public SSH host keys, without comments. Raises OSError."""
    files_there = sorted(folder.glob("ssh_host_*_key.pub"))
    return [" ".join(path.read_text(errors="replace").split()[:2]) for path in files_there][:8]
