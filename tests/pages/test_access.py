"""Every page against everybody who might ask for it: who opens what is said once, here."""

import functools
import itertools
import threading

import pytest
from fastapi.routing import iter_route_contexts

from api.access import RANK, create_token
from api.tables import Audit, Run, Station, Token
from tests.api.small_event import Scene

HTML = {"Accept": "text/html"}
OPEN, BOARD = "open", "board"
LEAST = {
    "GET /sign-in": OPEN,
    "POST /sign-in": OPEN,
    "POST /sign-out": "read",
    "GET /": "read",
    "GET /rooms/changes": "read",
    "GET /rooms/{name}": "read",
    "POST /rooms/{name}/on-air": "operate",
    "GET /rooms/{name}/slide": "read",
    "GET /rooms/{name}/picture": "read",
    "GET /rooms/{name}/streams": "read",
    "POST /rooms/{name}/override": "operate",
    "POST /rooms/{name}/override/end": "operate",
    "GET /run/new": "operate",
    "POST /run/new": "operate",
    "GET /runs": "read",
    "GET /runs/{run_id}": "read",
    "GET /runs/{run_id}/live": "read",
    "GET /runs/{run_id}/log": "read",
    "POST /runs/{run_id}/cancel": "operate",
    "POST /runs/{run_id}/retry": "operate",
    "POST /runs/{run_id}/do": "operate",
    "GET /stations/{name}": "read",
    "GET /stations/{name}/changes": "read",
    "GET /stations/{name}/journal": "read",
    "GET /enrolment": "read",
    "GET /enrolment/news": "read",
    "GET /enrolment/{identity}/lines": "read",
    "POST /enrolment/{name}/{choice}": "admin",
    "GET /watch": "read",
    "GET /channels": "read",
    "GET /messages": "read",
    "GET /inventory": "read",
    "GET /inventory/check": "read",
    "GET /board": BOARD,
    "GET /board/changes": BOARD,
    "GET /media/{station}/{instance}/preview.jpg": "read",
    "GET /media/{station}/{instance}/{key}/latest.jpg": "read",
    "GET /media/{station}/{instance}/{path:path}": "read",
}
"""Page to the least scope that opens it; the status board opens to its own scope and to all that see everything. A new
page is added here, or the first test fails."""
CLOSED = [page for page, least in LEAST.items() if least != OPEN]
CHANGES = [page for page in CLOSED if page.startswith("POST ")]
OF_A_ROOM = [page for page in CHANGES if page != "POST /sign-out"]
OPENED = (200, 204, 303)


