"""What the demo says at its end."""

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

from stationmaster import demo, inventory


def test_it_tells_how_to_open_the_manager_in_a_browser_and_in_a_terminal(monkeypatch, capsys):
    played, asked = [], []
    event = inventory.load(demo.TOP / "inventory")
    monkeypatch.setattr(demo, "playbook", lambda _chosen, name, *_arguments: played.append(name))

    def run(command, **_more):
        asked.append(command[-1])
        return SimpleNamespace(returncode=0, stdout="smt_secret\n")

    monkeypatch.setattr(subprocess, "run", run)
    demo.show_manager(str(demo.TOP / "inventory"), event, time.monotonic())
    told = capsys.readouterr().out
    assert played == ["playbooks/manager.yml"]
    assert asked == ["stationmaster-manager token create --scope admin --note demo"]
    address = f"https://{event.stations[event.settings['manager']].address}:8443"
    assert f"open {address} in a browser and sign in with this token" in told
    assert "\n  smt_secret\n" in told
    assert f"export STATIONMASTER_MANAGER={address}\n" in told
    assert "STATIONMASTER_TOKEN=smt_secret\n" in told
    assert str(Path(".state/manager") / event.name / "ca.pem") in told


def test_an_inventory_without_a_manager_is_told_nothing_of_one(monkeypatch, capsys):
    event = inventory.load(demo.TOP / "inventory")
    del event.settings["manager"]
    demo.show_manager(str(demo.TOP / "inventory"), event, time.monotonic())
    assert "browser" not in capsys.readouterr().out
