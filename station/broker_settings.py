"""What RabbitMQ is told: settings, definitions and environment, made anew at each start.

Nothing secret is in an argument list, and of the password only its hash and what is derived from it touch the disk.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station import files, notify
from station.config import Config, ConfigError, typed

BIN = "/usr/lib/rabbitmq/bin"
"""Debian's rabbitmq-server; the commands in /usr/sbin insist on being root or rabbitmq."""
ALONE = "stationmaster@127.0.0.1"
"""Name of a node without peers: it stays, whatever becomes of address and host name."""
PEER_RETRIES, PEER_INTERVAL = 10, 1000
"""Attempts, and milliseconds between them, to find a peer at the very first start."""
TABLE_RETRIES, TABLE_TIMEOUT = 2, 15000
"""Attempts, and milliseconds of each, to reach the peers at a later start; then the node ends and is started again."""


@dataclass(frozen=True, slots=True)
class Secure:
    """TLS: a port, and certificate and key in PEM form."""

    port: int
    certificate: str
    private_key: str


@dataclass(frozen=True, slots=True)
class Settings:
    """One node. `listen`: address on which clients are served; `peers`: node names to addresses, itself among them."""

    data: Path
    run: Path
    address: str
    listen: str
    port: int
    user: str
    password: str
    secure: Secure | None
    cluster_port: int
    names_port: int
    memory: int
    disk: int
    node: str
    peers: Mapping[str, str]

    @property
    def home(self) -> Path:
        """Home of the Erlang programs, with their cookie."""
        return self.data / "home"

    @property
    def database(self) -> Path:
        """Folder of this node's database and streams; a node of another name has another."""
        return self.data / "nodes" / self.node


