"""The manager as its clients see it: where it is, who asks, and what its refusals mean for a script.

ClientError
├── Refused       the manager answered with a problem document
├── Unreachable   there was no answer, or none that can be trusted
└── WrongUse      it was not even asked
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import ssl
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stationmaster.plain import plain

MANAGER = "http://127.0.0.1:8443"
"""Where `stationmaster serve` listens unless it is told otherwise."""
SECONDS = 30.0
"""Longest wait for an answer, beyond what a long poll asks for."""
PATIENCE = 60.0
"""Seconds without the manager before something that is followed is given up: a restart takes five."""
PAUSE = 1.0
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

OK, RUN_FAILED, WRONG_USE, NOT_ALLOWED, NO_MANAGER, UNPROVEN, NO_STATION, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130
EXITS = """\
exit codes:
  0    done; for a run: every station is as it should be
  1    the run failed, timed out, ended incomplete or was canceled
  2    wrong use: arguments, or names and requests that the manager does not accept
  3    not allowed: no valid token, or one without the scope or for another room
  4    the manager cannot be reached, cannot be trusted, or cannot work now
  5    how a run ended is not proven: lost, or canceled without proof from every station
  6    stations could not be reached
  130  interrupted; a run goes on"""


class ClientError(Exception):
    """A command cannot do what it was asked for."""

    code = WRONG_USE

    def lines(self) -> list[str]:
        """Return what to tell a person."""
        return [str(self)]


class WrongUse(ClientError):
    """The manager was not asked."""


class Unreachable(ClientError):
    """The manager did not answer, or somebody else did."""

    code = NO_MANAGER


class Refused(ClientError):
    """The manager's problem document.

    Args:
        status: of HTTP.
        document: the body; anything but a problem document means that something else than a manager answers.
    """

    def __init__(self, status: int, document: Any) -> None:
        self.status = status
        self.document: dict[str, Any] = document if isinstance(document, dict) else {}
        super().__init__(str(self.document.get("detail") or f"The manager answered with status {status}."))

    @property
    def kind(self) -> str:
        """The stable name of the kind of problem."""
        return str(self.document.get("code", ""))

    @property
    def code(self) -> int:  # type: ignore[override]
        """The exit code for it."""
        if self.status in (401, 403):
            return NOT_ALLOWED
        return NO_MANAGER if self.status == 429 or self.status >= 500 or not self.document else WRONG_USE

    def lines(self) -> list[str]:
        """Return detail, what belongs to it, and what to do."""
        found = [str(self)]
        for one in self.document.get("machines") or ():
            found.append("  " + ", ".join(f"{name} {value}" for name, value in one.items()))
        for one in self.document.get("findings") or ():
            place = ":".join(str(one[name]) for name in ("file", "line") if one.get(name) is not None)
            message = str(one.get("message", ""))
            if message not in found[0]:
                found.append(f"  {place}{': ' if place else ''}{message}")
        if self.document.get("action"):
            found.append(str(self.document["action"]))
        return found


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that all clients' commands have."""
    parser.allow_abbrev = False  # `--token SECRET` must not be read as `--token-file SECRET`
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"The token comes from STATIONMASTER_TOKEN or --token-file, never from an argument.\n\n{EXITS}"
    parser.add_argument(
        "--manager",
        metavar="URL",
        default=os.environ.get("STATIONMASTER_MANAGER") or MANAGER,
        help=f"where the manager is (default: STATIONMASTER_MANAGER, or {MANAGER})",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file whose first line is the token")
    parser.add_argument(
        "--ca",
        metavar="FILE",
        default=os.environ.get("STATIONMASTER_CA"),
        help="PEM file with the certificate that the manager's is signed by (default: STATIONMASTER_CA)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def token_of(arguments: argparse.Namespace) -> str:
    """Return the token that the arguments or the environment name.

    Raises:
        WrongUse: there is none, or it cannot be one.
    """
    if arguments.token_file is not None:
        try:
            token = str(arguments.token_file.read_text("ascii")).partition("\n")[0].strip()
        except (OSError, UnicodeError) as error:
            raise WrongUse(f"The token cannot be read: {error}.") from error
    else:
        token = os.environ.get("STATIONMASTER_TOKEN", "").strip()
    if not token:
        raise WrongUse("There is no token: set STATIONMASTER_TOKEN, or name a file by --token-file.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise WrongUse("What should be the token is none: it has characters that no token has.")
    return token


class Client:
    """Requests to one manager.

    Args:
        url: where it is, `https://HOST:PORT`.
        token: who asks.
        ca: PEM file to trust instead of the system's certificates.

    Raises:
        WrongUse: the address or the file is not usable.
    """

    def __init__(self, url: str, token: str, ca: str | None = None) -> None:
        import httpx2

        self.url = url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise WrongUse(f"{url!r} is not where a manager is: write https://HOST:PORT.")
        try:
            # to read all authorities of the machine takes longer than most answers: only where one may be needed
            read = ca or parts.scheme == "https"
            context = ssl.create_default_context(cafile=ca) if read else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        except (OSError, ssl.SSLError) as error:
            raise WrongUse(f"The certificate {ca!r} cannot be used: {error}.") from error
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            print(f"stationmaster: the token goes to {parts.hostname} unencrypted", file=sys.stderr)
        self._broken = (httpx2.TransportError, httpx2.DecodingError)
        self._http = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, verify=context, timeout=SECONDS
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Read something; members of the query that are None are left out.

        Raises:
            Refused, Unreachable: as the class says.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", path, params=given, timeout=SECONDS + float(given.get("wait", 0)))

    def post(self, path: str, body: dict[str, Any] | None = None, *, repeatable: bool = False) -> Any:
        """Ask for a change.

        Args:
            path: of the operation.
            body: as JSON.
            repeatable: whether the operation takes a key by which a repeated request is known, so that it is
                asked again when the connection breaks.
        """
        if not repeatable:
            return self._ask("POST", path, json=body)
        key = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            return self._ask("POST", path, json=body, headers=key)
        except Unreachable:
            time.sleep(PAUSE)
            return self._ask("POST", path, json=body, headers=key)

    def get_patiently(self, path: str, **query: Any) -> Any:
        """Read something that is being followed: the manager may be away for a while, as at its restart."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.get(path, **query)
            except (Refused, Unreachable) as error:
                if error.code != NO_MANAGER or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(method, path, **more)
        except self._broken as error:
            raise Unreachable(self._why(error)) from error
        try:
            document = answer.json()
        except ValueError:
            document = None
        if answer.status_code >= 300:
            raise Refused(answer.status_code, document)
        if document is None:
            raise Unreachable(f"What answers at {self.url} is no manager.")
        return document

    def _why(self, error: Exception) -> str:
        reason = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return f"The manager at {self.url} has no certificate that is trusted here; --ca names its own: {reason}."
        return f"The manager at {self.url} cannot be reached: {reason}."


def checked_name(name: str) -> str:
    """Return a name that can be a step of a path, or of a target: that of a station, a room, a machine or a run.

    Raises:
        WrongUse: nothing has such a name.
    """
    if not NAME.fullmatch(name):
        raise WrongUse(f"{name!r} is no name of anything: letters, digits and . _ - are, patterns are not.")
    return name


def tells(work: Callable[[argparse.Namespace, Client], int]) -> Callable[[argparse.Namespace], int]:
    """Give a command its client; make it tell its errors to people, or as JSON, and return the exit code for them."""

    @functools.wraps(work)
    def run(arguments: argparse.Namespace) -> int:
        try:
            with Client(arguments.manager, token_of(arguments), arguments.ca) as client:
                return work(arguments, client)
        except ClientError as error:
            if arguments.json:
                document = error.document if isinstance(error, Refused) else {}
                print_json({"error": {"detail": str(error), **document}, "exit": error.code})
            for number, line in enumerate(error.lines()):
                print(f"{'' if number else 'stationmaster: '}{plain(line)}", file=sys.stderr)
            return error.code
        except KeyboardInterrupt:
            return INTERRUPTED

    return run


def print_json(document: Any) -> None:
    """Print a document as JSON whose characters are all printable ASCII."""
    # json leaves DEL as it is; within a document it can only be in a text
    print(json.dumps(document, indent=2).replace("\x7f", "\\u007f"))
