"""Which directory an instance uses: our manager's, that of an existing installation, or its own settings."""

from __future__ import annotations

from pathlib import Path

from station.manager_link import open_link
from station.visuals.directory import Directory, Listing, Local
from station.visuals.directory_legacy import Legacy
from station.visuals.directory_manager import Managed


def open_directory(
    listing: Listing,
    folder: Path,
    *,
    manager: str | None = None,
    manager_token: str | None = None,
    certificate: str | None = None,
    legacy_url: str | None = None,
    picture_base: str = "",
    tls: bool = False,
) -> Directory:
    """Return the directory that the settings ask for; its `run` keeps it fresh.

    Args:
        listing: the option `broadcasters`.
        folder: data folder of the instance.
        manager: address of the manager; used with a token only.
        manager_token: a token of scope `visuals`.
        certificate: PEM file by which the manager is verified.
        legacy_url: RADIODNS_API_URL of an existing installation; comes before the manager.
        picture_base: put before default pictures that are no absolute URL.
        tls: whether passwords must not travel in clear.

    Raises:
        ConfigError: an address cannot be used.
    """
    if legacy_url:
        return Legacy(legacy_url, folder, tls=tls, picture_base=picture_base)
    link = open_link(manager, manager_token, certificate, tls=tls)
    return Managed(link, folder, listing, hashed=tls) if link else Local(listing)
