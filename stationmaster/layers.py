"""Merging layers of options deeply, with the origin of each value kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import jinja2
import jinja2.meta
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.template import Templar

from stationmaster import origins
from stationmaster.findings import hint, nearest
from stationmaster.model import Origin, Path


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a value could not be had: path below the top, origin, message, nearest valid name."""

    path: Path
    origin: Origin
    message: str
    value: Any = None
    suggestion: str | None = None


class Resolver:
    """Turns raw inventory values of one host into what they mean.

    Args:
        loader: Ansible's loader, for lookups in templates.
        variables: all variables of the host.
        sealed: names of variables that come from files encrypted as a whole.
        blind: some such file could not be read, so an unknown name may be in it.
    """

    def __init__(self, loader: Any, variables: Mapping[str, Any], sealed: Set[str], blind: bool) -> None:
        self._loader = loader
        self._variables = variables
        self._sealed = sealed
        self._blind = blind
        self._templar: Templar | None = None

    def resolve(self, value: Any) -> tuple[Any, bool]:
        """Template or decrypt one value.

        Returns:
            The value and whether it is a secret.

        Raises:
            origins.Unreadable: it depends on a secret whose password is not known.
            AnsibleError: the template is wrong or uses an undefined variable.
        """
        if origins.is_encrypted(value):
            return origins.decrypted(value), True
        if not origins.is_template(value):
            return value, False
        secret = self._touches_secret(value, frozenset())
        try:
            if self._templar is None:
                self._templar = Templar(loader=self._loader, variables=self._variables)
            return self._templar.template(value), secret
        except AnsibleError as error:
            unknown = self._blind and isinstance(error, AnsibleUndefinedVariable)
            if secret or unknown or origins.lacks_password(error):
                raise origins.Unreadable(certain=secret) from error
            raise

    def names(self) -> list[str]:
        """Return the names of all variables of the host."""
        return [str(name) for name in self._variables]

    def _touches_secret(self, value: Any, seen: frozenset[str]) -> bool:
        if origins.is_encrypted(value):
            return True
        # a plain dictionary only: looking into `hostvars` would template everything in it
        if isinstance(value, dict):
            return any(self._touches_secret(item, seen) for item in value.values())
        if isinstance(value, list):
            return any(self._touches_secret(item, seen) for item in value)
        if not origins.is_template(value):
            return False
        names = _names_in(origins.scalar(value)) - seen
        return any(
            name in self._sealed or self._touches_secret(self._variables.get(name), seen | names) for name in names
        )


@functools.lru_cache(maxsize=4096)
def _names_in(template: str) -> frozenset[str]:
    environment = jinja2.Environment()  # noqa: S701 - only parsed, never rendered
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(environment.parse(template)))
    except jinja2.TemplateError:
        return frozenset()


@dataclass(slots=True)
class Layers:
    """A mapping made of layers, later ones over earlier ones.

    `values` is plain data; `opaque` are paths whose value could not be had
    (it is None), `secrets` paths whose value comes from a vault.
    """

    resolver: Resolver
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    opaque: set[Path] = field(default_factory=set)
    secrets: set[Path] = field(default_factory=set)
    troubles: list[Trouble] = field(default_factory=list)

    def overlay(self, value: Mapping[Any, Any], layer: str, origin: Origin | None = None) -> None:
        """Put a mapping over what is there, deeply; lists and leaves replace."""
        top = origin or Origin(layer)
        self.origins[()] = top
        self._mapping(self.values, value, (), layer, top, (id(value),))

    def fill(self, defaults: Mapping[str, Any]) -> None:
        """Take over values with defaults filled in, keeping all origins."""
        self._defaults(defaults, self.values, ())
        self.values = dict(defaults)

    def _mapping(
        self,
        into: dict[str, Any],
        value: Mapping[Any, Any],
        path: Path,
        layer: str,
        parent: Origin,
        open_: tuple[int, ...],
    ) -> None:
        for key, item in value.items():
            text = origins.name(key)
            below = (*path, text)
            origin = origins.origin_of(key, layer) or origins.origin_of(item, layer) or parent
            known = into.get(text)
            into[text] = self._value(known, item, below, layer, origin, open_)

    def _value(
        self, known: Any, raw: Any, path: Path, layer: str, origin: Origin, open_: tuple[int, ...], secret: bool = False
    ) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(known, dict):
            self._forget(path)
        self.origins[path] = origin
        if not secret:
            try:
                raw, secret = self.resolver.resolve(raw)
            except origins.Unreadable as error:
                self.opaque.add(path)
                if error.certain:
                    self.secrets.add(path)
                return None
            except AnsibleError as error:
                self.troubles.append(self._template_trouble(error, raw, path, origin))
                self.opaque.add(path)
                return None
        if secret:
            self.secrets.add(path)
        if id(raw) in open_:
            self.troubles.append(Trouble(path, origin, "the value contains itself (a YAML alias); write it out"))
            return None
        inside = (*open_, id(raw))
        if isinstance(raw, Mapping):
            into = known if isinstance(known, dict) else {}
            self._mapping(into, raw, path, layer, origin, inside)
            return into
        if isinstance(raw, list | tuple | Set):
            return [
                self._value(
                    None, item, (*path, number), layer, origins.origin_of(item, layer) or origin, inside, secret=False
                )
                for number, item in enumerate(raw)
            ]
        return origins.scalar(raw)

    def _forget(self, path: Path) -> None:
        length = len(path)
        for known in (self.opaque, self.secrets):
            known.difference_update([other for other in known if other[:length] == path])
        if path in self.origins:
            for other in [other for other in self.origins if other[:length] == path]:
                del self.origins[other]

    def _defaults(self, filled: Any, value: Any, path: Path) -> None:
        if not isinstance(filled, dict):
            return
        written = value if isinstance(value, dict) else {}
        for key, item in filled.items():
            below = (*path, key)
            if key not in written:
                self.origins[below] = Origin("default")
            self._defaults(item, written.get(key), below)

    def _template_trouble(self, error: AnsibleError, raw: Any, path: Path, origin: Origin) -> Trouble:
        text = str(getattr(error, "message", None) or error).split("\n")[0]
        suggestion = None
        if isinstance(error, AnsibleUndefinedVariable):
            unknown = sorted(_names_in(origins.scalar(raw)) - set(self.resolver.names()))
            suggestion = next((close for name in unknown if (close := nearest(name, self.resolver.names()))), None)
        message = f"the template cannot be filled in: {text}{hint(suggestion)}"
        return Trouble(path, origin, message, origins.scalar(raw), suggestion)
