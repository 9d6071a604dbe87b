"""Between Ansible and the applier: requests, results, the table, the payload."""

from __future__ import annotations

import json
import stat
import subprocess

import pytest

from stationmaster import deploy, payload, table
from stationmaster.memory import Memory
from tests.engine.kit import Bundle

ENCODE = "stationmaster-encode@talks.service"


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        ({"tags": ["encode"]}, {}, "--tags encode"),
        ({"tags": ["apply", "encode"]}, {}, "--tags encode"),
        ({"skip_tags": ["ingest"]}, {}, "--skip-tags ingest"),
        ({"tags": ["all"]}, {"role": "encode"}, "-e role=encode"),
        ({}, {"unit": ENCODE}, "-e unit="),
    ],
)
def test_a_partial_apply_is_refused(arguments, variables, words):
    with pytest.raises(deploy.Refused, match="whole station") as caught:
        deploy.refuse_partial_apply(arguments, variables)
    assert words in str(caught.value)


@pytest.mark.parametrize("arguments", [{}, {"tags": ["all"]}, {"tags": ["apply"]}, {"skip_tags": ["provision"]}])
def test_a_whole_apply_is_not_refused(arguments):
    deploy.refuse_partial_apply(arguments, {})
    assert not deploy.only_provision(arguments)


@pytest.mark.parametrize("arguments", [{"tags": ["provision"]}, {"skip_tags": ["apply"]}])
def test_provision_alone_leaves_the_bundle_out(arguments):
    deploy.refuse_partial_apply(arguments, {})
    assert deploy.only_provision(arguments)


def test_the_author_is_told_or_the_person_at_the_keyboard(monkeypatch):
    assert deploy.author({"author": "grace"}) == "grace"
    monkeypatch.setenv("SUDO_USER", "ada")
    assert deploy.author({}).startswith("ada@")


@pytest.mark.parametrize(("given", "meant"), [(True, True), ("yes", True), ("no", False), (False, False)])
def test_an_operators_word_is_read_as_meant(given, meant):
    assert deploy.base_request("apply", {"interrupt": given}, False, False)["interrupt"] is meant


def test_on_air_needs_minutes_and_verbs_are_a_fixed_list():
    with pytest.raises(deploy.Refused, match="minutes=60"):
        deploy.verb_request("on-air", {}, False, False)
    with pytest.raises(deploy.Refused, match="no verb 'reboot'"):
        deploy.verb_request("reboot", {}, False, False)
    assert deploy.verb_request("on-air", {"minutes": "0"}, False, False)["minutes"] == "0"


def test_results_become_what_the_recap_counts():
    quiet = {"result": "unchanged", "changed": [], "restarted": [], "failed": None}
    assert deploy.answer(quiet)["changed"] is False
    assert deploy.answer({**quiet, "result": "held"})["changed"] is False
    assert deploy.answer({**quiet, "restarted": [ENCODE], "result": "changed"})["changed"] is True
    failed = {"unit": ENCODE, "why": "failed: exit-code", "journal": ["a"], "went_back_to": 3}
    told = deploy.answer({**quiet, "result": "failed", "failed": failed})
    assert told["failed"] is True
    assert "Went back to generation 3" in told["msg"]
    refused = deploy.answer({"result": "refused", "error": {"error": "Locked", "message": "by ada"}})
    assert (refused["failed"], refused["changed"], refused["msg"]) == (True, False, "Locked: by ada")


def test_a_station_asks_for_provision_once():
    asks = {"result": "needs_provision", "provision": {"hash": "h", "packages": [], "users": []}}
    told = deploy.answer(asks)
    assert told["add_group"] == deploy.NEEDS_PROVISION
    assert told["ansible_facts"]["stationmaster_provision"]["hash"] == "h"
    again = deploy.answer(asks, after_provision=True)
    assert again["failed"] is True
    assert "add_group" not in again


def test_a_diff_is_where_ansible_looks_for_it():
    told = deploy.answer({"result": "changed", "changed": ["x"], "diff": [{"prepared": "+1\n"}]})
    assert told["diff"] == [{"prepared": "+1\n"}]
    assert "diff" not in told["stationmaster"]


