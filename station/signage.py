"""The station role `signage`: what is on now and next, pushed to the screens at the doors and to radios.

Run it by hand as `python3 -m station.signage --config FILE`; `--example` prints such a file, for an instance of
visuals that runs its own example. The talks are in the file that `paths.context` names, which is read again when it
changes; `stationmaster.role_context` tells its shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from station import config as configuration
from station import notify
from station.config import Config
from station.signage_pictures import FOLDER
from station.signage_service import Signage

log = logging.getLogger(__name__)
OPTIONS = (
    "to", "rooms", "domain", "slides", "font", "picture_base", "http_port", "manager", "manager_token",
    "certificate",
)  # fmt: skip
"""Those of role.yml: a file for use by hand holds them as its own keys."""
EXAMPLE: dict[str, Any] = {
    "to": ["here/visuals"],
    "rooms": ["hall_a"],
    "domain": "demo",
    "http_port": 8063,
    "sources": {
        "here/visuals": {
            "kind": "visuals",
            "role": "visuals",
            "address": "127.0.0.1",
            "url": "http://127.0.0.1:8061/",
            "options": {"stomp_port": 61613, "http_port": 8061, "token": "example-token", "brokers": []},
        }
    },
    "paths": {"context": "signage-context.json"},
}


async def serve(folder: Path, address: str, port: int) -> None:
    """Serve the pictures, for use by hand where no web server does, until cancelled."""
    from aiohttp import web

    async def headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["Access-Control-Allow-Origin"] = "*"

    app = web.Application()
    app.on_response_prepare.append(headers)
    app.router.add_static(f"/{FOLDER}", folder / FOLDER)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _run(config: Config) -> None:
    # what speaks over the network is slow to import, and --example needs none of it
    from station.manager_link import open_link
    from station.visuals.reach import open_bus, shared_token

    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None  # noqa: S101 - a coroutine of asyncio.run is a task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, this.cancel)
    told = config.option
    token = config.options.get("manager_token") or shared_token(config, told("to", list))
    link = open_link(told("manager", str, ""), token, config.options.get("certificate"))
    bus = open_bus(config, told("to", list))
    signage = Signage(config, bus, link)
    port = told("http_port", int, 0)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(signage.run())
            if port:
                group.create_task(serve(config.paths.data, config.address, port))
    finally:
        if link is not None:
            await link.close()
        await bus.close()


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status. Raises ConfigError."""
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(_run(config))
    except* OSError as group:
        # the disk, or a port: nothing that waiting within this process would mend
        log.error("cannot go on: %s", _first(group))
        failed = True
    else:
        failed = False
    notify.stopping()
    return int(failed)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(configuration.program("signage", run, example=EXAMPLE, options=OPTIONS))
