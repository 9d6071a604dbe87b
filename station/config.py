"""The configuration of one instance: config.json, its secrets and its context.

Every program of `station/` also runs by hand: `python3 -m station.<role> --config FILE`.
Paths that are relative count from the folder of that file.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from station import times

EX_CONFIG = 78
"""sysexits.h: something in the configuration is wrong; a restart alone changes nothing."""
SCHEMA = 1

Value = TypeVar("Value")


class ConfigError(Exception):
    """A configuration that cannot be used: `key` is the dotted path, the text says what is allowed."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


@dataclass(frozen=True, slots=True)
class Source:
    """A `from` of the options, resolved: where another instance's folder is read.

    `url` ends with a slash; `path` is set only when it is on this station. `options` are those that its
    role shares, secrets included, and `address` is then its station's.
    """

    name: str
    role: str
    station: str
    instance: str
    kind: str
    url: str
    path: Path | None
    address: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders and files of the instance: data (served), run (gone at boot), spool, and two files."""

    data: Path
    run: Path
    spool: Path
    metrics: Path
    context: Path


@dataclass(frozen=True, slots=True)
class Budget:
    """The time budget in seconds (DESIGN: time budgets); tests shorten it."""

    media_tick: float = times.MEDIA_TICK
    input_timeout: float = times.INPUT_TIMEOUT
    stall_limit: float = times.STALL_LIMIT
    watchdog: float = times.WATCHDOG
    stop_timeout: float = times.STOP_TIMEOUT


@dataclass(frozen=True, slots=True)
class Config:
    """All that an instance was told, secrets merged in."""

    event: str
    room: str | None
    station: str
    address: str
    role: str
    instance: str
    options: dict[str, Any]
    sources: dict[str, Source]
    targets: dict[str, dict[str, Any]]
    paths: Paths
    budget: Budget = field(default_factory=Budget)

    def option(self, key: str, kind: type[Value], default: Value | None = None) -> Value:
        """The option at a dotted path, checked for its type.

        An int passes for a float; a bool passes for neither. Raises ConfigError
        if it is missing (and there is no default) or of another type.
        """
        return typed(self.options, key, kind, default, prefix="options.")

    def context(self) -> dict[str, Any]:
        """What may change without a restart (titles, receipt URLs); read again at each call.

        An absent or unreadable file is an empty context: nothing that records depends on it.
        """
        try:
            value = json.loads(self.paths.context.read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


_NAMED = ("schema", "event", "room", "station", "address", "sources", "targets", "paths", "budget")


def typed(
    tree: Mapping[str, Any], key: str, kind: type[Value], default: Value | None = None, *, prefix: str = ""
) -> Value:
    """The value at a dotted path of a JSON object; see `Config.option`."""
    value: Any = tree
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    if value is None:
        if default is not None:
            return default
        raise ConfigError(prefix + key, f"is missing; needed is a value of type {kind.__name__}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(prefix + key, f"is {json.dumps(value)}; needed is a value of type {kind.__name__}")
    return value


def merge(below: Any, above: Any) -> Any:
    """Lay one JSON value over another: objects merge deeply, anything else replaces."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: merge(below.get(key), value) for key, value in above.items()}}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(str(path), f"is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(str(path), "must hold a JSON object")
    return value


def _secrets() -> dict[str, Any]:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / "secrets.json" if folder else None
    return _json(path) if path and path.exists() else {}


def _source(base: Path, name: str, value: Any) -> Source:
    key = f"sources.{name}"
    if not isinstance(value, dict):
        raise ConfigError(key, "must be an object with role, station, instance, kind, url and path")
    station, _, instance = name.partition("/")
    path = value.get("path")
    return Source(
        name=name,
        role=typed(value, "role", str, "", prefix=key + "."),
        station=typed(value, "station", str, station, prefix=key + "."),
        instance=typed(value, "instance", str, instance, prefix=key + "."),
        kind=typed(value, "kind", str, "media", prefix=key + "."),
        url=typed(value, "url", str, "-", prefix=key + ".").removesuffix("/").removesuffix("-") + "/",
        path=base / path if path else None,
        address=typed(value, "address", str, "", prefix=key + "."),
        options=typed(value, "options", dict, {}, prefix=key + "."),
    )


def check_known(
    options: Collection[str], known: Collection[str], *, prefix: str = "", also: Collection[str] = ()
) -> None:
    """Raise ConfigError for a misspelt option; in an inventory the role's schema does this.

    Args:
        options: the keys that were given.
        known: those that there are; none allows any.
        prefix: what stands before a key in the error, such as `options.streams.a.`.
        also: what else may have been meant.
    """
    for key in options:
        if known and key not in known:
            close = difflib.get_close_matches(key, [*known, *also], n=1)
            meant = f"; did you mean {close[0]}? Known" if close else "; known"
            raise ConfigError(prefix + key, f"there is no such option{meant} are {', '.join(sorted(known))}")


