"""Requests that come so often that finding what answers them must not cost more than the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem


class Route:
    """Where a request went, for those who ask the scope for its `route`."""

    def __init__(self, path: str) -> None:
        self.path = path


class Straight:
    """ASGI middleware: calls some operations without FastAPI's search, dependencies and exit stacks.

    They stay operations of FastAPI, which documents them. There a hello costs a third more.

    Args:
        app: answers everything else.
        operations: by method and path, without parameters in either; each takes the request and returns its answer.
    """

    def __init__(
        self, app: ASGIApp, operations: Mapping[tuple[str, str], Callable[[Request], Awaitable[Response]]]
    ) -> None:
        self._app = app
        self._operations = operations
        self._routes = {key: Route(key[1]) for key in operations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        key = (scope.get("method", ""), scope.get("path", ""))
        operation = self._operations.get(key)
        if operation is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._routes[key]
        try:
            answer = await operation(Request(scope, receive))
        except Problem as problem:
            answer = problem.response()
        except ClientDisconnect:
            return
        await answer(scope, receive, send)
