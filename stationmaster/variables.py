"""The closed lists of `station_`, `room_` and `event_` variables, as data.

One row says what a variable means and what it may hold; from it come the
rule about unknown names, the check of the value and the schema for editors.
"""

from __future__ import annotations

from typing import Any

from stationmaster.targets import SCHEMA as TARGET

ROLE_DEFAULTS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": "object"},
}

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_RATE: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9]+(\\.[0-9]+)?[kKMG]?$",
    "description": "bytes per second, with rclone's suffixes: 5M is 5 MiB/s",
}


VARIABLES: dict[str, dict[str, dict[str, Any]]] = {
    "station": {
        "station_roles": {
            "type": "object",
            "description": "Role, then instance id, then options. `{}` is a station that wants nothing.",
        },
        "station_blocked_roles": {
            "type": "array",
            "items": _TEXT,
            "default": [],
            "description": "Roles that this station must refuse.",
        },
        "station_mac": {
            "type": "string",
            "description": "MAC address of its wired interface, in quotes",
        },
        "station_number": {
            "type": "integer",
            "minimum": 1,
            "description": "Its place in the room's addresses; by default its position in the room's file, from 1.",
        },
        "station_spare_of": {
            **_TEXT,
            "description": "The station that this spare machine can replace.",
        },
    },
    "room": {
        "room_title": {**_TEXT, "description": "The room's name as people say it."},
        "room_number": {
            "type": "integer",
            "minimum": 1,
            "description": "The room's number, from which its stations' addresses follow.",
        },
        "room_role_defaults": {**ROLE_DEFAULTS, "description": "Role, then options for all its instances in the room."},
    },
    "event": {
        "event_name": {
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9_-]*$",
            "description": "Short name, used in file names.",
        },
        "event_title": {**_TEXT, "description": "The event's name as people say it."},
        "event_role_defaults": {**ROLE_DEFAULTS, "description": "Role, then options for all its instances."},
        "event_targets": {
            "type": "object",
            "additionalProperties": TARGET,
            "description": "Places to upload to, by the name that `target` options use.",
        },
        "event_network": {
            "type": "string",
            "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+/[0-9]+$",
            "default": "10.83.0.0/24",
            "description": "The network from which stations without an `ansible_host` get their address.",
        },
        "event_room_size": {
            "type": "integer",
            "minimum": 4,
            "default": 16,
            "description": "Addresses that each room has in the network.",
        },
        "event_schedule": {
            **_TEXT,
            "description": "The event's schedule, a file in `files/`: pretalx or frab JSON, frab XML, iCalendar.",
        },
        "event_schedule_on_air": {
            "type": "boolean",
            "default": False,
            "description": "Whether the manager sets a room on air while the schedule has a talk in it.",
        },
        "event_manager": {
            **_TEXT,
            "description": "The station of group `services` that the manager runs on; every station has an agent then.",
        },
        "event_timezone": {**_TEXT, "default": "UTC", "description": "Name in the IANA time zone database."},
        "event_manager_url": {
            "type": "string",
            "pattern": "^https?://[^@\\s/?#]+$",
            "description": "Address of a manager elsewhere, or by another name or port, for every station's agent.",
        },
        "event_upload_rate": {**_RATE, "description": "What all uploads of a station together may use."},
    },
}
"""Scope (also the prefix), then variable, then the JSON Schema of its value."""

PREFIXES = tuple(f"{scope}_" for scope in VARIABLES)


def scope_of(variable: str) -> str | None:
    """Return the scope whose prefix a variable's name carries, None for other names."""
    return next((prefix[:-1] for prefix in PREFIXES if variable.startswith(prefix)), None)
