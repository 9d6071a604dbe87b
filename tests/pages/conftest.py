"""A manager whose queue stands still, and somebody who signs in to it."""

import re

import pytest

from api.access import create_token
from tests.api.small_event import Scene

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene(tmp_path_factory.mktemp("pages"))
    yield made
    made.close()


@pytest.fixture
def browser(scene):
    scene.api.cookies.clear()
    scene.api.follow_redirects = False
    scene.api.headers.update(HTML)
    yield scene.api
    scene.api.cookies.clear()


def signed_in(scene, browser, scope="read", **more):
    identity, token = create_token(scene.manager.database, scope, **more)
    browser.cookies.clear()
    answer = browser.post("/sign-in", data={"token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    return identity, token, answer


def word_of(browser):
    return re.search(r'name="word" value="([^"]+)"', browser.get("/").text)[1]