def test_the_table_shows_what_matters_and_no_empty_columns():
    results = {
        "b": {"result": "unchanged"},
        "a": {
            "result": "changed",
            "changed": ["x", "y"],
            "restarted": [ENCODE],
            "held": [{"unit": "stationmaster-ingest@main.service", "reason": "on air"}],
            "notes": ["mind the gap"],
        },
    }
    lines = table.rows(results)
    assert lines[1].split() == ["station", "result", "changed", "restarted", "held"]
    assert lines[2].split() == ["a", "changed", "2", "files", "encode@talks", "ingest@main:", "on", "air"]
    assert lines[3].split() == ["b", "unchanged"]
    assert lines[4] == "a: mind the gap"


def test_the_table_ends_with_the_journal_of_what_failed():
    failed = {"unit": ENCODE, "why": "failed", "journal": ["it hurts"]}
    lines = table.rows({"a": {"result": "failed", "failed": failed}})
    assert lines[-2:] == [f"a: the journal of {ENCODE}:", "    it hurts"]


def test_status_shows_each_unit_and_what_else_there_is_to_know(station, bundle):
    station.apply(bundle)
    station.verb("on-air", minutes=5)
    (station.current / "units/stationmaster.target").write_text("x")
    lines = table.rows({"cam": station.verb("status"), "gone": {"result": "unreachable"}})
    text = "\n".join(lines)
    assert [line.split() for line in lines[2:5]] == [
        ["cam", "encode@talks", "active"],
        ["cam", "ingest@main", "active", "live"],
        ["cam", "upload@archive", "active"],
    ]
    assert "cam: on air" in text
    assert "cam: 1 files were changed by hand" in text
    assert "gone" in text


def test_payloads_are_for_the_operators_eyes_only(tmp_path):
    from stationmaster import catalogue
    from stationmaster.model import Event, Station

    event = Event("e", "E", str(tmp_path), {}, {"one": Station("one", None, "10.0.0.1", None, [], {})})
    assert catalogue.load().roles
    request = deploy.base_request("apply", {}, False, False)
    deploy.render_all(event, ["one"], request, tmp_path, "r1")
    path = deploy.payload_path(tmp_path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_carried_engine_answers_and_writes_nothing_before_it_may(tmp_path):
    root = tmp_path / "station"
    (root / "proc").mkdir(parents=True)
    bundle = Bundle()
    bundle.unit("encode", "talks")
    request = {**deploy.base_request("apply", {}, False, False), "manifest": bundle.manifest()}
    data = payload.Packer().pack(request, bundle.blobs)
    done = subprocess.run(["sh", "-c", payload.command(str(root))], input=data, capture_output=True, check=True)
    result = payload.parse(["Last login: today", *done.stdout.decode().splitlines()])
    assert result["result"] == "needs_provision"
    assert [path.name for path in root.iterdir()] == ["proc"]


def test_a_payload_is_completed_with_what_the_station_asks_for(tmp_path):
    root = tmp_path / "station"
    bundle = Bundle()
    bundle.unit("encode", "talks")
    video = bundle.add("etc/encode/talks/files/intro.mp4", bytes(300_000))
    digest = bundle.files[video]["sha256"]
    small = {name: data for name, data in bundle.blobs.items() if name != digest}
    request = {**deploy.base_request("apply", {}, True, True), "manifest": bundle.manifest()}
    data = payload.complete(payload.Packer().pack(request, small), {digest: bundle.blobs[digest]})
    done = subprocess.run(["sh", "-c", payload.command(str(root))], input=data, capture_output=True, check=True)
    result = payload.parse(done.stdout.decode().splitlines())
    assert {"prepared": f"{video}: other content\n"} in result["diff"]
    assert any("+# stationmaster-encode@talks.service" in part["prepared"] for part in result["diff"])


def test_no_result_among_the_lines():
    assert payload.parse(["sudo: a password is required"]) is None


def test_a_fault_is_told_in_the_one_form(station, bundle):
    station.systemd.glance = None
    result = station.apply(bundle)
    assert (result["result"], result["error"]["error"]) == ("failed", "Fault")
    json.dumps(result)


def test_memory_is_kept_with_a_key_of_its_own(tmp_path):
    first, second = Memory(tmp_path / "a"), Memory(tmp_path / "b")
    digest = first.digest("x", "secret")
    assert digest not in first
    first.add(digest)
    assert digest in Memory(tmp_path / "a")
    assert second.digest("x", "secret") != digest
    assert stat.S_IMODE((tmp_path / "a/key").stat().st_mode) == 0o600
    assert first.digest("xs", "ecret") != digest


def test_memory_does_without_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "below")
    memory.add(memory.digest("x"))
    assert memory.digest("x") in memory
