"""What a catalogue was told: the options of the role, or of the command line."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from station.config import Config, ConfigError
from station.metrics import Metrics

PORT = 8071
HTTP_PORT = 8069
EXAMPLE: dict[str, Any] = {
    "port": PORT,
    "http_port": HTTP_PORT,
    "listen_address": "127.0.0.1",
    "servers": ["http://127.0.0.1:8070"],
}
"""Beside `python3 -m station.stills --example`."""

OPTIONS = ("port", "http_port", "listen_address", "servers", "manager", "manager_token", "certificate")
"""What a file for use by hand may say: the options of role.yml."""


@dataclass(frozen=True, slots=True)
class Settings:
    """See roles/catalogue/role.yml for the options.

    `http_port` is None for no page, `told` the `ServerAddress` of the old text ("" for the one that a client reached),
    `folder` one of descriptor files, `cache` where the manager's answer is kept, `context` reads context.json.
    """

    event: str = ""
    port: int = PORT
    http_port: int | None = None
    address: str = ""
    told: str = ""
    servers: tuple[str, ...] = ()
    folder: Path | None = None
    manager: str | None = None
    manager_token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    cache: Path | None = None
    context_file: Path | None = None
    context: Callable[[], Mapping[str, Any]] = dict
    metrics: Metrics = field(default_factory=lambda: Metrics(Path(), {}))


def by_hand(port: int, folder: Path, http_port: int | None, servers: Iterable[str]) -> Settings:
    """Return the settings of a catalogue without config.json.

    Args:
        port: of the old text.
        folder: of descriptor files.
        http_port: of the page, None for none.
        servers: base addresses of servers of stills.

    Raises:
        ConfigError: one of them cannot be used.
    """
    _checked("port", port)
    if http_port is not None:
        _differ(port, _checked("http_port", http_port))
    return Settings(port=port, http_port=http_port, folder=folder, servers=tuple(_server(one) for one in servers))


def read(config: Config) -> Settings:
    """Return the settings of an instance. Raises ConfigError."""
    defaults = {"port": PORT, "http_port": HTTP_PORT}
    ports = {key: _checked(key, config.option(key, int, default)) for key, default in defaults.items()}
    _differ(ports["port"], ports["http_port"])
    return Settings(
        event=config.event,
        port=ports["port"],
        http_port=ports["http_port"],
        address=_address(config.options.get("listen_address")),
        servers=tuple(_server(text) for text in config.option("servers", list, [])),
        manager=config.options.get("manager"),
        manager_token=config.options.get("manager_token"),
        certificate=config.options.get("certificate"),
        cache=config.paths.data / "registrations.json",
        context_file=config.paths.context,
        context=config.context,
        metrics=Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance}),
    )


def _checked(key: str, port: int) -> int:
    if not 0 < port < 65536:
        raise ConfigError(f"options.{key}", f"is {port}; needed is a TCP port from 1 to 65535")
    return port


def _differ(port: int, http_port: int) -> None:
    if port == http_port:
        raise ConfigError("options.http_port", f"is {port}, as `port` is; needed is another one")


def _address(text: Any) -> str:
    try:
        return "" if text is None else str(ip_address(text))
    except ValueError as error:
        raise ConfigError(
            "options.listen_address", f"is {text!r}; needed is an address of this machine, or none"
        ) from error


def _server(text: Any) -> str:
    try:
        parts = urllib.parse.urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        good = good and not (parts.username or parts.query or parts.fragment)
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise ConfigError("options.servers", f"has {text!r}; needed are addresses such as http://192.0.2.7:8070")
    return str(text).rstrip("/")
