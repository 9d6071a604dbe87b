"""The station role `visuals`; run it by hand as `python3 -m station.visuals --config FILE`.

`--example` prints a configuration, `--hash-password` reads a password and prints its hash, `--test` listens on
127.0.0.1:61424 as the original does. Without any of these the original's environment variables are the configuration.
"""

from __future__ import annotations

import getpass
import logging
import sys
from pathlib import Path

from station import config as configuration
from station import missing
from station.config import Config, ConfigError
from station.visuals import passwords, settings

try:
    from station.visuals.instance import run
except ModuleNotFoundError as error:
    sys.exit(f"station.visuals: {missing.told(error)}")

OTHERWISE = (
    "Also: --hash-password reads a password and prints its hash; --test listens where the original does for its tests; "
    "without any argument the original's environment variables (STOMP_PORT, RABBITMQ_HOST, …) are the configuration."
)


def hash_password() -> int:
    """Read a password, from the terminal without showing it or from stdin, and print its hash."""
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        print("needed is a password on stdin", file=sys.stderr)
        return 1
    print(passwords.hashed(password))
    return 0


def without_file(config: Config) -> int:
    """Run from options that are in no file; returns the exit status."""
    try:
        for folder in (config.paths.data, config.paths.run):
            folder.mkdir(parents=True, exist_ok=True)
        return run(config)
    except ConfigError as error:
        logging.getLogger(__name__).error("configuration: %s", error)
        return configuration.EX_CONFIG


def main(argv: list[str]) -> int:
    """Run the program; returns the exit status."""
    if argv == ["--hash-password"]:
        return hash_password()
    if argv == ["--test"]:
        configuration.set_up_log()
        address = {"stomp_address": settings.TEST_ADDRESS, "stomp_port": settings.TEST_PORT}
        return without_file(settings.by_hand(Path.cwd(), {**settings.EXAMPLE, **address}))
    if not argv and (config := settings.from_environment(Path.cwd())) is not None:
        configuration.set_up_log()
        return without_file(config)
    return configuration.program(
        "visuals", run, argv, example=settings.EXAMPLE, options=settings.OPTIONS, epilog=OTHERWISE
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
