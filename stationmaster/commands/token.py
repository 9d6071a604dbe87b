"""`stationmaster token`: make, list and revoke the manager's tokens, on the manager itself."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stationmaster.commands.common import default_data

HELP = "make, list and revoke tokens for the manager"
SCOPES = ["read", "operate", "admin", "enrol", "board", "visuals"]
"""As in `api.access`, whose import takes too long for every command's `--help`."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="make a token and print it, once")
    create.add_argument("--scope", required=True, choices=SCOPES)
    create.add_argument("--room", help="the only room that it may change or enrol stations of")
    create.add_argument("--days", type=float, help="days until it expires (default: never)")
    create.add_argument("--note", default="", help="what it is for")
    listing = verbs.add_parser("list", help="list the tokens, without their secrets")
    revoke = verbs.add_parser("revoke", help="revoke a token")
    revoke.add_argument("token", help="its id, as listed")
    for verb in (create, listing, revoke):
        verb.add_argument("--data", type=Path, default=default_data(), help="the manager's data folder (default: data)")


def run(arguments: argparse.Namespace) -> int:
    """Work on the manager's database, whether or not the manager runs."""
    from api import access
    from api.clock import told
    from api.database import Database
    from api.settings import Settings
    from api.tables import Token

    settings = Settings(data=arguments.data)
    settings.make_data()
    database = Database(settings.url)
    database.migrate()
    try:
        if arguments.verb == "create":
            if arguments.days is not None and arguments.days <= 0:
                print("stationmaster: --days must be more than 0", file=sys.stderr)
                return 2
            identity, secret = access.create_token(
                database, arguments.scope, arguments.room, arguments.days, arguments.note
            )
            print(f"token {identity}: keep it now, it is not stored", file=sys.stderr)
            print(secret)
        elif arguments.verb == "list":
            with database.reading() as session:
                for token in session.query(Token).order_by(Token.created_at):
                    state = "revoked" if token.revoked_at else f"until {told(token.expires_at) or 'for ever'}"
                    print(f"{token.id}  {token.scope:8}{token.room or 'all rooms':16}{state}  {token.note}")
        elif not access.revoke_token(database, arguments.token):
            print(f"stationmaster: no valid token {arguments.token!r}; see 'token list'", file=sys.stderr)
            return 1
        return 0
    finally:
        database.close()