class Asked(Scene):
    """A scene, and requests for its pages that are right in all but perhaps who asks."""

    @functools.cached_property
    def unknown(self) -> str:
        """Id of the one machine that no line of the inventory knows."""
        return self.stranger()

    def browser(self, scope: str | None = None, room: str | None = None) -> None:
        """Begin anew as a browser that signed in with a token of a scope, or did not."""
        self.api.follow_redirects = False
        self.api.cookies.clear()
        token = create_token(self.manager.database, scope, room)[1] if scope else ""
        if scope == BOARD:
            answer = self.api.get("/board", params={"token": token}, headers=HTML)
            assert (answer.status_code, answer.headers["location"]) == (303, "/board"), answer.text
        elif scope:
            answer = self.api.post("/sign-in", data={"token": token}, headers=HTML)
            assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text

    def word(self) -> str:
        """The word of the session, as each form of a page has it."""
        _, found, rest = self.api.get("/", headers=HTML).text.partition('name="word" value="')
        return rest.partition('"')[0] if found else ""

    def prepare(self, page: str, room: str = "hall_b") -> tuple[str, str, dict]:
        """Return method, path and form of a request that concerns a room, for whose success all is there."""
        method, path = page.split(" ")
        station, form = "a1" if room == "hall_a" else "b1", {}
        if path.endswith("/on-air"):
            form = {"minutes": "5"}
        elif "/override" in path:
            form = {"text": "Soon", "minutes": "5"}
            if path.endswith("/end"):
                self.override(room)
        elif page == "POST /run/new":
            form = {"action": "apply", "target": f"room:{room}"}
        elif path.endswith("/cancel"):
            path = path.replace("{run_id}", self.run(station, "queued"))
        elif path.endswith("/do"):
            path = path.replace("{run_id}", self.dry_run(station))
        elif path.endswith("{choice}"):
            form = {"id": self.waiting(station)}
            path = path.replace("{choice}", "accept")
        elif path.endswith("/lines"):
            path = path.replace("{identity}", self.unknown)
        elif page == "POST /sign-in":
            form = {"token": create_token(self.manager.database, "read")[1]}
        if "{run_id}" in path:
            path = path.replace("{run_id}", self.run(station, "failed"))
        names = {
            "name": room if path.startswith("/rooms/") else station,
            "station": station,
            "instance": "main",
            "key": "x",
        }
        return method, path.format_map(names) if "{path:path}" not in path else f"/media/{station}/main/live.m3u8", form

    def override(self, room: str) -> None:
        """Let a message of the crew be on a room's screens."""
        headers, body = self.api.token("operate"), {"text": "Soon", "minutes": 5}
        assert self.api.post(f"/v1/rooms/{room}/override", json=body, headers=headers).status_code == 200

    def dry_run(self, station: str) -> str:
        """A dry run that showed what it would do, a moment ago."""
        identity = self.run(station, "failed")
        with self.manager.database.writing() as session:
            session.get(Run, identity).parameters = {"dry_run": True}
        return identity

    def ask(self, prepared: tuple[str, str, dict], word: str = "", **headers):
        method, path, form = prepared
        headers = {**HTML, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "GET":
            return self.api.get(path, headers=headers)
        return self.api.request(method, path, data={**form, "word": word} if word else form, headers=headers)

    def state(self) -> list:
        """All that a page could change."""
        with self.manager.database.reading() as session:
            return [
                session.query(Audit).count(),
                sorted((run.id, run.state, run.cancel_by or "") for run in session.query(Run)),
                sorted((one.id, one.enrolment, one.name or "") for one in session.query(Station)),
                sorted((one.id, one.revoked_at or 0) for one in session.query(Token)),
            ]


def way_back(prepared) -> str:
    """Where one is after signing in: on the page asked for, and for a form without its page's address on the first."""
    method, path, _form = prepared
    return path if method == "GET" else "/"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Asked(tmp_path_factory.mktemp("access"))
    # a stream of changes has no end of its own, and a client of tests waits for one
    made.manager.ending = threading.Event()
    made.manager.ending.set()
    yield made
    made.close()


def test_the_table_has_every_page(scene):
    routes = list(iter_route_contexts(scene.api.app.routes))
    served = {
        f"{method} {route.path}"
        for route in routes
        for method in route.methods or ()
        if route.endpoint.__module__.startswith("api.pages.")
    }
    assert served == set(LEAST)
    assert [route.path for route in routes if not route.methods] == ["/static"]


@pytest.mark.parametrize("page", LEAST)
def test_without_a_session_a_page_leads_to_the_sign_in_and_changes_nothing(scene, page):
    prepared = scene.prepare(page)
    cookies = {"none": {}, "forged": {"stationmaster": "WyJhIiwiYiJd.aaaa.bbbb", "stationmaster-board": "x"}}
    before = scene.state()
    for name, cookie in cookies.items():
        scene.browser()
        scene.api.cookies.update(cookie)
        answer = scene.ask(prepared, word="a word")
        fragment = scene.ask(prepared, word="a word", HX_Request="true")
        if LEAST[page] == OPEN:
            assert answer.status_code in OPENED, (name, answer.text)
        else:
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={way_back(prepared)}"), (
                name
            )
            assert (fragment.status_code, fragment.headers["hx-redirect"]) == (
                401,
                f"/sign-in?next={way_back(prepared)}",
            )
            assert not fragment.content
            assert not [one for one in (answer, fragment) if "set-cookie" in one.headers]
    assert scene.state() == before


@pytest.mark.parametrize("page", CLOSED)
def test_a_scope_opens_what_it_is_enough_for(scene, page):
    least = LEAST[page]
    for scope in (*RANK, BOARD):
        scene.browser(scope)
        prepared, word = scene.prepare(page), scene.word()
        before = scene.state()
        answer = scene.ask(prepared, word=word or "a word")
        if scope == BOARD and least != BOARD:
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={way_back(prepared)}")
        elif scope != BOARD and RANK[scope] < RANK.get(least, 0):
            assert answer.status_code == 403, (scope, answer.text)
        else:
            # 404: the small event has no pictures
            pictures = page.startswith("GET /media/") or page.endswith(("/slide", "/picture"))
            expected = (404,) if pictures else OPENED
            assert answer.status_code in expected, (scope, answer.text)
            assert not answer.headers.get("location", "").startswith("/sign-in?")
            assert page not in OF_A_ROOM or scene.state() != before
            continue
        assert scene.state() == before


@pytest.mark.parametrize("page", CHANGES)
def test_a_change_needs_the_word_of_its_session_and_our_own_site(scene, page):
    scene.browser("admin")
    foreign = scene.word()
    scene.browser("admin")
    prepared, word = scene.prepare(page), scene.word()
    before = scene.state()
    refused = [({}, ""), ({}, foreign), ({}, word[:-1]), ({"Origin": "https://evil.example"}, word)]
    for headers, sent in refused:
        assert scene.ask(prepared, word=sent, **headers).status_code == 403, (headers, sent == word)
    assert scene.state() == before
    assert scene.api.get("/", headers=HTML).status_code == 200
    assert scene.ask(prepared, word=word, Origin="http://testserver").status_code == 303


@pytest.mark.parametrize("page", OF_A_ROOM)
def test_a_token_of_one_room_changes_no_other(scene, page):
    for scope, room in itertools.product(("operate", "admin"), ("hall_a", "hall_b")):
        if RANK[scope] < RANK[LEAST[page]]:
            continue
        scene.browser(scope, "hall_a")
        prepared, word = scene.prepare(page, room), scene.word()
        before = scene.state()
        answer = scene.ask(prepared, word=word)
        assert answer.status_code == (303 if room == "hall_a" else 403), (scope, room, answer.text)
        assert (scene.state() != before) == (room == "hall_a")
