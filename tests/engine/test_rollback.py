"""Going back to a generation: which one, and what its difference tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
INGEST = "stationmaster-ingest@main.service"
ENCODE = "stationmaster-encode@talks.service"
LOGO = "etc/encode/talks/files/logo.png"


@pytest.fixture
def grown(station, bundle):
    """A station with three generations: `c`, `second` and `third`, each with another secret."""
    station.apply(bundle)
    for config in ("second", "third"):
        bundle.unit("encode", "talks", config=config)
        bundle.unit("upload", "archive", secret=f"tr0ub4dor-{config}")
        station.apply(bundle)
    return station


def told(result):
    return "".join(part["prepared"] for part in result["diff"])


@pytest.mark.parametrize("check", [True, False])
def test_the_difference_is_from_what_is_to_what_was(grown, check):
    result = grown.verb("rollback", check=check, diff=True)
    assert (result["result"], result["restarted"]) == ("changed", [ENCODE, "stationmaster-upload@archive.service"])
    assert "-third\n+second\n" in told(result)
    assert f"--- before: units/{ENCODE}\n+++ after: units/{ENCODE}\n" in told(result)
    assert grown.layout.current_number() == (3 if check else 2)


def test_nobody_who_does_not_ask_is_told_a_difference(grown):
    assert "diff" not in grown.verb("rollback", check=True)


def test_a_difference_shows_no_secret(grown):
    result = grown.verb("rollback", check=True, diff=True)
    assert "secrets/upload/archive/secrets.json: (secret changed)\n" in told(result)
    assert "tr0ub4dor" not in json.dumps(result)


def test_a_number_names_the_generation(grown):
    assert "-third\n+c\n" in told(grown.verb("rollback", generation="1", check=True, diff=True))
    assert grown.verb("rollback", generation="1")["generation"] == 1
    assert (grown.current / "etc/encode/talks/config.json").read_text() == "c"


def test_what_a_held_unit_keeps_is_no_difference(grown, bundle):
    bundle.unit("ingest", live=True, config="fourth")
    grown.apply(bundle)
    grown.verb("on-air", minutes=60)
    result = grown.verb("rollback", generation="2", check=True, diff=True)
    assert result["held"] == [{"unit": INGEST, "reason": "on air"}]
    assert "-third\n+second\n" in told(result)
    assert "fourth" not in told(result)


def test_what_is_no_text_or_too_long_is_only_named(grown, bundle):
    bundle.add(LOGO, b"\x89PNG\0\xff")
    bundle.add("etc/encode/talks/files/long.txt", b"a line\n" * 40_000)
    grown.apply(bundle)
    whole = told(grown.verb("rollback", check=True, diff=True))
    assert f"{LOGO}: other content\n" in whole
    assert "etc/encode/talks/files/long.txt: other content\n" in whole
    assert "PNG" not in whole


def test_the_playbook_hands_on_number_check_and_difference(grown, tmp_path):
    shell = tmp_path / "shell"
    # what would run on the station runs here, below the test's folder
    shell.write_text(f"""#!/bin/sh\nexec /bin/sh -c "$(printf %s "$2" | sed 's#r=sys.argv.1.#r="{grown.root}"#')"\n""")
    shell.chmod(0o755)
    variables = {"ansible_connection": "local", "ansible_shell_executable": str(shell)}
    inventory = {"rooms": {"hosts": {"hall-a-cam": variables}}}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory))
    command = [
        Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "inventory.yml",
        "playbooks/rollback.yml", "--check", "--diff", "-e", json.dumps({"generation": 1, "author": "ada"}),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-third\n+c\n" in done.stdout
    assert "(secret changed)" in done.stdout
    assert "tr0ub4dor" not in done.stdout
    assert grown.layout.current_number() == 3
