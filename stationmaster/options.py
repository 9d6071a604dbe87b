"""Walking option values beside their schema: annotations, unions, defaults."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from stationmaster.model import Path as OptionPath


def annotated(schema: Mapping[str, Any], value: Any, annotation: str) -> Iterator[tuple[OptionPath, Any]]:
    """Find the parts of a value whose schema carries an annotation.

    Args:
        schema: JSON Schema of the value; unions are looked through, taking
            the branch whose `const` members fit the value.
        value: the value, usually an instance's options.
        annotation: `writeOnly`, `x-reference`, `x-target`, `x-device`, `x-port`, `x-unique`, `x-room`, `x-file`,
            `x-picture` and `x-descriptor` (what kind of file it is), `x-address`, `x-network`, `x-group` (an address
            that, if of multicast, is one stream's, together with the `port` beside it) or `x-manager` (which the
            event's manager's address fills where it is absent, `resolve.add_agents`).

    Yields:
        Path of the part and the part itself, each path once.
    """
    seen: set[OptionPath] = set()
    for path, part in _annotated(schema, value, annotation, ()):
        if path not in seen:
            seen.add(path)
            yield path, part


def _annotated(
    schema: Mapping[str, Any], value: Any, annotation: str, path: OptionPath
) -> Iterator[tuple[OptionPath, Any]]:
    if schema.get(annotation) is True:
        if isinstance(value, list):
            yield from (((*path, number), item) for number, item in enumerate(value))
        else:
            yield path, value
        return
    for branch in branches(schema, value):
        yield from _annotated(branch, value, annotation, path)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        rest = schema.get("additionalProperties")
        for key, item in value.items():
            below = properties.get(key, rest if isinstance(rest, dict) else None)
            if isinstance(below, dict):
                yield from _annotated(below, item, annotation, (*path, key))
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from _annotated(schema["items"], item, annotation, (*path, number))


def branches(schema: Mapping[str, Any], value: Any) -> list[Mapping[str, Any]]:
    """Return the sub-schemas of unions that a value may mean.

    A branch is dropped when one of its `const` properties differs from the
    value's; `allOf` branches always count.
    """
    alternatives = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    fitting = [branch for branch in alternatives if _may_mean(branch, value)]
    return [*fitting, *schema.get("allOf", ())]


def _may_mean(branch: Mapping[str, Any], value: Any) -> bool:
    if not isinstance(value, dict):
        return True
    return all(
        key not in value or value[key] == below["const"]
        for key, below in branch.get("properties", {}).items()
        if isinstance(below, dict) and "const" in below
    )


def fill_defaults(schema: Mapping[str, Any], value: Any) -> Any:
    """Return a copy of a value with the schema's defaults filled in, deeply.

    A mapping that is absent is made only where its schema has a default of
    its own; a union is filled from the branch that the value means.
    """
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for part in [schema, *branches(schema, value)]:
        for key, below in part.get("properties", {}).items():
            if not isinstance(below, dict):
                continue
            if key not in result and "default" in below:
                result[key] = below["default"]
            if key in result:
                result[key] = fill_defaults(below, result[key])
    return result


def split_secrets(schema: Mapping[str, Any], value: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part a mapping into what may be read by all and its secrets.

    Args:
        schema: the schema of the mapping; secrets carry `writeOnly`.
        value: the mapping; it is not changed.

    Returns:
        The mapping without secrets, and a mapping of the same shape with
        nothing but them. Both are deep copies. A secret inside a list takes
        the whole list with it, so that merging the two restores the value.
    """
    public = copy.deepcopy(value)
    secret: dict[str, Any] = {}
    for path, _ in list(annotated(schema, value, "writeOnly")):
        keys = [str(key) for key in itertools.takewhile(lambda key: isinstance(key, str), path)]
        source: Any = public
        place = secret
        for key in keys[:-1]:
            source = source[key]
            place = place.setdefault(key, {})
        if keys[-1] in source:
            place[keys[-1]] = source.pop(keys[-1])
    return public, secret
