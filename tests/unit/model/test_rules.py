"""Every rule is broken by at least one case in tests/data/rules, and holds in the inventory without mistakes.

A case changes files of tests/data/inventory (`files`: the whole text, or null
to remove it; `replace`: parts of one) and lists the findings to `expect`, each
as the members that matter. `rule` names the rule function that finds it:
without that rule the finding must be gone.
"""

from pathlib import Path

import pytest
import yaml

from stationmaster import rules

CASES = sorted((Path(__file__).parents[2] / "data" / "rules").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text())


def prepare(folder, case):
    for name, text in case.get("files", {}).items():
        path = folder / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, parts in case.get("replace", {}).items():
        text = (folder / name).read_text()
        for old, new in parts.items():
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        (folder / name).write_text(text)


def fits(finding, expected):
    for key, value in expected.items():
        if key == "message":
            if any(part not in finding["message"] for part in ([value] if isinstance(value, str) else value)):
                return False
        elif key == "file":
            if not (finding["file"] or "").endswith(value):
                return False
        elif finding[key] != value:
            return False
    return True


def test_no_mistakes(check, folder):
    assert check(folder) == []


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path, check, folder, monkeypatch):
    case = load(path)
    prepare(folder, case)
    found = check(folder)
    for expected in case["expect"]:
        assert any(fits(finding, expected) for finding in found), [finding["message"] for finding in found]
    if not case.get("more"):
        assert len(found) == len(case["expect"]), [finding["message"] for finding in found]
    rule = case.get("rule")
    if rule is not None:
        assert rule in {item.__name__ for item in rules.RULES}
        monkeypatch.setattr(rules, "RULES", tuple(item for item in rules.RULES if item.__name__ != rule))
        left = check(folder)
        assert any(not any(fits(finding, expected) for finding in left) for expected in case["expect"])


def test_every_rule_has_a_case():
    broken = {load(path).get("rule") for path in CASES}
    assert {item.__name__ for item in rules.RULES} <= broken
