"""One inventory as Ansible read it, before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Session:
    """One inventory as Ansible read it.

    `manager` and `loader` are Ansible's, `variables` each host's merged ones,
    `sources` the folders and files that were given.
    """

    def __init__(self, manager: Any, variables: dict[str, dict[str, Any]], loader: Any, sources: list[Path]) -> None:
        self.manager = manager
        self.variables = variables
        self.loader = loader
        self.sources = sources

    @property
    def folder(self) -> Path:
        """Return the inventory's own folder, where `files/` lies."""
        return folder_of(self.sources[0])

    @property
    def folders(self) -> list[Path]:
        """Return the folders whose group_vars and host_vars count, as given and without symbolic links."""
        given = [folder_of(source) for source in self.sources]
        return list(dict.fromkeys([*given, *(folder.resolve() for folder in given)]))


def folder_of(source: Path) -> Path:
    """Return the folder of a source, which is a folder or a file."""
    return source if source.is_dir() else source.parent
