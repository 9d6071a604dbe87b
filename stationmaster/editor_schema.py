"""JSON Schemas of the inventory's files, for editors.

They are wider than `stationmaster check`: what an option lacks may come from
a default of the room or the event, and any value may be a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stationmaster.catalogue import Catalogue, StationRole
from stationmaster.rules.options import schema_of
from stationmaster.variables import PREFIXES, VARIABLES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEMPLATE: dict[str, Any] = {"type": "string", "pattern": r"\{\{|\{%"}
INSTANCE_ID = "^[A-Za-z0-9_-]{1,64}$"
OTHER_NAMES = f"^(?!{'|'.join(PREFIXES)})"
"""Variables without a prefix of ours are nobody's business here: ansible_host, the crew's own."""

_ABOUT = ("title", "description", "default", "examples")
_NOT_PARTIAL = ("required", "minProperties", "if", "then", "else", "dependentRequired")
_BELOW = ("properties", "patternProperties", "$defs")
_SUB = ("items", "additionalProperties", "not", "contains", "propertyNames")


def room_file(catalogue: Catalogue) -> dict[str, Any]:
    """Return the schema of a file in `rooms/` and of `services.yml`."""
    variables = _variables(catalogue, ("station", "room"))
    group: dict[str, Any] = {"$ref": "#/$defs/group"}
    return {
        "$schema": DIALECT,
        "title": "Stationmaster: rooms and stations",
        "type": "object",
        "properties": {
            "rooms": {**group, "description": "Each child is a room."},
            "services": {**group, "description": "Stations that belong to no room."},
            "stations": {**group, "description": "Parent of rooms and services."},
        },
        "additionalProperties": group,
        "$defs": {
            "group": {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {
                    "vars": variables,
                    "hosts": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/station"}},
                    "children": {"type": ["object", "null"], "additionalProperties": group},
                },
            },
            "station": {**_variables(catalogue, ("station",)), "type": ["object", "null"]},
        },
    }


def event_file(catalogue: Catalogue) -> dict[str, Any]:
    """Return the schema of `group_vars/all/event.yml`."""
    schema = _variables(catalogue, ("event",))
    return {"$schema": DIALECT, "title": "Stationmaster: the event", **schema}


def _variables(catalogue: Catalogue, scopes: tuple[str, ...]) -> dict[str, Any]:
    properties = {}
    for scope in scopes:
        for variable, schema in VARIABLES[scope].items():
            about = {key: schema[key] for key in ("description",) if key in schema}
            if variable == "station_roles":
                properties[variable] = {**about, **_roles(catalogue)}
            elif variable.endswith("_role_defaults"):
                properties[variable] = {**about, **_role_defaults(catalogue)}
            else:
                properties[variable] = partial(schema)
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {OTHER_NAMES: True},
        "additionalProperties": False,
    }


def _roles(catalogue: Catalogue) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            role.name: {
                "type": "object",
                "description": f"{role.summary}\n\n{role.description}",
                "propertyNames": {"pattern": INSTANCE_ID},
                "additionalProperties": _options(role),
                **({"maxProperties": role.instances} if role.instances else {}),
            }
            for role in catalogue.roles.values()
        },
    }


def _role_defaults(catalogue: Catalogue) -> dict[str, Any]:
    properties = {role.name: {**_options(role), "description": role.summary} for role in catalogue.roles.values()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _options(role: StationRole) -> dict[str, Any]:
    schema = dict(partial(schema_of(role)))
    if "$defs" in schema:
        # references inside the role's schema start at the role's schema
        schema["$id"] = f"stationmaster:{role.name}"
    return {**schema, "type": ["object", "null"]}


def partial(schema: Any) -> Any:
    """Return a schema that also accepts a part of what the given one demands, and templates for leaves.

    Args:
        schema: JSON Schema, draft 2020-12.
    """
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NOT_PARTIAL:
            continue
        if key in _BELOW:
            result[key] = {name: partial(below) for name, below in value.items()}
        elif key in ("oneOf", "anyOf"):
            # without `required` several alternatives may fit a part
            result["anyOf"] = [*result.get("anyOf", ()), *(partial(branch) for branch in value)]
        elif key == "allOf":
            result[key] = [partial(branch) for branch in value]
        elif key in _SUB:
            result[key] = partial(value)
        else:
            result[key] = value
    return _or_template(result) if _is_leaf(schema) else result


def _is_leaf(schema: Mapping[str, Any]) -> bool:
    if "const" in schema:
        # tells the branches of a union apart: a template there would fit all of them
        return False
    kinds = schema.get("type", [])
    names = {kinds} if isinstance(kinds, str) else set(kinds)
    return ("enum" in schema or bool(names)) and not names & {"object", "array"}


def _or_template(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "string" and not {"enum", "pattern", "maxLength", "format"} & set(schema):
        return schema
    about = {key: value for key, value in schema.items() if key in _ABOUT or key.startswith("x-") or key == "writeOnly"}
    return {**about, "anyOf": [{key: value for key, value in schema.items() if key not in about}, TEMPLATE]}
