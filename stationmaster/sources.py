"""The files of an inventory: what each of them sets, for whom, on which line.

Ansible merges all files and keeps the last value silently; here every
definition is kept, so that two that disagree, an unknown name and a key that
Ansible would skip can be told.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import AnsibleVaultError

from stationmaster import origins
from stationmaster.findings import Finding, hint, invalid, listed, nearest
from stationmaster.model import Origin

GROUP_KEYS = ("vars", "children", "hosts")
"""What Ansible's YAML inventory reads below a group; it skips all else with a warning."""

VARS_FOLDERS = {"group_vars": "group", "host_vars": "host"}


@dataclass(frozen=True, slots=True)
class Definition:
    """One variable as set by one file for one host or group (`kind`)."""

    kind: str
    entity: str
    name: str
    value: Any
    origin: Origin


@dataclass(slots=True)
class Placement:
    """The lines on which a host is put into a group, by group."""

    groups: dict[str, list[Origin]] = field(default_factory=dict)


class RecordingLoader(DataLoader):  # type: ignore[misc]  # ansible-core ships no types
    """A loader that reads each file once and remembers what was in it.

    `files` holds each file's data, `sealed` the names of variables from files
    that are encrypted as a whole, `unreadable` such files whose password is
    not known, `broken` a finding per file that is not YAML.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Any] = {}
        self.sealed: set[str] = set()
        self.unreadable: set[str] = set()
        self.broken: dict[str, Finding] = {}

    def load_from_file(
        self,
        file_name: str,
        cache: str = "all",
        unsafe: bool = False,
        json_only: bool = False,
        trusted_as_template: bool = False,
    ) -> Any:
        """Read a file as Ansible would, once; an unreadable secret file is empty."""
        path = str(self.path_dwim(file_name))
        if path not in self.files:
            try:
                self.files[path] = super().load_from_file(path, "none", True, json_only, True)
            except AnsibleVaultError:
                self.unreadable.add(path)
                self.files[path] = {}
            except AnsibleError as error:
                self.broken[path] = _broken(path, error)
                raise
            else:
                data = self.files[path]
                if origins.was_encrypted(data) and isinstance(data, Mapping):
                    self.sealed.update(origins.name(key) for key in data)
        data = self.files[path]
        if not trusted_as_template and isinstance(data, Mapping) and "plugin" in data:
            return super().load_from_file(path, cache, unsafe, json_only, False)
        return data


def _broken(path: str, error: AnsibleError) -> Finding:
    origin = origins.error_origin(error) or Origin("", path, None)
    return invalid(f"the file cannot be read as YAML: {_first_lines(error)}", origin=origin)


def _first_lines(error: BaseException) -> str:
    text = str(getattr(error, "message", None) or error)
    return " ".join(line.strip() for line in text.splitlines() if line.strip())[:300]


class Sources:
    """What the inventory's files define.

    Args:
        loader: the loader after Ansible has read everything.
        folders: the folders whose group_vars and host_vars count.
        trees: those of them that were given as a whole.
    """

    def __init__(self, loader: RecordingLoader, folders: Sequence[Path], trees: Sequence[Path]) -> None:
        self.definitions: list[Definition] = []
        self.placements: dict[str, Placement] = {}
        self.findings: list[Finding] = []
        self.unreadable = sorted(loader.unreadable)
        for path, data in loader.files.items():
            parts = parts_below(path, folders)
            if len(parts) > 1 and parts[0] in VARS_FOLDERS:
                self._record(VARS_FOLDERS[parts[0]], entity_of(parts[1]), data)
            elif not parts or any(part in VARS_FOLDERS for part in parts):
                continue  # read for variables that do not count, or not ours
            elif isinstance(data, Mapping) and "plugin" not in data:
                for group, body in data.items():
                    self._group(group, body)
            self.findings.extend(duplicate_keys(path))
        for folder in trees:
            self.findings.extend(_never_read(folder))
        self._by_entity: dict[tuple[str, str, str], list[Definition]] = {}
        for definition in self.definitions:
            self._by_entity.setdefault((definition.kind, definition.entity, definition.name), []).append(definition)

    def of(self, kind: str, entity: str, name: str) -> list[Definition]:
        """Return all definitions of a variable for one host or group, the one that counts last."""
        return self._by_entity.get((kind, entity, name), [])

    def repeated(self) -> Iterator[tuple[Definition, Definition]]:
        """Yield each pair of definitions of which the second silently replaces the first."""
        for several in self._by_entity.values():
            yield from itertools.pairwise(several)

    def _group(self, group: Any, body: Any, depth: int = 0) -> None:
        name = origins.name(group)
        if body is None or depth > 20:
            return
        if not isinstance(body, Mapping):
            self._skipped(group, f"group {name!r} must be a mapping with {listed(GROUP_KEYS)}", name)
            return
        for key, part in body.items():
            text = origins.name(key)
            if text not in GROUP_KEYS:
                close = nearest(text, GROUP_KEYS)
                message = f"unknown key {text!r} in group {name!r}{hint(close)}"
                self._skipped(key, f"{message} Allowed: {listed(GROUP_KEYS)}" if close else message, text, close)
            elif part is not None and not isinstance(part, Mapping):
                self._skipped(key, f"{text!r} of group {name!r} must be a mapping", text)
            elif part is not None:
                self._section(name, text, part, depth)

    def _section(self, group: str, section: str, part: Mapping[Any, Any], depth: int) -> None:
        if section == "vars":
            self._record("group", group, part)
        elif section == "children":
            for child, body in part.items():
                self._group(child, body, depth + 1)
        else:
            for host, variables in part.items():
                placement = self.placements.setdefault(origins.name(host), Placement())
                origin = origins.origin_of(host) or Origin("")
                placement.groups.setdefault(group, []).append(origin)
                self._record("host", origins.name(host), variables)

    def _record(self, kind: str, entity: str, variables: Any) -> None:
        if not isinstance(variables, Mapping):
            return
        for key, value in variables.items():
            origin = origins.origin_of(key) or origins.origin_of(value) or Origin("")
            self.definitions.append(Definition(kind, entity, origins.name(key), value, origin))

    def _skipped(self, key: Any, message: str, value: str, suggestion: str | None = None) -> None:
        self.findings.append(
            invalid(
                f"{message}: Ansible would skip it",
                origin=origins.origin_of(key),
                path=value,
                value=value,
                allowed=list(GROUP_KEYS),
                suggestion=suggestion,
            )
        )


def parts_below(path: str, folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the parts of a path below the first of the folders that holds it, nothing if none does."""
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).parts
    return ()


