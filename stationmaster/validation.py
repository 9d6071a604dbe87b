"""JSON Schema errors as messages that a volunteer can act on."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stationmaster.findings import HIDDEN, dotted, hint, listed, nearest
from stationmaster.memory import memory
from stationmaster.model import Path
from stationmaster.options import annotated
from stationmaster.schema_text import choices, describe, shown

if TYPE_CHECKING:
    import jsonschema
    from jsonschema.exceptions import ValidationError

_SECRET_NAME = re.compile("pass|secret|token|_key$|^key$", re.IGNORECASE)
"""A misspelt `pasword` carries a password all the same."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a value; `path` starts at the value's top."""

    path: Path
    message: str
    value: Any = None
    allowed: Any = None
    suggestion: str | None = None


@functools.lru_cache(maxsize=256)
def _validator(schema_text: str) -> jsonschema.Draft202012Validator:
    import jsonschema  # here, for its import costs more than all else and is seldom needed

    return jsonschema.Draft202012Validator(json.loads(schema_text))


_texts: dict[int, tuple[Mapping[str, Any], str]] = {}


def _text(schema: Mapping[str, Any]) -> str:
    known = _texts.get(id(schema))
    if known is None or known[0] is not schema:
        known = (schema, json.dumps(schema))
        _texts[id(schema)] = known
    return known[1]


def validator(schema: Mapping[str, Any]) -> jsonschema.Draft202012Validator:
    """Return the validator of a schema, made once per schema."""
    return _validator(_text(schema))


def problems(
    schema: Mapping[str, Any], value: Any, secrets: Iterable[Path] = (), opaque: Iterable[Path] = ()
) -> list[Problem]:
    """Judge a value.

    Args:
        schema: JSON Schema, draft 2020-12. In a union (`oneOf`, `anyOf`) the branch
            that the user meant is told: the one whose `const` members or whose type fits.
        value: plain JSON data.
        secrets: paths whose values must not be shown, besides those that the schema marks `writeOnly`.
        opaque: paths whose values are not known and not judged.

    Returns:
        All problems, in the order of their paths.
    """
    unknown = set(opaque)
    digest = memory().digest("value", _text(schema), json.dumps(value), str(sorted(map(str, unknown))))
    if digest in memory():
        return []
    found: dict[tuple[Path, str], Problem] = {}
    for error in validator(schema).iter_errors(value):
        for problem in _explain(error):
            if not any(_below(problem.path, path) for path in unknown):
                found.setdefault((problem.path, problem.message), problem)
    if not found:
        memory().add(digest)
        return []
    hidden = {*secrets, *(path for path, _ in annotated(schema, value, "writeOnly"))}
    return [_shielded(problem, hidden) for problem in sorted(found.values(), key=lambda item: dotted(item.path))]


def _below(path: Path, top: Path) -> bool:
    return path[: len(top)] == top


def _shielded(problem: Problem, hidden: set[Path]) -> Problem:
    if any(_below(problem.path, path) for path in hidden):
        told = listed(problem.allowed) if isinstance(problem.allowed, list) else str(problem.allowed)
        message = f"{dotted(problem.path)} does not fit (its value is secret); allowed: {told}"
        return Problem(problem.path, message, HIDDEN, problem.allowed)
    return dataclasses.replace(problem, value=shield(problem.value, problem.path, hidden))


def shield(value: Any, path: Path, hidden: set[Path]) -> Any:
    """Return a value with everything hidden that lies at a hidden path or is named like a secret."""
    if path in hidden or (path and isinstance(path[-1], str) and _SECRET_NAME.search(path[-1])):
        return HIDDEN
    if isinstance(value, dict):
        return {key: shield(item, (*path, key), hidden) for key, item in value.items()}
    if isinstance(value, list):
        return [shield(item, (*path, number), hidden) for number, item in enumerate(value)]
    return value


