"""How tokens are stored."""

from __future__ import annotations

import hashlib


def hash_of(token: str) -> str:
    """Return how a token is stored. It has 256 random bits, so that a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
