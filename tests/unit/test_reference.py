"""The documentation is true: generated pages are current, and the README names what exists."""

import re
from pathlib import Path

import pytest

from stationmaster import reference

TOP = Path(__file__).resolve().parent.parent.parent


GENERATED = [path for path in sorted(TOP.glob("docs/*.md")) if path.read_text("utf-8").startswith(reference.NOTICE)]
"""By their first line: making them to know their names would cost every process that collects tests a second."""


@pytest.fixture(scope="module")
def pages():
    return reference.pages()


@pytest.mark.parametrize("page", GENERATED, ids=lambda path: path.name)
def test_page_is_current(pages, page):
    assert page.read_text("utf-8") == pages[f"docs/{page.name}"], "run `make docs`"


def test_every_generated_page_is_there(pages):
    assert {f"docs/{page.name}" for page in GENERATED} == set(pages)


def test_every_playbook_says_what_it_is_for():
    for path in [TOP / "site.yml", *(TOP / "playbooks").glob("*.yml")]:
        text = path.read_text("utf-8").removeprefix("---\n")
        assert text.startswith("# "), f"{path} opens with no comment that says what it does"


def test_every_path_in_the_readme_exists():
    text = (TOP / "README.md").read_text("utf-8")
    for name in re.findall(r"`([a-z_]+/[A-Za-z0-9_./<>*-]+)`", text):
        pattern = re.sub(r"<[a-z-]+>", "*", name).rstrip("/")
        assert list(TOP.glob(pattern)), f"README.md names {name}, which is not there"


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text("utf-8"), re.MULTILINE))
    for name in re.findall(r"`make ([a-z-]+)", (TOP / "README.md").read_text("utf-8")):
        assert name in targets, f"README.md names `make {name}`"
