"""The manager's HTTP interface, put together from one module a resource."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute

from api import (
    checks,
    figures,
    health,
    lines,
    logs,
    metrics,
    openapi,
    overrides,
    pages,
    problems,
    radiovis,
    roles,
    rooms,
    runs,
    schedule,
    stations,
    tokens,
    visuals,
)
from api.guard import Door
from api.logging import Observed
from api.manager import Manager
from api.settings import Settings
from api.straight import Straight

RESOURCES = (
    health,
    tokens,
    stations,
    lines,
    figures,
    runs,
    checks,
    roles,
    rooms,
    overrides,
    schedule,
    visuals,
    radiovis,
    metrics,
    logs,
)
"""Modules with a `router`; a resource is added here and nowhere else."""


@functools.cache
def _routes() -> list[BaseRoute]:
    """Return the routes of the resources and the page, once for all applications of a process.

    FastAPI reads a route at its first use, holding warnings back for the whole process as it does so: done here.
    """
    everything = APIRouter()
    for module in (*RESOURCES, *pages.PAGES):
        everything.include_router(module.router)
    for _ in iter_route_contexts(everything.routes):
        pass
    return everything.routes


def create_app(settings: Settings) -> FastAPI:
    """Return the manager's application; it works from its start-up to its shutdown.

    Args:
        settings: where its data and its inventory are, and how it behaves.
    """
    manager = Manager(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await run_in_threadpool(manager.start)
            yield
        finally:
            await app.state.media.close()
            await run_in_threadpool(manager.stop)

    app = FastAPI(
        title="Stationmaster",
        version="1",
        description="What is wanted, what is, and the runs that bring the second to the first.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.manager = manager
    # innermost, so that a hello does not go through it; it leaves streams of events alone
    app.add_middleware(GZipMiddleware, compresslevel=6)
    app.add_middleware(Straight, operations={("POST", stations.HELLO_PATH): stations.hello})
    app.add_middleware(Door)
    app.add_middleware(Observed, count=manager.requests.count)
    problems.install(app)
    app.router.routes.extend(_routes())
    pages.install(app)
    app.openapi = functools.partial(openapi.document_of, app)  # type: ignore[method-assign]
    return app
