"""Reading the closed lists of variables of one host or group, and judging their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.inventory.helpers import sort_groups

from stationmaster import origins
from stationmaster.findings import Finding, dotted, invalid
from stationmaster.inventory_session import Session
from stationmaster.layers import Layers, Resolver, Trouble
from stationmaster.model import Origin, Path
from stationmaster.sources import Sources
from stationmaster.validation import problems
from stationmaster.variables import VARIABLES

LOCKED = "the secret cannot be read: no vault password that was given opens it"


class Reader:
    """Reads variables with their origins; `findings` collects what is wrong with them.

    Args:
        session: the inventory as Ansible read it.
        sources: what its files define.
        require_secrets: whether an unreadable secret is a finding.
    """

    def __init__(self, session: Session, sources: Sources, require_secrets: bool) -> None:
        self.session = session
        self.sources = sources
        self.require_secrets = require_secrets
        self.findings: list[Finding] = []

    def resolver(self, variables: Mapping[str, Any]) -> Resolver:
        """Return what templates and decrypts values in the light of these variables."""
        loader = self.session.loader
        return Resolver(loader, variables, loader.sealed, bool(loader.unreadable))

    def scope(
        self, scope: str, variables: Mapping[str, Any], stations: list[str], chain: list[tuple[str, str]]
    ) -> Layers:
        """Read all variables of one scope and judge their values.

        Args:
            scope: `event`, `room` or `station`.
            variables: raw merged variables.
            stations: the stations to name in findings.
            chain: kind and name of the groups and the host that may set them, the one that counts last.
        """
        layers = Layers(self.resolver(variables))
        for variable, schema in VARIABLES[scope].items():
            if variable not in variables or variable == "station_roles":
                continue
            layers.overlay({variable: variables[variable]}, _layer(variable))
            layers.origins[variable,] = self.origin(variable, variables[variable], chain)
            self._judge(layers, variable, schema, stations)
        self.tell(layers, stations, ())
        return layers

    def origin(self, variable: str, value: Any, chain: Iterable[tuple[str, str]]) -> Origin:
        """Find where the value that counts was set: a merged mapping keeps the key of the first one."""
        found = [item for kind, name in chain for item in self.sources.of(kind, name, variable)]
        same = [item for item in found if item.value is value] or found
        layer = _layer(variable)
        if same:
            return Origin(layer, same[-1].origin.file, same[-1].origin.line)
        return origins.origin_of(value, layer) or Origin(layer)

    def tell(
        self, layers: Layers, stations: list[str], prefix: tuple[str, ...], told: Mapping[str, str] | None = None
    ) -> None:
        """Turn a mapping's troubles into findings; `prefix` leads from the variable to the mapping."""
        troubles = list(layers.troubles)
        if self.require_secrets:
            known = {trouble.path for trouble in troubles}
            troubles += [Trouble(path, layers.origins[path], LOCKED) for path in sorted(layers.opaque - known, key=str)]
        for trouble in troubles:
            top: Path = prefix
            if prefix and trouble.origin.layer != prefix[0]:
                top = (trouble.origin.layer, *prefix[1:2])
            path = dotted((*top, *trouble.path))
            self.findings.append(
                invalid(
                    f"{path}: {trouble.message}",
                    stations=stations,
                    origin=trouble.origin,
                    path=path,
                    value=trouble.value,
                    suggestion=trouble.suggestion,
                    **(told or {}),
                )
            )

    def _judge(self, layers: Layers, variable: str, schema: Mapping[str, Any], stations: list[str]) -> None:
        found = problems(
            schema,
            layers.values[variable],
            [path[1:] for path in layers.secrets if path[0] == variable],
            [path[1:] for path in layers.opaque if path[0] == variable],
        )
        for problem in found:
            path = (variable, *problem.path)
            self.findings.append(
                invalid(
                    f"{variable}: {problem.message}",
                    stations=stations,
                    origin=nearest_origin(layers.origins, path),
                    path=dotted(path),
                    value=problem.value,
                    allowed=problem.allowed,
                    suggestion=problem.suggestion,
                )
            )


def chain_of(host: Any) -> list[tuple[str, str]]:
    """Return kind and name of all that may set a host's variables, the one that counts last."""
    return [*(("group", str(group.name)) for group in sort_groups(host.get_groups())), ("host", str(host.name))]


def nearest_origin(known: Mapping[Path, Origin], path: Path) -> Origin | None:
    """Return the origin of a path, or of the nearest mapping around it."""
    return next((known[path[:end]] for end in range(len(path), -1, -1) if path[:end] in known), None)


def _layer(variable: str) -> str:
    return variable if variable.endswith("_role_defaults") else "inventory"
