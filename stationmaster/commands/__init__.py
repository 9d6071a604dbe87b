"""The commands of the console script, one module each.

A module has `HELP`, `arguments(parser)` and `run(arguments) -> int`.
"""

from __future__ import annotations

from stationmaster.commands import (
    accept,
    apply,
    catalogue,
    check,
    explain,
    importer,
    logs,
    roles,
    runs,
    schema,
    serve,
    status,
    stills,
    token,
)

COMMANDS = {
    "check": check,
    "roles": roles,
    "schema": schema,
    "explain": explain,
    "import": importer,
    "serve": serve,
    "token": token,
    "status": status,
    "apply": apply,
    "runs": runs,
    "logs": logs,
    "accept": accept,
    "stills": stills,
    "catalogue": catalogue,
}