def read(config: Config, peers: Mapping[str, Any] | None) -> Settings:
    """Return the settings of an instance.

    Args:
        config: of the instance.
        peers: `{"nodes": {station: address}}` of all brokers of the cluster, this one too; None or one node: alone.

    Raises:
        ConfigError: naming the key.
    """
    password = config.option("password", str)
    if len(password) < 12:
        raise ConfigError("options.password", "is too short; needed are 12 characters at least")
    secure = None
    if "tls" in config.options:
        secure = Secure(
            port=config.option("tls.port", int, 5671),
            certificate=config.option("tls.certificate", str),
            private_key=config.option("tls.private_key", str),
        )
        for key, kind in (("certificate", "CERTIFICATE"), ("private_key", "PRIVATE KEY")):
            if f"{kind}-----" not in getattr(secure, key):
                raise ConfigError(f"options.tls.{key}", f"is no PEM text; it begins with -----BEGIN … {kind}-----")
    found = typed(peers or {}, "nodes", dict, {}, prefix="peers: ")
    names = {f"{_plain(name)}@{address}": str(address) for name, address in found.items()}
    alone = len(names) < 2
    own = ALONE if alone else f"{_plain(config.station)}@{config.address}"
    if not alone and own not in names:
        raise ConfigError("peers", f"lacks this station: {own} is not among {', '.join(names)}")
    return Settings(
        data=config.paths.data,
        run=config.paths.run,
        address="127.0.0.1" if alone else config.address,
        listen=config.option("listen", str, "0.0.0.0"),  # noqa: S104 - a server for the other stations
        port=config.option("port", int, 5672),
        user=config.option("user", str, "stationmaster"),
        password=password,
        secure=secure,
        cluster_port=config.option("cluster_port", int, 25672),
        names_port=config.option("names_port", int, 4369),
        memory=config.option("memory", int, 256) << 20,
        disk=config.option("disk_reserve", int, 200) << 20,
        node=own,
        peers={} if alone else names,
    )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def hashed(password: str, salt: bytes) -> str:
    """Return RabbitMQ's hash of a password (rabbitmq.com/passwords.html); the salt has 4 bytes."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def cookie(password: str) -> str:
    """Return what the nodes of a cluster know each other by, the same on all that have the password."""
    return hmac.new(password.encode(), b"stationmaster broker cookie", hashlib.sha256).hexdigest()


def definitions(settings: Settings) -> dict[str, Any]:
    """Return what the broker imports at each start: a changed password is a new one there."""
    user = {
        "name": settings.user,
        "password_hash": hashed(settings.password, secrets.token_bytes(4)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }
    allowed = {"user": settings.user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {"vhosts": [{"name": "/"}], "users": [user], "permissions": [allowed]}


def conf(settings: Settings) -> str:
    """Return rabbitmq.conf."""
    lines = {
        "load_definitions": settings.run / "definitions.json",
        "vm_memory_high_watermark.absolute": settings.memory,
        "disk_free_limit.absolute": settings.disk,
        "heartbeat": 10,
        "log.console": "true",
        "log.console.level": "warning",
        "log.console.use_colors": "off",
        "log.file": "false",
    }
    if settings.secure is None:
        lines["listeners.tcp.1"] = f"{settings.listen}:{settings.port}"
    else:
        lines |= {
            "listeners.tcp.1": f"127.0.0.1:{settings.port}",
            "listeners.ssl.1": f"{settings.listen}:{settings.secure.port}",
            "ssl_options.certfile": settings.run / "certificate.pem",
            "ssl_options.keyfile": settings.run / "key.pem",
            "ssl_options.verify": "verify_none",
            "ssl_options.versions.1": "tlsv1.3",
            "ssl_options.versions.2": "tlsv1.2",
        }
    if settings.peers:
        lines |= {
            "cluster_formation.peer_discovery_backend": "classic_config",
            "cluster_formation.discovery_retry_limit": PEER_RETRIES,
            "cluster_formation.discovery_retry_interval": PEER_INTERVAL,
            # Two cannot tell which of them is cut off; both go on, and one gives in later.
            "cluster_partition_handling": "pause_minority" if len(settings.peers) > 2 else "autoheal",
            "mnesia_table_loading_retry_limit": TABLE_RETRIES,
            "mnesia_table_loading_retry_timeout": TABLE_TIMEOUT,
        }
        for number, name in enumerate(sorted(settings.peers), start=1):
            lines[f"cluster_formation.classic_config.nodes.{number}"] = name
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of the server and of its commands: nothing of the machine's own settings counts."""
    run, data = settings.run, settings.data
    interface = "{" + settings.address.replace(".", ",") + "}"
    kept = {key: value for key, value in notify.without().items() if not key.startswith(("RABBITMQ", "ERL"))}
    return kept | {
        "HOME": str(settings.home),
        "RABBITMQ_NODENAME": settings.node,
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(run / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(run / "none.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(run / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(data / "nodes"),
        "RABBITMQ_MNESIA_DIR": str(settings.database),
        "RABBITMQ_LOG_BASE": str(run / "log"),
        "RABBITMQ_PID_FILE": str(run / "rabbitmq.pid"),
        "RABBITMQ_DIST_PORT": str(settings.cluster_port),
        "ERL_EPMD_PORT": str(settings.names_port),
        "ERL_EPMD_ADDRESS": settings.address,
        # A dump of a crash would hold what is in memory.
        "ERL_CRASH_DUMP_SECONDS": "0",
        # No spinning schedulers: the machine has other work.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
        f" -kernel inet_dist_use_interface {interface}",
        # The script then becomes the server, so that signals reach it.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def write(settings: Settings) -> None:
    """Write all that the server reads. Raises OSError."""
    for folder in (settings.home, settings.database.parent, settings.run / "log"):
        folder.mkdir(parents=True, exist_ok=True)
    secret = {
        settings.home / ".erlang.cookie": cookie(settings.password),
        settings.run / "definitions.json": json.dumps(definitions(settings)),
    }
    if settings.secure is not None:
        secret[settings.run / "certificate.pem"] = settings.secure.certificate
        secret[settings.run / "key.pem"] = settings.secure.private_key
    for path, text in secret.items():
        files.write(path, text, mode=0o400)
    files.write(settings.run / "rabbitmq.conf", conf(settings))
    files.write(settings.run / "enabled_plugins", "[].\n")
