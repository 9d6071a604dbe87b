"""JSON Schema in words: what a schema allows, and how a value is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from stationmaster.findings import listed

TYPE_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def choices(schema: Mapping[str, Any]) -> list[Any]:
    """Return the values that a schema lists with `const` or `enum`, nothing if it lists none."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema.get("enum", ()))


def shown(value: Any) -> str:
    """Return a value as it is shown in a message: short, and with its type told by JSON's quoting."""
    if isinstance(value, dict):
        return f"a mapping with {listed(value)}"[:120] if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def describe(schema: Any) -> Any:
    """Return what a schema allows: a list of values, or a phrase such as `a whole number from 1 to 65535`."""
    if not isinstance(schema, Mapping):
        return "anything" if schema else "nothing"
    if choices(schema):
        return choices(schema)
    branches = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    if branches and "properties" not in schema:
        told = [describe(branch) for branch in branches]
        return " or ".join(dict.fromkeys(listed(item) if isinstance(item, list) else str(item) for item in told))
    kinds = schema.get("type", "object" if "properties" in schema else [])
    names = [TYPE_NAMES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return " ".join([" or ".join(names) or "anything", *_limits(schema)])


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"from {low} to {high}"
    elif low is not None:
        yield f"from {low} on"
    elif high is not None:
        yield f"up to {high}"
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']}"
    if "multipleOf" in schema:
        yield f"in steps of {schema['multipleOf']}"
    if schema.get("minLength"):
        yield f"of at least {schema['minLength']} characters"
    if "maxLength" in schema:
        yield f"of at most {schema['maxLength']} characters"
    if schema.get("minItems"):
        yield f"with at least {schema['minItems']} entries"
    if "maxItems" in schema:
        yield f"with at most {schema['maxItems']} entries"
    if schema.get("uniqueItems"):
        yield "without repeats"
    if "pattern" in schema:
        yield f"that matches {schema['pattern']}"
    if isinstance(schema.get("items"), Mapping):
        inner = describe(schema["items"])
        yield f"of {listed(inner) if isinstance(inner, list) else inner}"
    if schema.get("description"):
        yield f"({schema['description']})"