def _explain(error: ValidationError) -> Iterator[Problem]:
    kind = str(error.validator)
    if "propertyNames" in error.absolute_schema_path:
        yield _bad_name(error)
    elif kind == "oneOf" and not error.context and not isinstance(error.instance, dict) and _names_only(error):
        return  # what is no mapping is told by its type
    elif kind in ("oneOf", "anyOf") and error.context:
        yield from _union(error)
    elif kind == "additionalProperties" and isinstance(error.instance, dict):
        yield from _unknown_names(error)
    elif kind == "required":
        yield from _missing(error)
    elif kind == "dependentRequired":
        yield from _beside(error)
    else:
        yield _leaf(error)


def _leaf(error: ValidationError) -> Problem:
    path = tuple(error.absolute_path)
    name = dotted(path) or "the value"
    allowed = _allowed(error)
    suggestion = nearest(error.instance, allowed) if isinstance(allowed, list) and _is_name(error.instance) else None
    told = listed(allowed) if isinstance(allowed, list) else str(allowed)
    message = f"{name} is {shown(error.instance)}{hint(suggestion)}{' Allowed' if suggestion else '; allowed'}: {told}"
    return Problem(path, message, error.instance, allowed, suggestion)


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _unknown_names(error: ValidationError) -> Iterator[Problem]:
    schema = cast("dict[str, Any]", error.schema)
    valid = sorted(schema.get("properties", {}))
    patterns = list(schema.get("patternProperties", {}))
    for key, value in cast("dict[str, Any]", error.instance).items():
        if key in valid or any(re.search(pattern, key) for pattern in patterns):
            continue
        path = (*error.absolute_path, key)
        suggestion = nearest(key, valid)
        if _may_be_secret(key, schema):
            value = HIDDEN
        where = f" in {dotted(tuple(error.absolute_path))}" if error.absolute_path else ""
        told = f"{' Allowed' if suggestion else '; allowed'}: {listed(valid)}"
        yield Problem(path, f"unknown option {key!r}{where}{hint(suggestion)}{told}", value, valid, suggestion)


def _may_be_secret(name: str, schema: Mapping[str, Any]) -> bool:
    """Say whether a misspelt name may have meant a secret option; rather hide too much."""
    secrets = [
        key for key, below in schema.get("properties", {}).items() if isinstance(below, dict) and "writeOnly" in below
    ]
    return any(difflib.SequenceMatcher(None, name.lower(), secret.lower()).ratio() > 0.5 for secret in secrets)


def _missing(error: ValidationError) -> Iterator[Problem]:
    schema = cast("dict[str, Any]", error.schema)
    required: Any = error.validator_value
    for key in required:
        if isinstance(error.instance, dict) and key not in error.instance:
            below = schema.get("properties", {}).get(key, {})
            about = f": {below['description']}" if isinstance(below, dict) and below.get("description") else ""
            path = (*error.absolute_path, key)
            told = f"; allowed: {listed(choices(below))}" if isinstance(below, dict) and choices(below) else ""
            yield Problem(path, f"{dotted(path)} is missing{about}{told}", None, describe(below))


def _beside(error: ValidationError) -> Iterator[Problem]:
    value = cast("dict[str, Any]", error.instance)
    path = tuple(error.absolute_path)
    for name, needed in cast("dict[str, list[str]]", error.validator_value).items():
        missing = [other for other in needed if other not in value]
        if name in value and missing:
            message = f"{dotted(path) or 'this instance'} has {name} and so needs {listed(missing)}"
            yield Problem(path, message, value, missing)


def _bad_name(error: ValidationError) -> Problem:
    """A key of a mapping that the user names; its path is the key's, so that its line is told."""
    schema = cast("dict[str, Any]", error.schema)
    path = (*error.absolute_path, str(error.instance))
    where = f" in {dotted(tuple(error.absolute_path))}" if error.absolute_path else ""
    allowed = schema.get("description") or describe(schema)
    return Problem(path, f"{shown(error.instance)} is no name{where}; allowed: {allowed}", error.instance, allowed)


