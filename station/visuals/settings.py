"""What an instance of visuals was told, checked: by its options, and by the original's environment variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from station.config import Config, ConfigError, Paths
from station.visuals import passwords
from station.visuals.directory import Listing
from station.visuals.outbox import Limits

log = logging.getLogger(__name__)
STOMP_PORT, HTTP_PORT, STOMPS_PORT, HTTPS_PORT = 61613, 8061, 61614, 8062
"""61613 is the original's STOMP port, 61614 what ActiveMQ and RabbitMQ use for STOMP over TLS."""
EXCHANGE = "amq.fanout"
"""The original's exchange."""
TEST_ADDRESS, TEST_PORT = "127.0.0.1", 61424
"""Where the original listens with `--test`."""
TOTAL = 20000
"""Connections at most, by default."""
_RABBITMQ = ("HOST", "PORT", "USER", "PASSWORD", "VHOST")
_IGNORED = ("MEMCACHED_HOST",)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate (PEM, or the file of it) and private key (PEM), and the ports that use them."""

    certificate: Path | str
    private_key: str = field(repr=False)
    stomp_port: int = STOMPS_PORT
    https_port: int = HTTPS_PORT


@dataclass(frozen=True, slots=True)
class Rabbit:
    """The broker of the original's environment variables; its defaults."""

    host: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the role `visuals`; see role.yml.

    `stomp_address` and `http_address` "" are every address of the machine. `brokers` are references into
    `config.sources`; `rabbit` is the broker of the environment and comes before them.
    """

    data: Path
    name: str = "visuals/main"
    stomp_address: str = ""
    stomp_port: int = STOMP_PORT
    http_address: str = ""
    http_port: int = HTTP_PORT
    brokers: tuple[str, ...] = ()
    rabbit: Rabbit | None = None
    exchange: str = EXCHANGE
    listing: Listing = field(default_factory=Listing)
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    limits: Limits = field(default_factory=Limits)
    total: int = TOTAL
    per_address: int = TOTAL
    connect_timeout: float = 10.0
    heart_beat: float = 10.0
    domain: str = ""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    manager: str | None = None
    manager_token: str | None = field(default=None, repr=False)
    events: dict[str, Any] = field(default_factory=dict, repr=False)
    legacy: dict[str, Any] = field(default_factory=dict, repr=False)


def read(config: Config, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of an instance.

    Args:
        config: its options; secrets are merged in.
        environ: the original's variables in it come before the options.

    Raises:
        ConfigError: a value that cannot be used; the error names the key and holds no secret.
    """
    config = _with_environment(config, environ)
    options = config.options
    tls = _tls(config) if options.get("tls") is not None else None
    listing = Listing.from_json(options.get("broadcasters") or {})
    _check_passwords(listing, tls is not None)
    brokers = config.option("brokers", list, [])
    if not all(isinstance(name, str) for name in brokers):
        raise ConfigError("options.brokers", "must be a list of `station/instance`")
    rabbit = options.get("rabbitmq")
    return Settings(
        data=config.paths.data,
        name=f"{config.station}/{config.instance}",
        stomp_address=config.option("stomp_address", str, ""),
        stomp_port=_port(config, "stomp_port", STOMP_PORT),
        http_address=config.option("http_address", str, config.option("stomp_address", str, "")),
        http_port=_port(config, "http_port", HTTP_PORT),
        brokers=tuple(brokers),
        rabbit=Rabbit(**rabbit) if rabbit else None,
        exchange=config.option("exchange", str, EXCHANGE),
        listing=listing,
        token=_secret(config, "token"),
        tls=tls,
        limits=Limits(_least(config, "queue.messages", 250, 2), _least(config, "queue.bytes", 1 << 20, 1 << 12)),
        total=_least(config, "connections.total", TOTAL, 1),
        per_address=_least(config, "connections.per_address", TOTAL, 1),
        connect_timeout=_positive(config, "connect_timeout", 10.0),
        heart_beat=_positive(config, "heart_beat", 10.0),
        domain=config.option("domain", str, config.event),
        pictures=_pictures(config),
        manager=config.option("manager", str, "") or None,
        manager_token=_secret(config, "manager_token") or _secret(config, "token"),
        events=config.option("events", dict, {}),
        legacy=config.option("legacy", dict, {}),
    )


def _pictures(config: Config) -> dict[str, Path]:
    named = config.option("pictures", dict, {})
    for name, file in named.items():
        if not isinstance(file, str) or not file or "/" in name:
            raise ConfigError(f"options.pictures.{name}", "must be the path of a file; its name has no slash")
    return {name: config.paths.context.parent / file for name, file in named.items()}


def _secret(config: Config, key: str) -> str | None:
    """A secret; the error of a wrong one must not show it, as `Config.option` would."""
    value = config.options.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"options.{key}", "must be a string that is not empty")
    return value


def _port(config: Config, key: str, default: int) -> int:
    port = config.option(key, int, default)
    if not 0 < port < 65536:
        raise ConfigError(f"options.{key}", f"is {port}; needed is a port from 1 to 65535")
    return port


def _least(config: Config, key: str, default: int, least: int) -> int:
    value = config.option(key, int, default)
    if value < least:
        raise ConfigError(f"options.{key}", f"is {value}; needed is {least} or more")
    return value


def _positive(config: Config, key: str, default: float) -> float:
    value = config.option(key, float, default)
    if not 0 < value < 86400:
        raise ConfigError(f"options.{key}", f"is {value:g}; needed is a number of seconds above 0")
    return value


