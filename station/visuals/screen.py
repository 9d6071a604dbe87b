"""The screen page: `GET /screen/<room>`, a full-screen page for a browser at a room's door.

Its files are static; only the version, by which an old page knows that it is old, and the default domain are filled
in. The page needs no network once it is loaded: it goes on by the programme that it got. To be loaded again without
a network it would need a service worker, which browsers allow only with HTTPS; so a browser should not restart then.
"""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

from aiohttp import web

from station.static_page import INDEX, StaticPage

STATIC_FILES = ("screen/index.html", "screen/screen.css", "screen/clock.js", "screen/pictures.js", "screen/screen.js")
ROOM = re.compile(r"[\w.-]{1,64}", re.ASCII)
DOMAIN = re.compile(r"[^/\x00-\x1f\x7f]{1,253}")


class Screen(StaticPage):
    """The page's files, read once. `domain` is the default of the query's `domain`."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        super().__init__(Path(__file__).parent, STATIC_FILES, pictures="http: https: data:")
        total = hashlib.sha256()
        for name, content in self.files.items():
            total.update(f"{name}\0{len(content)}\0".encode() + content)
        self.version = total.hexdigest()[:12]

    async def page(self, request: web.Request) -> web.Response:
        """Answer the page of a room."""
        domain = request.query.get("domain", self._domain)
        if not ROOM.fullmatch(request.match_info["room"]) or not DOMAIN.fullmatch(domain):
            raise web.HTTPNotFound(text="no such screen\n")
        text = self.files[INDEX].decode()
        filled = {"@VERSION@": self.version, "@DOMAIN@": domain, "@ROOM@": request.match_info["room"]}
        text = re.sub("|".join(filled), lambda found: html.escape(filled[found[0]]), text)
        return self.html(text.encode())
