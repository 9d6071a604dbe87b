"""Which certificate the manager is known by: the one given, the one that was brought, or what Debian trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

BROUGHT = "/etc/stationmaster/manager-ca.pem"
"""The certificate that `playbooks/manager.yml` brings to every station."""


class Trust:
    """What to trust of the manager; `certificate` is a PEM file that goes before BROUGHT and the system's."""

    def __init__(self, certificate: str | None) -> None:
        self._certificate = certificate
        self._context: ssl.SSLContext | None = None
        self._seen: tuple[str | None, int] | None = None

    def context(self) -> ssl.SSLContext:
        """Return it; the file is read again when it changes, as with a manager that was set up anew.

        Raises OSError (ssl.SSLError) for a certificate that cannot be used.
        """
        path = self._certificate or (BROUGHT if Path(BROUGHT).exists() else None)
        seen = (path, Path(path).stat().st_mtime_ns if path else 0)
        if self._context is None or seen != self._seen:
            context = ssl.create_default_context(cafile=path)
            # the given certificate may be the manager's own, not an authority's
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            self._context, self._seen = context, seen
        return self._context
