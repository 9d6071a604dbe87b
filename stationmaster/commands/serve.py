"""`stationmaster serve`: the manager from the checkout."""

from __future__ import annotations

import argparse
import gc
import socket
import sys
from pathlib import Path
from types import FrameType

from stationmaster.commands.common import default_data

HELP = "run the manager"
GRACE = 5
"""Seconds that open requests, such as followed logs, get to end when the manager is told to stop."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 8443)")
    parser.add_argument(
        "--data", type=Path, default=default_data(), help="folder for all that it keeps (default: data)"
    )
    parser.add_argument("-i", "--inventory", help="the event's inventory (default: the demo's)")
    parser.add_argument("--branch", help="git branch to follow; -i is then the repository, by its path or its URL")
    parser.add_argument("--certificate", type=Path, help="PEM file with the certificate chain, for TLS")
    parser.add_argument("--key", type=Path, help="PEM file with the certificate's key")
    parser.add_argument("--push", action="store_true", default=None, help="start runs for stations not as wanted")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    import uvicorn
    from pydantic import ValidationError

    from api.app import create_app
    from api.logging import configuration
    from api.settings import Settings

    names = ("host", "port", "data", "inventory", "branch", "certificate", "key", "push")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    try:
        settings = Settings(**given)
        if (settings.certificate is None) != (settings.key is None):
            raise ValueError("TLS needs both a certificate and its key")
        app = create_app(settings)
    except ValidationError as error:
        for one in error.errors():
            print(f"stationmaster: {'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"stationmaster: {error}", file=sys.stderr)
        return 2

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.manager.ending.set()  # uvicorn waits for open streams before it tells the application
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            # what is there now stays: looking through it again and again costs a fifth of each hello
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)

    serving = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        timeout_graceful_shutdown=GRACE,
        server_header=False,
        access_log=False,
        log_config=configuration(),
    )
    Server(serving).run()
    return 0
