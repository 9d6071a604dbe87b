"""The few helpers on the way to "nothing to change", without slow imports.

Nearly every apply changes nothing, and then the start of the interpreter is what it
costs. On a small station `json` (through `re`), `subprocess`, `hashlib`, `typing` and
`pathlib` take 5 to 15 ms each to import, as much as the interpreter itself. The C
parts that they wrap load in a fraction of a millisecond.
"""

from __future__ import annotations

import os

try:
    from _json import encode_basestring_ascii, make_scanner
    from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]  # private, unknown to type checkers
except ImportError:  # another Python than Debian's 3.11: slower, just as right
    from hashlib import sha256
    from json.encoder import encode_basestring_ascii
    from json.scanner import make_scanner  # type: ignore[attr-defined,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Context:
    """What the JSON scanner asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner insists on an attribute


_scan = make_scanner(_Context)  # type: ignore[arg-type]  # duck-typed: it reads attributes


def loads(text: str) -> Any:
    """Return the value of a JSON text; ValueError for anything else."""
    text = text.strip()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError(f"not JSON beyond character {end}")
    return value


def dumps(value: Any) -> str:
    """Return JSON with sorted keys on one line: the same text for the same value."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        text: str = encode_basestring_ascii(value)
        return text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumps(key)}: {dumps(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(dumps(item) for item in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    text: str = sha256(data).hexdigest()
    return text


def read(path: str) -> bytes:
    """Return a file's content; OSError as `open` raises it."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def read_json(path: str) -> Any:
    """Return the value of a JSON file, or None if there is none; ValueError if it is damaged."""
    try:
        return loads(read(path).decode())
    except FileNotFoundError:
        return None


def output(command: list[str]) -> str:
    """Run a command and return what it writes to stdout; its stderr and status are ignored."""
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    actions = [
        (os.POSIX_SPAWN_DUP2, null, 0),
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_DUP2, null, 2),
    ]
    try:
        child = os.posix_spawn(command[0], command, {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"}, file_actions=actions)
    except OSError:
        os.close(reader)
        return ""
    finally:
        os.close(writer)
        os.close(null)
    with open(reader, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text.decode(errors="replace")
