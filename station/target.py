"""The station role `target`: a place to upload to.

An SFTP server for one account, run without any privilege: the account is no
user of the system, the password comes from a credential, and nothing but the
store's folder can be reached. Run it by hand as `python3 -m station.target --config FILE`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import shutil
import signal
import sys
import time
from pathlib import Path

import asyncssh

from station import config as configuration
from station import files, notify, utc
from station.config import Config, ConfigError
from station.metrics import Metrics
from station.store import Store, adapt_asyncssh, answer
from station.words import amount

log = logging.getLogger(__name__)
STORE = "files"
"""Folder of the store below the instance's data folder."""
LOGIN_TIMEOUT = 20
KEEPALIVE = 10
"""Seconds; a client that answers none of three is gone, and what it was writing is closed as unfinished."""
REPORT = 5.0


class Account(asyncssh.SSHServer):
    """Who may log in: one user, by password or by one of the keys."""

    def __init__(self, user: str, password: str | None, keys: asyncssh.SSHAuthorizedKeys | None) -> None:
        self._user = user
        self._password = password
        self._keys = keys
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        if self._keys and self._connection and username == self._user:
            self._connection.set_authorized_keys(self._keys)
        return True

    def password_auth_supported(self) -> bool:
        return self._password is not None

    async def validate_password(self, username: str, password: str) -> bool:
        right = hmac.compare_digest(username.encode(), self._user.encode())
        if hmac.compare_digest(password.encode(), (self._password or "").encode()) and right and self._password:
            return True
        log.warning("a login as %r was refused", username[:64])
        await asyncio.sleep(1)  # guessing shall take its time
        return False


class Target:
    """The server and what it tells of itself."""

    def __init__(self, config: Config) -> None:
        """Check the configuration. Raises ConfigError, OSError."""
        self._config = config
        self._port = config.option("port", int)
        self._host = config.option("listen", str, "0.0.0.0")  # noqa: S104 - a server for the other stations
        self._user = config.option("user", str)
        self._password = config.options.get("password")
        keys = config.option("authorized_keys", list, [])
        if not self._password and not keys:
            raise ConfigError("options.password", "is missing, and authorized_keys as well: nobody could log in")
        self._key = _host_key(config)
        try:
            self._keys = asyncssh.import_authorized_keys("".join(f"{key}\n" for key in keys)) if keys else None
        except ValueError as error:
            raise ConfigError("options.authorized_keys", str(error)) from error
        folder = config.options.get("folder")
        self.root = (Path(folder) if folder else config.paths.data / STORE).resolve()
        files.make_folder(self.root, durable=True)
        self._metrics = Metrics(config.paths.metrics, {"role": config.role, "instance": config.instance})
        self._received = 0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises OSError when the port is taken."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        server = await asyncssh.create_server(
            lambda: Account(self._user, self._password, self._keys),
            self._host,
            self._port,
            reuse_address=True,  # Debian's asyncssh says no unless told, and a restart then fails for a minute
            server_host_keys=[self._key],
            sftp_factory=lambda channel: Store(channel, self.root, self._count),
            process_factory=self._process,
            allow_scp=False,
            encoding=None,
            agent_forwarding=False,
            x11_forwarding=False,
            login_timeout=LOGIN_TIMEOUT,
            keepalive_interval=KEEPALIVE,
            server_version="Stationmaster",
        )
        notify.ready("ready for uploads")
        async with server:
            while not stop.is_set():
                notify.watchdog()
                self._report()
                try:
                    await asyncio.wait_for(stop.wait(), REPORT)
                except TimeoutError:
                    continue
        notify.stopping()

    def _count(self, size: int) -> None:
        self._received += size

    async def _process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        status, text = await answer(process.command, self.root) if process.command else (1, "no shell here\n")
        (process.stderr if status else process.stdout).write(text.encode())
        process.exit(status)

    def _report(self) -> None:
        disk = shutil.disk_usage(self.root)
        text = f"ready for uploads: {amount(self._received)} received, {amount(disk.free)} free"
        notify.status(text)
        put = self._metrics.set
        put("stationmaster_target_received_bytes_total", self._received, "Bytes received.", kind="counter")
        put("stationmaster_target_free_bytes", disk.free, "Bytes free on the store's disk.")
        self._metrics.write()
        status = {"state": "running", "text": text, "received": self._received, "free": disk.free, "total": disk.total}
        try:
            files.write_json(self._config.paths.data / "status.json", {**status, "updated": utc.to_text(time.time())})
        except OSError as error:
            log.warning("cannot write status.json: %s", error.strerror)


def _host_key(config: Config) -> asyncssh.SSHKey:
    """Return the private host key; it must belong to the public one that uploaders are told."""
    try:
        key = asyncssh.import_private_key(config.option("host_private_key", str))
    except asyncssh.KeyImportError as error:
        raise ConfigError("options.host_private_key", f"is no private key without a passphrase: {error}") from error
    stated = config.option("host_key", str).split()[:2]
    actual = key.export_public_key("openssh").decode().split()[:2]
    if stated != actual:
        raise ConfigError(
            "options.host_key",
            f"is {' '.join(stated)!r}, but host_private_key belongs to {' '.join(actual)!r}; write that one",
        )
    return key


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status."""
    # Its lines are of single connections and may hold file names; what matters is said here.
    asyncssh.set_log_level(logging.WARNING)
    adapt_asyncssh()
    try:
        asyncio.run(Target(config).run())
    except OSError as error:
        log.error("cannot serve: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(configuration.program("target", run))
