"""What an instance of stills was told, checked: the options of role.yml."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from station.config import Config, ConfigError, check_known
from station.stills import stream_settings
from station.stills.limits import LimitSettings, Network
from station.stills.stream_settings import Rtp as Rtp
from station.stills.stream_settings import StreamSettings as StreamSettings
from station.stills.stream_settings import Testcard as Testcard
from station.stills.stream_settings import port

HTTP_PORT = 8070
OPTIONS = ("http_port", "http_address", "listen_address", "networks", "limits", "streams")
"""What a file for use by hand may say: the options of role.yml."""
EXAMPLE: dict[str, Any] = {
    "listen_address": "127.0.0.1",
    "http_port": HTTP_PORT,
    "streams": {
        "push": {"testcard": {}, "ips": 2, "method": "tcp_push", "port": 8081},
        "pull": {"testcard": {}, "method": "tcp_pull", "port": 8082},
        "datagrams": {"testcard": {"width": 320, "height": 180}, "ips": 2, "method": "udp_push", "port": 8083},
        "asked": {"testcard": {"width": 320, "height": 180}, "method": "udp_pull", "port": 8084},
        "web": {"testcard": {"pictures": 25}, "ips": 12.5},
    },
}
"""What `--example` prints: it works alone on loopback."""
LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Networks that may use the methods over UDP by default."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the role `stills`; see role.yml.

    `listen_address` and `http_address` "" are every address of the machine, `http_port` 0 is no HTTP at all;
    `address` is the one that is told to clients. `metrics` None: no file.
    """

    streams: tuple[StreamSettings, ...]
    station: str = "localhost"
    instance: str = "main"
    event: str = "event"
    address: str = "127.0.0.1"
    listen_address: str = ""
    http_port: int = HTTP_PORT
    http_address: str = ""
    networks: tuple[Network, ...] = tuple(map(ip_network, LOOPBACK))
    limits: LimitSettings = field(default_factory=LimitSettings)
    data: Path | None = None
    metrics: Path | None = None


def read(config: Config) -> Settings:
    """Return the settings of an instance. Raises ConfigError, which names the key."""
    options = config.options
    listen = _address(options.get("listen_address"), "options.listen_address")
    http_port = port(config.option("http_port", int, HTTP_PORT), "options.http_port")
    return Settings(
        streams=tuple(stream_settings.read(config, http_port)),
        station=config.station,
        instance=config.instance,
        event=config.event,
        address=config.address,
        listen_address=listen,
        http_port=http_port,
        http_address=_address(options.get("http_address"), "options.http_address") or listen,
        networks=networks(config.option("networks", list, list(LOOPBACK))),
        limits=_limits(config),
        data=config.paths.data,
        metrics=config.paths.metrics,
    )


def networks(texts: list[Any]) -> tuple[Network, ...]:
    """Return networks for texts such as `192.0.2.0/24`. Raises ConfigError."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except (ValueError, TypeError) as error:
            raise ConfigError("options.networks", f"{text!r} is no network; write it as 192.0.2.0/24") from error
    return tuple(found)


def _address(text: Any, key: str) -> str:
    if text is None:
        return ""
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise ConfigError(key, f"is {text!r}; needed is an IPv4 or IPv6 address of this machine") from error


def _limits(config: Config) -> LimitSettings:
    values: dict[str, Any] = {}
    check_known(config.option("limits", dict, {}), LimitSettings.__slots__, prefix="options.limits.")
    for name in LimitSettings.__slots__:
        default = getattr(LimitSettings(), name)
        value = config.option(f"limits.{name}", type(default), default)
        if value < 1:
            raise ConfigError(f"options.limits.{name}", f"is {value:g}; needed is 1 or more")
        values[name] = value
    return LimitSettings(**values)
