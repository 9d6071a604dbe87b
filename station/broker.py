"""The station role `broker`: Debian's RabbitMQ, supervised, without root.

Its configuration is made at each start. Run it by hand as `python3 -m station.broker --config FILE`;
`--example` prints one that works alone on loopback.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from station import bound, broker_disk, broker_settings, files, foreign
from station import config as configuration
from station.broker_probe import AmqpProbe
from station.broker_settings import BIN, Settings
from station.config import Config, ConfigError
from station.metrics import Metrics

log = logging.getLogger(__name__)
LOOK = 2.0
"""Seconds between two probes."""
TIMEOUT = 5.0
"""Seconds that one step of a probe may take: a broker that syncs to a slow disk is no broken one."""
STREAM = "stationmaster.visuals"
"""As in station.visuals.amqp, which this program does not load."""
REPLICA_FIRST, REPLICA_LATEST = 15.0, 600.0
"""Seconds between two attempts to get a copy of the stream; each takes a second of processor time."""
COMMAND_TIMEOUT = 60.0
OPTIONS = (
    "port", "user", "password", "listen", "tls", "cluster_port", "names_port", "memory", "disk_reserve",
)  # fmt: skip
"""Those of role.yml: a file for use by hand holds them as its own keys."""
EXAMPLE = {
    "listen": "127.0.0.1",
    "port": 5672,
    "user": "stationmaster",
    "password": "change-me-please",
    "cluster_port": 25672,
    "names_port": 4369,
}


class Watched(AmqpProbe):
    """The probe, which also writes the metrics."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Probes on this machine, by the plain port, which is there with TLS as well."""
        local = "127.0.0.1" if settings.secure or settings.listen == "0.0.0.0" else settings.listen  # noqa: S104
        super().__init__(local, settings.port, settings.user, settings.password, TIMEOUT)
        self._settings = settings
        self._metrics = metrics

    def failure(self) -> str | None:
        """See Probe."""
        failure = super().failure()
        put = self._metrics.set
        put("stationmaster_broker_up", failure is None, "Whether a client can log in.")
        for name, size in stream_sizes(self._settings.database).items():
            put("stationmaster_broker_stream_bytes", size, "Bytes of a stream on the disk.", stream=name)
        put("stationmaster_broker_free_bytes", shutil.disk_usage(self._settings.data).free, "Bytes free on its disk.")
        self._metrics.write()
        return failure


def stream_sizes(database: Path) -> dict[str, int]:
    """Return the bytes of each stream that this node has: folders `__<name>_<nanoseconds>` [RabbitMQ 3.10]."""
    sizes = {}
    for folder in (database / "stream").glob("__*"):
        total = 0
        for path in folder.glob("*"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
        sizes[folder.name.removeprefix("__").rpartition("_")[0]] = total
    return sizes


def has_copy(database: Path) -> bool:
    """Return whether this node has a copy of the stream; its folder has `_` for each dot [RabbitMQ 3.10]."""
    return STREAM.replace(".", "_") in stream_sizes(database)


def control(settings: Settings, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of RabbitMQ's commands for this node. Raises OSError, subprocess.TimeoutExpired."""
    return subprocess.run(
        bound.command([f"{BIN}/{program}", "--longnames", "--node", settings.node, *arguments]),
        env=broker_settings.environment(settings),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )


def keep_replica(settings: Settings, stop: threading.Event) -> None:
    """Get this node a copy of the stream: one that was made while the node was away has none here."""
    pause = REPLICA_FIRST
    while not stop.wait(pause):
        if has_copy(settings.database):
            pause = REPLICA_LATEST
            continue
        pause = min(2 * pause, REPLICA_LATEST)
        try:
            done = control(settings, "rabbitmq-streams", "add_replica", STREAM, settings.node)
            if done.returncode == 0:
                log.info("this node has a copy of the stream now")
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("cannot get a copy of the stream: %s", error)


def forget_users(settings: Settings, stop: threading.Event) -> None:
    """Remove the user of an earlier configuration, once the broker runs: what is imported only adds."""
    note = settings.data / "user"
    before = (note.read_text() if note.exists() else "") or settings.user
    while before != settings.user and not stop.wait(LOOK):
        done = control(settings, "rabbitmqctl", "delete_user", before)
        if done.returncode == 0:
            break
    if not stop.is_set():
        files.write(note, settings.user, durable=True)


def names_server(settings: Settings) -> list[str] | None:
    """Return the command of Erlang's name server, None when one answers already; it would outlive us if started so."""
    try:
        socket.create_connection(("127.0.0.1", settings.names_port), 1.0).close()
    except OSError:
        return ["epmd", "-port", str(settings.names_port), "-address", settings.address]
    return None


def run(config: Config, peers: Path | None = None) -> int:
    """Run the broker until it is asked to stop; returns the exit status.

    Raises:
        ConfigError: something in the configuration is wrong.
    """
    try:
        listed = json.loads(peers.read_text()) if peers else None
    except (OSError, ValueError) as error:
        raise ConfigError(str(peers), f"cannot be used: {error}") from error
    settings = broker_settings.read(config, listed)
    if not Path(f"{BIN}/rabbitmq-server").exists():
        raise ConfigError(f"{BIN}/rabbitmq-server", "is missing; install Debian's package rabbitmq-server")
    if len(settings.peers) == 2:
        log.warning("two brokers are no safer than one: a stream goes on only while most nodes do; use three")
    if not settings.peers:
        broker_disk.set_torn_aside(settings.database)
    broker_settings.write(settings)
    environment = broker_settings.environment(settings)
    names = names_server(settings)
    names_process = subprocess.Popen(bound.command(names), env=environment) if names else None
    stop = threading.Event()
    threads = [threading.Thread(target=forget_users, args=(settings, stop), daemon=True)]
    threads.append(threading.Thread(target=broker_disk.Synchroniser(settings.data).run, args=(stop,), daemon=True))
    if settings.peers:
        threads.append(threading.Thread(target=keep_replica, args=(settings, stop), daemon=True))
    for thread in threads:
        thread.start()
    metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})
    try:
        return foreign.supervise(Watched(settings, metrics), LOOK, [f"{BIN}/rabbitmq-server"], environment)
    finally:
        stop.set()
        if names_process is not None:
            names_process.send_signal(signal.SIGTERM)
            names_process.wait()


def main(argv: list[str] | None = None) -> int:
    """Run the role's program; `--peers FILE` lists the brokers of a cluster. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    peers = None
    if "--peers" in arguments[:-1]:
        place = arguments.index("--peers")
        peers = Path(arguments[place + 1])
        del arguments[place : place + 2]
    return configuration.program(
        "broker", lambda config: run(config, peers), arguments, example=EXAMPLE, options=OPTIONS
    )


if __name__ == "__main__":
    sys.exit(main())
