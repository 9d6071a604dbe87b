"""The generated reference page of the manager: every operation of its API and every setting."""

from __future__ import annotations

import ast
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent


def page() -> str:
    """Return the page."""
    operations = "".join(f"| `{method} {path}` | {scope} | {text} |\n" for method, path, scope, text in _operations())
    settings = "".join(f"| `{name}` | {default} | {text} |\n" for name, default, text in _settings())
    return (
        "# The manager's reference\n\nWhat it is and how it is deployed: [the manager](manager.md).\n\n"
        "## Operations\n\nWith every member and what is allowed: `GET /openapi.json`. The scope is the token's.\n\n"
        f"| operation | scope | what it does |\n|---|---|---|\n{operations}\n"
        "## Settings\n\nIn the manager's environment as `STATIONMASTER_<NAME>`; on a deployed manager they come from "
        "`manager_settings`.\n\n"
        f"| setting | default | meaning |\n|---|---|---|\n{settings}"
    )


def _operations() -> Iterator[tuple[str, str, str, str]]:
    from api.app import RESOURCES, create_app
    from api.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data=Path(folder) / "data"))
        app.state.manager.database.close()
    needed = _scopes(route for resource in RESOURCES for route in resource.router.routes)
    for path, verbs in sorted(app.openapi()["paths"].items()):
        for verb, told in verbs.items():
            scope = needed.get((path, verb)) or ("signed" if told.get("security") else "none")
            text = str(told.get("description") or told.get("summary", ""))
            yield verb.upper(), path, scope, _cell(text.partition("\n\n")[0])


def _scopes(routes: Iterable[Any]) -> dict[tuple[str, str], str]:
    """Return the scope that each operation asks of a token, by path and method."""
    found = {}
    for route in routes:
        for needed in getattr(getattr(route, "dependant", None), "dependencies", ()):
            scope = getattr(needed.call, "scope", None)
            if isinstance(scope, str):
                found.update({(route.path, method.lower()): scope for method in route.methods})
    return found


def _settings() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of each setting; the meaning is the text below it in the source."""
    from api.settings import CHECKOUT, Settings

    tree = ast.parse((TOP / "api" / "settings.py").read_text("utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    meanings = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            meanings[before.target.id] = str(ast.literal_eval(after.value))
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else "" if field.default is None else str(field.default)
        yield (
            name,
            _cell(default.replace(f"{CHECKOUT}/", "").replace(str(CHECKOUT), "the checkout")),
            _cell(meanings[name]),
        )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
