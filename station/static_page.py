"""A page made of static files of this program, and of no other server's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

INDEX = "index.html"
TYPES = {".css": "text/css", ".js": "text/javascript"}


class StaticPage:
    """The files, read once; a module names its own in STATIC_FILES, by which they travel to stations.

    Args:
        folder: of the module.
        names: the files, relative to it; one is `index.html`.
        pictures: where they may come from (img-src of its content security policy).
        connections: with whom its scripts may speak (connect-src).
    """

    def __init__(self, folder: Path, names: Iterable[str], *, pictures: str, connections: str = "'self'") -> None:
        self.files = {Path(name).name: (folder / name).read_bytes() for name in names}
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; "
                f"img-src {pictures}; connect-src {connections}; base-uri 'none'; form-action 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    def html(self, body: bytes) -> web.Response:
        """Return the answer of a page, such as `index.html` with something filled in."""
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=self._headers)

    async def index(self, request: web.Request) -> web.Response:
        """Answer the page as it is."""
        return self.html(self.files[INDEX])

    async def file(self, request: web.Request) -> web.Response:
        """Answer the style or script that the path's `name` says. Raises HTTPNotFound."""
        name = request.match_info["name"]
        kind = TYPES.get(Path(name).suffix)
        if name not in self.files or kind is None:
            raise web.HTTPNotFound(text="no such file\n")
        return web.Response(body=self.files[name], content_type=kind, charset="utf-8", headers=self._headers)
