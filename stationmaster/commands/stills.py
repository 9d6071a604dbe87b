"""`stationmaster stills`: streams of pictures by hand, with the options of the program that they replace."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from station.stills import descriptor as descriptors
from station.stills.descriptor import METHODS, Descriptor, DescriptorError
from stationmaster.commands.common import port
from stationmaster.plain import table

HELP = "serve pictures in a loop to old clients and new ones, without an inventory"
TYPES = ("GIF", "JPG", "JPEG", "BMP", "PNG")
RUNNING = Path("running")
_FLAGS = {name: f"--{name}" for name in ("id", "name", "type", "ips", "port", "method")}
_FLAGS |= {"address": "--addr", "images": "IMAGE", "networks": "--network"}
"""What gives a value on the command line, by the option's name."""


class _Mixed(argparse.ArgumentParser):
    """Takes pictures before, between and after the options, and tells what a misspelt option may have meant."""

    _again = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; ends the program with the action's own usage where something is left over."""
        if self._again:
            return super().parse_known_args(args, namespace)
        self._again = True
        try:
            namespace, left = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._again = False
        if left:
            close = difflib.get_close_matches(left[0], list(self._option_string_actions), n=1)
            self.error(f"unrecognized arguments: {' '.join(left)}{f'; did you mean {close[0]}?' if close else ''}")
        return namespace, left


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Mixed)

    def add(name: str, text: str, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text)
        made.set_defaults(does=does, usage=made.format_usage)
        return made

    serve = add("serve", "serve a stream, and save its descriptor if asked", _serve)
    _describe(serve)
    serve.add_argument("-s", "--no-server", action="store_true", help="do not serve")
    _http(serve)
    _verbose(serve)
    save = add("save", "save a stream's descriptor, and do not serve it", _save)
    _describe(save)
    listed = add("list", "list the streams whose descriptors are in ./running/", _list)
    listed.add_argument("--dir", type=Path, default=RUNNING, metavar="DIR", help="another folder of descriptors")
    listed.add_argument("--json", action="store_true", help="print JSON")
    every = add("all", "serve all streams of a server file and their catalogue in one process", _all)
    every.add_argument("file", type=Path, metavar="SERVER_FILE", help="ServerAddress:, ServerPort: and descriptors")
    every.add_argument("--page-port", type=port, default=0, metavar="PORT", help="HTTP port of the catalogue's page")
    _http(every)
    _verbose(every)


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked; what cannot be used is told on stderr after the usage, with status 1."""
    from station.stills import trace
    from station.stills.alone import AloneError

    trace.use(getattr(arguments, "verbose", 0))
    try:
        return int(arguments.does(arguments))
    except (AloneError, DescriptorError) as error:
        print(f"{arguments.usage()}stationmaster: {error}", file=sys.stderr)
        return 1


def described(arguments: argparse.Namespace) -> Descriptor:
    """Return the descriptor of --flux with what the options say laid over it.

    As in the program that this replaces, 0 and empty say nothing. Raises DescriptorError: the file cannot be used.
    """
    from station.stills.alone import from_here

    made = Descriptor()
    if arguments.flux:
        path = Path(arguments.flux)
        made = from_here(descriptors.read(path), path.parent)
    given: dict[str, Any] = {
        "id": arguments.id,
        "name": arguments.name,
        "type": arguments.type,
        "address": arguments.addr,
        "port": arguments.port,
        "protocol": METHODS.get(arguments.method, ""),
        "ips": arguments.ips,
        "images": tuple(arguments.images),
        "numbered": bool(arguments.id),
    }
    return replace(made, **{key: value for key, value in given.items() if value})


def _describe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="pictures, in place of those of the descriptor")
    add("--flux", metavar="FILE", help="a descriptor to begin with")
    add("--save", metavar="FILE", help="write the descriptor")
    add("--addr", default="", metavar="ADDRESS", help="what clients are told, or the group of mcast_push")
    add("--port", type=port, default=0, help="port of the method")
    add("--ips", type=float, default=0.0, metavar="N", help="pictures per second")
    add("--name", default="", help="one word")
    add("--method", type=str.lower, choices=list(METHODS), default="", help="how old clients get the pictures")
    add("--id", type=int, default=0, help="number in the catalogue")
    add("--type", type=str.upper, choices=TYPES, default="", help="what pictures are converted to")


def _http(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--http-port", type=port, default=0, metavar="PORT", help="serve by HTTP, too (default: not)")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NETWORK",
        help="whom the UDP methods serve, such as 192.0.2.0/24 (default: this machine); for each one of them",
    )


def _verbose(parser: argparse.ArgumentParser) -> None:
    text = "tell what happens: life-cycle, words received, pictures sent (-vvv), received data, sent data"
    parser.add_argument("-v", "--verbose", action="count", default=0, help=text)


def _saved(arguments: argparse.Namespace) -> Descriptor:
    made = described(arguments)
    if arguments.save:
        descriptors.write(Path(arguments.save), made)
    return made


def _save(arguments: argparse.Namespace) -> int:
    if not arguments.save:
        raise DescriptorError("needed is --save FILE, which is where the descriptor goes")
    _saved(arguments)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from station.stills import alone

    made = _saved(arguments)
    if arguments.no_server:
        return 0
    if made.method is None and not arguments.http_port:
        raise DescriptorError(
            f"there is no protocol to serve: needed is --method, one of {', '.join(METHODS)}, or --http-port"
        )
    try:
        return alone.serve([made], _ways(arguments))
    except alone.AloneError as error:
        # there is one stream: what is wrong is what the command line says of it
        told = re.sub(r"^([\w-]+\.)?(\w+):", lambda found: f"{_FLAGS.get(found[2], found[2])}:", str(error))
        raise alone.AloneError(told) from error


def _all(arguments: argparse.Namespace) -> int:
    from station.stills import alone

    return alone.serve_file(arguments.file, _ways(arguments), arguments.page_port)


def _ways(arguments: argparse.Namespace) -> Any:
    from station.stills.alone import Ways

    return Ways(arguments.http_port, tuple(arguments.network) or Ways().networks)


def _list(arguments: argparse.Namespace) -> int:
    from station.catalogues.board import Board
    from station.catalogues.folder import Folder

    if not arguments.dir.is_dir():
        raise DescriptorError(f"{arguments.dir} is no folder: start a stream here, or name another one with --dir")
    rows = [row for row, _ in Folder(arguments.dir, Board()).look()]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    if not rows:
        print(f"stationmaster: no stream runs here, by the descriptors in {arguments.dir}/", file=sys.stderr)
        return 0
    head = ("ID", "NAME", "TYPE", "ADDRESS", "PORT", "PROTOCOL", "IPS")
    print("\n".join(table(head, [(*(getattr(row, key.lower()) for key in head),) for row in rows])))
    return 0
