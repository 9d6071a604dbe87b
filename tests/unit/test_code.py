"""Which files travel with a program: those that it imports, and those that its modules name."""

import pytest

from stationmaster import code


@pytest.fixture
def package(tmp_path):
    files = {
        "__init__.py": "",
        "door.py": 'from station import screen\n\nSTATIC_FILES = ["door.txt"]\n',
        "door.txt": "at the door",
        "screen.py": 'STATIC_FILES = ("screen/index.html", "screen/screen.js")\n',
        "screen/index.html": "<p>",
        "screen/screen.js": "1",
        "screen/notes.txt": "stays here",
        "other.py": "",
    }
    folder = tmp_path / "station"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    code.closure.cache_clear()
    return folder


def test_what_a_module_names_travels_with_it(package):
    names = ("__init__.py", "door.py", "door.txt", "screen.py", "screen/index.html", "screen/screen.js")
    found = code.closure("station.door", package)
    assert list(found) == [f"station/{name}" for name in names]
    assert found["station/screen/index.html"] == b"<p>"


def test_a_change_of_such_a_file_is_a_change_of_the_program(package):
    before = code.digest(code.closure("station.door", package))
    (package / "screen/screen.js").write_text("2")
    code.closure.cache_clear()
    assert code.digest(code.closure("station.door", package)) != before


@pytest.mark.parametrize("name", ["screen/absent.css", "../secret", "screen"])
def test_a_file_that_is_not_in_the_folder_of_the_module_is_refused(package, name):
    (package.parent / "secret").write_text("x")
    (package / "screen.py").write_text(f"STATIC_FILES = ({name!r},)\n")
    code.closure.cache_clear()
    with pytest.raises(FileNotFoundError, match="STATIC_FILES"):
        code.closure("station.door", package)
