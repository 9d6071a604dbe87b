"""The commands of the console script, one module each.

A module has `HELP`, `arguments(parser)` and `run(arguments) -> int`.
"""

from __future__ import annotations

from stationmaster.commands import check, explain, importer, roles, schema, serve, token

COMMANDS = {
    "check": check,
    "roles": roles,
    "schema": schema,
    "explain": explain,
    "import": importer,
    "serve": serve,
    "token": token,
}