def load(path: Path | str, role: str = "", known: Collection[str] = ()) -> Config:
    """Read a configuration file and, under systemd, the credential `secrets.json`.

    With `role` a file for use by hand may leave `role`, `instance` and `options` out: what is
    no key of its own is then an option, one of those `known`, the data folder is named after the role, and
    the station is where it listens.

    Raises ConfigError naming the key.
    """
    file = Path(path).absolute()
    base = file.parent
    tree = merge(_json(file), _secrets())
    if role and not ({"role", "instance", "options"} & set(tree)):
        named = {key: tree[key] for key in _NAMED if key in tree}
        options = {key: value for key, value in tree.items() if key not in _NAMED}
        check_known(options, known, also=_NAMED)
        here = {"paths": {"data": f"{role}-data", "run": f"{role}-data/run"}, **_listening(options)}
        tree = merge(here, {**named, "role": role, "instance": "main", "options": options})
    if tree.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError("schema", f"is {tree['schema']!r}; this program knows {SCHEMA}")
    folders: dict[str, str] = {"data": "data", "run": "run", "spool": "spool", "context": "context.json"}
    folders |= typed(tree, "paths", dict, {})
    folders.setdefault("metrics", str(Path(folders["run"]) / "metrics.prom"))
    unknown = set(folders) - set(Paths.__slots__)
    if unknown:
        raise ConfigError(f"paths.{min(unknown)}", f"is unknown; known are {', '.join(Paths.__slots__)}")
    budget = {key: typed(tree, f"budget.{key}", float, getattr(Budget(), key)) for key in Budget.__slots__}
    return Config(
        event=typed(tree, "event", str, "event"),
        room=tree.get("room"),
        station=typed(tree, "station", str, os.uname().nodename),
        address=typed(tree, "address", str, "127.0.0.1"),
        role=typed(tree, "role", str),
        instance=typed(tree, "instance", str),
        options=typed(tree, "options", dict, {}),
        sources={name: _source(base, name, value) for name, value in typed(tree, "sources", dict, {}).items()},
        targets=typed(tree, "targets", dict, {}),
        paths=Paths(**{key: base / value for key, value in folders.items()}),
        budget=Budget(**budget),
    )


def _listening(options: dict[str, Any]) -> dict[str, str]:
    listen = options.get("listen_address")
    if not isinstance(listen, str):
        return {}
    try:
        return {} if ip_address(listen).is_unspecified else {"address": listen}
    except ValueError:
        return {}  # the program that takes the option says what is wrong with it


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder {folder} cannot be made: {error.strerror}; make it writable, or name others in `paths`"
        raise ConfigError("paths", what) from error


class _JournalFormat(logging.Formatter):
    """Lines that begin with the priority that journald reads (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        level = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


def set_up_log() -> None:
    """Log to stderr: with priorities for the journal, with the time of day for a person."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormat("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def program(
    role: str,
    run: Callable[[Config], int],
    argv: list[str] | None = None,
    *,
    example: Mapping[str, Any] | None = None,
    options: Collection[str] = (),
    epilog: str = "",
) -> int:
    """The main function of a role's program: `--config FILE`, then `run(config)`.

    With an `example` also `--example`, which prints it: a configuration that works alone on loopback. A file for use
    by hand may then hold these `options` without further ado. `epilog` tells the other ways to run it.

    Returns the exit status: EX_CONFIG for a configuration that cannot be used, with the key on stderr.
    """
    parser = argparse.ArgumentParser(prog=f"station.{role}", description=f"The station role {role}.", epilog=epilog)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--config", type=Path, help="config.json of the instance")
    if example is not None:
        choice.add_argument("--example", action="store_true", help="print a configuration that works alone on loopback")
    arguments = parser.parse_args(argv)
    if example is not None and arguments.example:
        print(json.dumps(example, indent=2, ensure_ascii=False))
        return 0
    set_up_log()
    try:
        config = load(arguments.config, "" if example is None else role, options)
        if config.role != role:
            raise ConfigError("role", f"is {config.role!r}; this program is {role!r}")
        for folder in (config.paths.data, config.paths.run, config.paths.metrics.parent):
            _make(folder)
        return run(config)
    except ConfigError as error:
        logging.getLogger(__name__).error("configuration %s: %s", arguments.config, error)
        return EX_CONFIG
