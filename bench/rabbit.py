"""Debian's RabbitMQ with its STOMP plugin, as a process in a temporary folder: the rival of `visuals`, or its bus."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench.programs import Missing, free_port, listens, many_files

HOME = Path("/usr/lib/rabbitmq")
UNPRIVILEGED = 65534
"""User and group `nobody`, whom the broker runs as when the bench is started by root."""
START = 60.0
"""Seconds within which it must listen."""


class Rabbit:
    """A broker of one node with default settings but for its listeners, and a name service of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it in an empty folder.

        Args:
            folder: all that it writes comes there; of the user that it runs as.

        Raises:
            Missing: it is not installed, or did not listen within START.
        """
        if not (HOME / "bin" / "rabbitmq-server").exists():
            raise Missing("RabbitMQ is missing: apt-get install rabbitmq-server")
        self.port, self.stomp_port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled_plugins").write_text("[rabbitmq_stomp].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nstomp.listeners.tcp.1 = 127.0.0.1:{self.stomp_port}\n"
        )
        names, environment = free_port(), {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        environment |= {
            "HOME": str(folder), "ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bench{self.port}@localhost", "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"), "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        }  # fmt: skip
        user = UNPRIVILEGED if os.getuid() == 0 else None
        if user is not None:
            for one in (folder, *folder.iterdir()):
                os.chown(one, user, user)

        def start(command: list[str]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, user=user, group=user, extra_groups=None if user is None else [],
                start_new_session=True, preexec_fn=many_files,
            )  # fmt: skip

        self._names = start(["epmd", "-port", str(names), "-address", "127.0.0.1"])
        self._server = start([str(HOME / "bin" / "rabbitmq-server")])
        deadline = time.monotonic() + START
        while not (listens(self.port) and listens(self.stomp_port)):
            if self._server.poll() is not None or time.monotonic() > deadline:
                said = [path.read_text("utf-8", "replace") for path in folder.glob("log/*.log")]
                self.end()
                raise Missing(f"RabbitMQ does not start: {''.join(said)[-2000:]}")
            time.sleep(0.2)

    @property
    def pid(self) -> int:
        """The process whose tree is the broker."""
        return self._server.pid

    def end(self) -> None:
        """End it and its name service; nothing of it is kept."""
        for process in (self._server, self._names):
            if process.poll() is None:
                os.killpg(process.pid, 9)
            process.wait(20)
