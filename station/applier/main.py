"""Where the applier begins: a request on stdin, one line of JSON on stdout."""

from __future__ import annotations

import errno
import os
import sys
import zlib

from station.applier.layout import Layout, Refusal
from station.applier.light import dumps, loads
from station.applier.systemd import Systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

MARK = "stationmaster-result "
"""Begins the line with the result: a login shell or sudo may print others."""


def serve(stream: BinaryIO, engine: str, sources: dict[str, str], root: str = "") -> None:
    """Read a request, do it, print its result.

    The stream holds a line with the request's packed length, the request (JSON, packed),
    and the packed contents that the request indexes. `engine` is the SHA-256 of the
    running engine and `sources` its text if it came along.
    """
    os.umask(0o022)
    request = loads(zlib.decompress(stream.read(int(stream.readline()))).decode())
    packed = stream.read()
    line = MARK + dumps(answer(Layout(root), request, packed, engine, sources)) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()


def answer(
    layout: Layout, request: dict[str, Any], packed: bytes, engine: str, sources: dict[str, str]
) -> dict[str, Any]:
    """Do what a request asks and return its result; a refusal is a result, too."""
    try:
        if os.geteuid() != 0 and not layout.root:
            raise Refusal("NotRoot", "The applier needs root on the station: log in as root, or set ansible_become.")
        return _do(layout, Systemd(layout), request, packed, engine, sources)
    except Refusal as refusal:
        error = {"error": refusal.error, "message": str(refusal), **refusal.details}
        return {"result": "refused", "error": error}
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _fault(fault)
        message = f"The station's disk is full ({fault.filename or 'writing'}). Make room, then apply again."
        return {"result": "refused", "error": {"error": "DiskFull", "message": message}}
    except Exception as fault:  # the caller must learn of it in the one form that it reads
        return _fault(fault)


def _fault(fault: Exception) -> dict[str, Any]:
    import traceback

    message = f"{type(fault).__name__}: {fault}"
    trace = traceback.format_tb(fault.__traceback__)
    return {"result": "failed", "error": {"error": "Fault", "message": message, "trace": trace}}


def _do(
    layout: Layout, systemd: Systemd, request: dict[str, Any], packed: bytes, engine: str, sources: dict[str, str]
) -> dict[str, Any]:
    if request["verb"] == "apply":
        from station.applier.apply import apply
        from station.applier.generation import Blobs

        return apply(layout, systemd, request, Blobs(request["blobs"], packed), lambda: _keep(layout, engine, sources))
    from station.applier import verbs

    if not request["check"] and request["verb"] not in ("status", "remove") and os.path.isdir(layout.home):
        _keep(layout, engine, sources)
    todo = {
        "start": verbs.start,
        "stop": verbs.stop,
        "restart": verbs.restart,
        "rollback": verbs.rollback,
        "remove": verbs.remove,
        "status": verbs.status,
        "on-air": verbs.set_on_air,
    }
    return todo[request["verb"]](layout, systemd, request)


def _keep(layout: Layout, engine: str, sources: dict[str, str]) -> None:
    from station.applier.engine import install

    install(layout, engine, sources)


def converge(root: str = "") -> int:
    """Do what is pending, as the unit of the boot and the one of an apply run it."""
    from station.applier.converge import converge as bring

    os.umask(0o022)
    layout = Layout(root)
    outcome = bring(layout, Systemd(layout))
    print(dumps(outcome))
    return 0
