"""The archive of code that the manager is deployed from: what its page loads is in it, and not where that came from."""

import re
import tarfile

import pytest

from stationmaster import manager_package
from stationmaster.manager_package import CHECKOUT, PackageError

PAGES = "api/pages"
LOADS = '<script src="/static/vendor/one.js" defer></script>'


@pytest.fixture
def checkout(tmp_path):
    """A checkout with nothing but a page that loads one file."""
    files = {
        "templates/base.html.j2": LOADS,
        "static/page.js": "",
        "static/vendor/one.js": "1",
        "node_modules/one/dist/one.js": "1",
        "__init__.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "checkout" / PAGES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "checkout"


def names(archive) -> set[str]:
    with tarfile.open(archive) as tar:
        return set(tar.getnames())


def test_the_code_has_what_the_page_loads_and_not_where_it_came_from(checkout, tmp_path):
    found = names(manager_package.code(checkout, tmp_path / "build"))
    assert found == {
        f"{PAGES}/{name}"
        for name in ("__init__.py", "templates/base.html.j2", "static/page.js", "static/vendor/one.js")
    }


def test_the_code_of_this_checkout_is_whole(tmp_path):
    found = names(manager_package.code(folder=tmp_path))
    assert not [name for name in found if "node_modules" in name]
    for top in ("templates", "static"):
        for path in (CHECKOUT / PAGES / top).rglob("*"):
            assert path.is_dir() or str(path.relative_to(CHECKOUT)) in found
    loaded = {
        one
        for path in (CHECKOUT / PAGES / "templates").iterdir()
        for one in re.findall(r'(?:src|href)="/static/([^"]+)"', path.read_text("utf-8"))
    }
    assert {f"{PAGES}/static/{one}" for one in loaded} <= found
    fetched = re.search(r"^FRONT_END := (.+)$", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {f"vendor/{one.rpartition('/')[2]}" for one in fetched[1].split()} == {
        one for one in loaded if one.startswith("vendor/")
    }


def test_without_what_the_page_loads_nothing_is_packed(checkout, tmp_path):
    (checkout / PAGES / "static/vendor/one.js").unlink()
    with pytest.raises(PackageError, match=r"vendor/one\.js; run 'make venv'"):
        manager_package.code(checkout, tmp_path / "build")
    assert not (tmp_path / "build").exists()
