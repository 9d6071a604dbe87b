"""Errors as problem documents (RFC 9457): what was wrong, whether to retry, what to do."""

from __future__ import annotations

import http
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

log = logging.getLogger("stationmaster.api")


class ProblemDocument(BaseModel):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    action: str


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: stable name of the kind of error, in CamelCase.
        detail: what is wrong here.
        action: what the caller can do.
        retryable: whether the same request may succeed later without any change.
        headers: more headers of the answer.
        extra: more members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        action: str,
        *,
        retryable: bool = False,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.action = action
        self.retryable = retryable
        self.headers = headers or {}
        self.extra = extra

    def response(self) -> JSONResponse:
        """Return the answer that tells it."""
        document = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "retryable": self.retryable,
            "action": self.action,
            **self.extra,
        }
        headers = dict(self.headers)
        if self.retryable:
            headers.setdefault("Retry-After", "5")
        return JSONResponse(
            jsonable_encoder(document), self.status, headers=headers, media_type="application/problem+json"
        )


def not_found(what: str, name: str) -> Problem:
    """Return the problem of a thing that is not there."""
    return Problem(404, "NotFound", f"There is no {what} {name!r}.", f"List the {what}s and take a name from there.")


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemDocument, "content": {"application/problem+json": {}}, "description": text}
    for code, text in (
        (401, "No valid token"),
        (403, "The token may not do this"),
        (413, "The body is too large"),
        (422, "Something in the request is not allowed"),
        (429, "Too many requests"),
    )
}
"""Answers that every operation with credentials may give."""


def _methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods of a path; Starlette would tell only those of the first route that has it."""
    routes = [route for route in iter_route_contexts(app.routes) if compile_path(route.path or "")[0].match(path)]
    return sorted({method for route in routes for method in route.methods or ()})


def install(app: FastAPI) -> None:
    """Make every error of an app a problem document."""

    async def problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this class only
        return error.response()

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        findings = [
            {"path": [str(step) for step in one["loc"]], "message": one["msg"], "kind": one["type"]}
            for one in error.errors()
        ]
        first = findings[0]
        return Problem(
            422,
            "InvalidRequest",
            f"{'.'.join(first['path'])}: {first['message']}",
            "Correct the request; /openapi.json says what is allowed.",
            findings=findings,
        ).response()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code == http.HTTPStatus.BAD_REQUEST:
            # FastAPI's answer to a body whose bytes are no text at all, where other bodies that are no JSON get 422
            return Problem(
                422,
                "InvalidRequest",
                f"body: {error.detail}",
                "Send JSON in UTF-8, as /openapi.json says.",
            ).response()
        phrase = http.HTTPStatus(error.status_code).phrase
        headers = dict(error.headers or {})
        if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(app, request.url.path))
        return Problem(
            error.status_code,
            phrase.title().replace(" ", ""),
            str(error.detail),
            "See /openapi.json for the operations there are.",
            headers=headers,
        ).response()

    async def broken(request: Request, error: Exception) -> Response:
        log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return Problem(
            500,
            "InternalError",
            "The manager failed at this request; its journal has the reason.",
            "Try again; if it stays, send the journal of stationmaster-manager to the developers.",
            retryable=True,
        ).response()

    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        Problem: problem,
        RequestValidationError: invalid,
        HTTPException: refused,
        Exception: broken,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
