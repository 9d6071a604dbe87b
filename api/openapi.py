"""The OpenAPI document, with what FastAPI does not say by itself."""

from __future__ import annotations

import inspect
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

PROBLEM = "application/problem+json"


def document_of(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application; made once.

    A summary is the first line of what the operation's function says of itself. Errors have the
    media type and the schema of problem documents, wherever the operation declares them.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )  # fmt: skip
        told = {
            (route.path, method.lower()): inspect.getdoc(route.endpoint) or ""
            for route in iter_route_contexts(app.routes)
            if getattr(route, "endpoint", None) is not None
            for method in route.methods or ()
        }
        for path, item in document["paths"].items():
            for method, operation in item.items():
                summary, _, rest = told[path, method].partition("\n")
                operation["summary"] = summary.rstrip(".")
                operation["description"] = rest.strip() or summary
                for status, response in operation["responses"].items():
                    if status >= "400":
                        response["content"] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
        app.openapi_schema = document
    return app.openapi_schema