def entity_of(name: str) -> str:
    """Return the host or group whose variables a file or folder of that name holds."""
    return name.rpartition(".")[0] if name.endswith((".yml", ".yaml", ".json")) else name


def _never_read(folder: Path) -> Iterator[Finding]:
    """Find group_vars and host_vars below sub-folders: Ansible reads only those beside the inventory's top."""
    for name in VARS_FOLDERS:
        for found in sorted(folder.glob(f"*/{name}")):
            message = (
                f"Ansible never reads {found.relative_to(folder)}: move it to {name} in the inventory's own folder"
            )
            yield invalid(message, origin=Origin("", str(found)), path=name)


def duplicate_keys(path: str) -> list[Finding]:
    """Find the keys that a YAML file writes twice in one mapping; the first would be lost silently."""
    try:
        text = Path(path).read_text("utf-8")
        root = yaml.compose(text, Loader=_safe_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    found: list[Finding] = []
    _duplicates(root, path, found, set())
    return found


@functools.cache
def _safe_loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _duplicates(node: Any, path: str, found: list[Finding], seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode):
                _duplicates(item, path, found, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines and key.value != "<<":
                    message = f"the key {key.value!r} is written twice, first in line {lines[key.value]}; keep one"
                    found.append(invalid(message, origin=Origin("", path, line), path=key.value, value=key.value))
                lines.setdefault(key.value, line)
            if not isinstance(value, yaml.ScalarNode):
                _duplicates(value, path, found, seen)
