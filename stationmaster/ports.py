"""Which ports the instances of a role listen on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stationmaster.catalogue import Port, StationRole
from stationmaster.model import Instance, Path

ANY = "*"
"""In the dotted name of an option: each key of a mapping in turn."""


def listening(row: StationRole, instance: Instance) -> Iterator[tuple[Port, Path, int]]:
    """Yield the ports that an instance listens on, by the `ports` of its role.

    Args:
        row: the role.
        instance: one of its instances; its defaults are filled in.

    Yields:
        The row of role.yml, the path of the option (empty for a fixed number), and the number. A row with `where`
        counts only where the options beside its own have one of the values that it names.
    """
    for port in row.ports:
        if port.option is None:
            found: list[tuple[Path, Any]] = [((), port.number)]
        else:
            found = list(_values(instance.options, tuple(port.option.split(".")), (), port.where))
        for path, value in found:
            if isinstance(value, int) and not isinstance(value, bool):
                yield port, path, value


def _values(
    tree: Any, steps: tuple[str, ...], path: Path, where: Mapping[str, tuple[Any, ...]]
) -> Iterator[tuple[Path, Any]]:
    if not isinstance(tree, dict):
        return
    first, *rest = steps
    if not rest and not all(tree.get(name) in values for name, values in where.items()):
        return
    for key in tree if first == ANY else [first]:
        if key in tree:
            if rest:
                yield from _values(tree[key], tuple(rest), (*path, key), where)
            else:
                yield (*path, key), tree[key]
