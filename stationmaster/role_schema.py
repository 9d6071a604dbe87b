"""The JSON Schema of a role.yml: what a station role may say of itself."""

from __future__ import annotations

from typing import Any

KINDS = ("media", "products", "receipts", "storage", "journals", "broker", "visuals", "stills")
"""What an instance can give to others that name it as `station/instance`."""
CONTEXT = ("talks", "url", "stills")
"""What a role may have in its context.json beyond what all have: its rooms' talks, the URL of its own folder, and the
event's servers of stills."""

_STRINGS = {"type": "array", "items": {"type": "string"}}
_UNIT_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["command"],
    "properties": {
        "command": {**_STRINGS, "minItems": 1},
        "name": {"type": "string", "pattern": "^[a-z0-9]+$"},
        "type": {"enum": ["notify", "exec", "oneshot"]},
        "live": {"type": ["boolean", "string"]},
        "watchdog": {"type": "boolean"},
        "user": {"type": "string"},
        "groups": _STRINGS,
        "devices": _STRINGS,
        "network": {"type": "boolean"},
        "reads": _STRINGS,
        "writes": _STRINGS,
        "capabilities": _STRINGS,
        "memory_max": {"type": "string", "pattern": "^([0-9]+[KMGT]?|[0-9]+%|infinity)$"},
        "cpu_weight": {"type": "integer", "minimum": 1, "maximum": 10000},
        "io_weight": {"type": "integer", "minimum": 1, "maximum": 10000},
        "tasks_max": {"type": "integer", "minimum": 1},
        "nice": {"type": "integer", "minimum": -20, "maximum": 19},
        "system_calls": _STRINGS,
        "settings": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
        "stop_timeout": {"type": "integer", "minimum": 1},
        "success_exit_status": {"type": "array", "items": {"type": "integer"}},
    },
}
ROLE_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A station role (roles/<name>/role.yml)",
    "type": "object",
    "additionalProperties": False,
    "required": ["summary", "description", "options", "units"],
    "properties": {
        "summary": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[^\n]*$"},
        "description": {"type": "string", "minLength": 1},
        "instances": {"type": "integer", "minimum": 0},
        "packages": _STRINGS,
        "provides": {"enum": list(KINDS)},
        "accepts": {"type": "array", "items": {"enum": list(KINDS)}},
        "shares": _STRINGS,
        "named_needs": _STRINGS,
        "context": {"type": "array", "items": {"enum": list(CONTEXT)}, "uniqueItems": True},
        "serves": {"type": "boolean"},
        "options": {"type": "object", "required": ["type", "additionalProperties"]},
        "ports": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "oneOf": [{"required": ["option"]}, {"required": ["number"]}],
                "properties": {
                    "name": {"type": "string"},
                    "option": {"type": "string"},
                    "number": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "protocol": {"enum": ["tcp", "udp"]},
                    "where": {"type": "object", "additionalProperties": {"type": "array", "minItems": 1}},
                },
            },
        },
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "template"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"},
                    "template": {"type": "string"},
                    "secret": {"type": "boolean"},
                },
            },
        },
        "units": {"type": "array", "items": _UNIT_SCHEMA},
    },
}