def _tls(config: Config) -> Tls:
    tree = config.option("tls", dict)
    key = tree.get("private_key")
    if not isinstance(key, str) or "PRIVATE KEY" not in key:
        raise ConfigError("options.tls.private_key", "must be a private key in PEM form (the text, no file name)")
    certificate: Path | str = config.option("tls.certificate", str)
    if "-----BEGIN" not in str(certificate):
        certificate = config.paths.context.parent / certificate  # relative to the folder of the configuration
    stomp, https = _port(config, "tls.stomp_port", STOMPS_PORT), _port(config, "tls.https_port", HTTPS_PORT)
    return Tls(certificate, key, stomp, https)


def _check_passwords(listing: Listing, tls: bool) -> None:
    for broadcaster in listing.broadcasters.values():
        for user, password in broadcaster.users.items():
            key = f"options.broadcasters.{broadcaster.id}.users.{user}"
            if not passwords.is_hash(password):
                if tls:
                    raise ConfigError(key, "is in clear; with `tls` it must be a hash, made by --hash-password")
            elif fault := passwords.fault(password):
                raise ConfigError(key, fault)


def from_environment(folder: Path, environ: Mapping[str, str] = os.environ) -> Config | None:
    """Return a configuration for the original's environment variables alone, None if none of them is set.

    Args:
        folder: the data folder is made below it.
        environ: where they are.
    """
    named = ("STOMP_IP", "STOMP_PORT", "RADIODNS_API_URL", *(f"RABBITMQ_{name}" for name in _RABBITMQ))
    return by_hand(folder, {}) if any(environ.get(name) for name in named) else None


def by_hand(folder: Path, options: dict[str, Any]) -> Config:
    """Return a configuration without a file, of options only."""
    data = folder / "visuals-data"
    paths = Paths(data, data / "run", folder / "spool", data / "run" / "metrics.prom", folder / "context.json")
    return Config("event", None, os.uname().nodename, "127.0.0.1", "visuals", "main", options, {}, {}, paths)


def _with_environment(config: Config, environ: Mapping[str, str]) -> Config:
    """The original's variables laid over the options."""
    options = dict(config.options)
    for name, key in (("STOMP_IP", "stomp_address"), ("RABBITMQ_EXCHANGE", "exchange")):
        if value := environ.get(name):
            options[key] = "" if value == "0.0.0.0" else value  # noqa: S104 - what is compared, not bound
    if environ.get("STOMP_PORT"):
        options["stomp_port"] = _number(environ, "STOMP_PORT")
    if environ.get("RADIODNS_API_URL"):
        options["legacy"] = {**(options.get("legacy") or {}), "api_url": environ["RADIODNS_API_URL"]}
    if any(environ.get(f"RABBITMQ_{name}") for name in _RABBITMQ):
        options["rabbitmq"] = _broker(environ, "RABBITMQ")
    if environ.get("MONITORING_HOST") and environ.get("MONITORING_ENABLED", "True").lower() not in ("false", "0", "no"):
        events = _broker(environ, "MONITORING")
        for name in ("EXCHANGE", "QUEUE"):
            if value := environ.get(f"MONITORING_{name}"):
                events[name.lower()] = value
        if value := environ.get("MONITORING_SERVER_ID"):
            events["server"] = value.split(",")
        options["events"] = events
    for name in _IGNORED:
        if environ.get(name):
            log.info("%s is ignored: last values are kept on this machine's disk", name)
    level = environ.get("LOG_LEVEL", "").upper()
    if level in _LEVELS:
        logging.getLogger().setLevel(level)
    elif level:
        raise ConfigError("LOG_LEVEL", f"is {level!r}; allowed are {', '.join(_LEVELS)}")
    return Config(**{name: getattr(config, name) for name in Config.__slots__} | {"options": options})


def _broker(environ: Mapping[str, str], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _RABBITMQ:
        key = f"{prefix}_{name}"
        if environ.get(key):
            found[name.lower()] = _number(environ, key) if name == "PORT" else environ[key]
    return found


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        number = int(environ[name])
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise ConfigError(name, f"is {environ[name]!r}; needed is a port from 1 to 65535")
    return number


OPTIONS = (
    "stomp_port", "stomp_address", "http_port", "http_address", "brokers", "exchange", "broadcasters", "domain",
    "pictures", "token", "manager", "manager_token", "tls", "queue", "connections", "connect_timeout",
    "heart_beat", "events", "legacy",
)  # fmt: skip
"""Those of role.yml: a file for use by hand holds them as its own keys."""
EXAMPLE: dict[str, Any] = {
    "stomp_address": "127.0.0.1",
    "stomp_port": STOMP_PORT,
    "http_port": HTTP_PORT,
    "token": "example-token",
    "broadcasters": {
        "1": {
            "users": {"studio": "example-password"},
            "networks": ["127.0.0.0/8", "::1/128"],
            "channels": [
                {
                    "topic": "/topic/fm/ce1/c221/09580/",
                    "name": "One on FM",
                    "picture": "https://example.org/one.png",
                    "text": "You are listening to One",
                    "link": "https://example.org/",
                },
                {"topic": "/topic/dab/ce1/ce15/c221/0/", "name": "One on DAB", "text": "You are listening to One"},
                {"topic": "/topic/id/example.org/one/", "name": "One on the web", "text": "You are listening to One"},
            ],
        }
    },
}
"""What `--example` prints: it works alone on loopback."""