def _names_only(error: ValidationError) -> bool:
    return all(
        isinstance(branch, Mapping) and "required" in branch for branch in cast("list[Any]", error.validator_value)
    )


def _union(error: ValidationError) -> Iterator[Problem]:
    branches: Any = error.validator_value
    by_branch: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        by_branch.setdefault(int(inner.relative_schema_path[0]), []).append(inner)
    tag = _discriminator(branches, error.instance)
    if tag is not None:
        key, by_number = tag
        given = cast("dict[str, Any]", error.instance).get(key)
        chosen = [number for number, choice in by_number.items() if given in choice]
        if not chosen:
            if key in cast("dict[str, Any]", error.instance) or key not in _required(error.schema):
                yield _wrong_tag(
                    error, key, sorted({item for choice in by_number.values() for item in choice}, key=str)
                )
            return
        # two branches may share a tag: the one that rejects least is meant
        candidates = [min(chosen, key=lambda number: len(by_branch.get(number, ())))]
    else:
        candidates = [n for n, errors in by_branch.items() if not _is_type_error(errors, error)] or list(by_branch)
    names = [_required(branch) for branch in branches]
    if all(names) and all(inner.validator == "required" for errors in by_branch.values() for inner in errors):
        yield _one_of_names(error, [name for several in names for name in several])
        return
    if len(candidates) > 1 and tag is None:
        yield _leaf(error)
        return
    for inner in by_branch.get(candidates[0], ()):
        yield from _explain(inner)


def _required(schema: Any) -> list[str]:
    return list(schema.get("required", ())) if isinstance(schema, Mapping) else []


def _one_of_names(error: ValidationError, names: list[str]) -> Problem:
    path = tuple(error.absolute_path)
    where = dotted(path) or "this instance"
    return Problem(path, f"{where} needs one of {listed(names)}", error.instance, sorted(names))


def _is_type_error(errors: list[ValidationError], union: ValidationError) -> bool:
    depth = len(union.absolute_path)
    return any(inner.validator == "type" and len(inner.absolute_path) == depth for inner in errors)


def _discriminator(branches: list[Any], instance: Any) -> tuple[str, dict[int, list[Any]]] | None:
    """Find the property whose `const` or `enum` tells the branches apart: usually `type`."""
    if not isinstance(instance, dict):
        return None
    objects = {number: branch for number, branch in enumerate(branches) if isinstance(branch, dict)}
    keys = [
        {key for key, below in branch.get("properties", {}).items() if isinstance(below, dict) and choices(below)}
        for branch in objects.values()
        if branch.get("type", "object") == "object"
    ]
    common = set.intersection(*keys) if keys else set()
    for key in sorted(common, key=lambda item: item != "type"):
        return key, {
            number: choices(branch["properties"][key])
            for number, branch in objects.items()
            if key in branch.get("properties", {})
        }
    return None


def _wrong_tag(error: ValidationError, key: str, allowed: list[Any]) -> Problem:
    path = (*error.absolute_path, key)
    instance = cast("dict[str, Any]", error.instance)
    given = instance.get(key)
    if key not in instance:
        return Problem(path, f"{dotted(path)} is missing; allowed: {listed(allowed)}", None, allowed)
    suggestion = nearest(given, allowed) if _is_name(given) else None
    told = f"{hint(suggestion)}{' Allowed' if suggestion else '; allowed'}: {listed(allowed)}"
    return Problem(path, f"{dotted(path)} is {shown(given)}{told}", given, allowed, suggestion)


def _allowed(error: ValidationError) -> Any:
    schema = cast("dict[str, Any]", error.schema)
    if error.validator == "enum" or error.validator == "const":
        return choices(schema)
    if error.validator == "oneOf" and not error.context:
        names = [name for branch in cast("list[Any]", error.validator_value) for name in _required(branch)]
        return f"only one of {listed(names)}" if names else "a value that means exactly one of the alternatives"
    return describe(schema)
