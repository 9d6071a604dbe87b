"""The pictures of the documentation: each is there, is shown, and is made by a test, so that none grows old unseen."""

import re
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
FOLDER = TOP / "docs/pictures"
MAKERS = [TOP / "tests/pages/test_lab.py", TOP / "tests/visuals/test_screen.py"]


def shown() -> dict[Path, str]:
    """Every picture that a page shows, with its text for who cannot see it."""
    return {
        (page.parent / place).resolve(): text
        for page in PAGES
        for text, place in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text("utf-8"))
    }


def test_each_is_beside_the_documentation_and_has_a_text():
    assert shown(), "the documentation shows no picture"
    for path, text in shown().items():
        assert path.parent == FOLDER, f"{path} is not in {FOLDER}"
        assert path.suffix == ".png", path
        assert text.strip(), f"{path.name} has no text"


def test_each_that_is_shown_is_there():
    missing = sorted(path.name for path in shown() if not path.is_file())
    assert not missing, f"docs/pictures lacks {', '.join(missing)}: run `make pictures`"


def test_each_that_is_there_is_shown():
    assert not sorted(path.name for path in FOLDER.glob("*") if path not in shown())


def test_each_is_made_by_a_test():
    text = "".join(path.read_text("utf-8") for path in MAKERS)
    made = re.findall(r'\bpicture\(\w+, "([a-z-]+)"\)', text)
    assert len(made) == len(set(made)), "two tests make a picture of the same name"
    assert {path.stem for path in shown()} <= set(made)
