"""Reading the stations' journals, from real files that systemd-journal-remote wrote."""

import subprocess
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from api import logs
from api.settings import Settings
from tests.api.conftest import Api

REMOTE = "/lib/systemd/systemd-journal-remote"
BEGIN = 1_700_000_000
MAIN = "stationmaster-ingest@main.service"


def export(entries) -> bytes:
    """A journal's export stream; each entry is host, second, unit and message, or further fields."""
    out = b""
    for host, second, unit, message, *more in entries:
        fields = {
            "__REALTIME_TIMESTAMP": f"{(BEGIN + second) * 1_000_000}",
            "__MONOTONIC_TIMESTAMP": f"{second * 1_000_000 + 7}",
            "_BOOT_ID": "1c9e8e1f0a7c4b6e8d2f3a4b5c6d7e8f", "_MACHINE_ID": f"{abs(hash(host)):032x}"[:32],
            "_HOSTNAME": host, "_SYSTEMD_UNIT": unit, "PRIORITY": "4", "_PID": "42", "SYSLOG_IDENTIFIER": "python3",
            **(more[0] if more else {}),
        }  # fmt: skip
        out += "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
        raw = message if isinstance(message, bytes) else message.encode()
        out += b"MESSAGE\n" + len(raw).to_bytes(8, "little") + raw + b"\n\n"
    return out


def receive(folder, source, entries) -> None:
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [REMOTE, f"--output={folder}/remote-{source}.journal", "-"],
        input=export(entries), check=True, capture_output=True,
    )  # fmt: skip


CAM = [("cam", second, MAIN if second % 2 else "ssh.service", f"line {second}") for second in range(10)]


@pytest.fixture
def api(tmp_path):
    folder = tmp_path / "journals"
    made = Api(Settings(data=tmp_path / "data", journals=folder))
    names = {"enc": "box-17", "evil": "x\n--directory=/", "silent": ""}
    views = {name: SimpleNamespace(name=name, said={"hostname": host} if host else {}) for name, host in names.items()}
    made.manager.registry = SimpleNamespace(view=views.get, assigned={"cam": True, "off": False}.get)
    receive(folder, "10.0.0.1", CAM)
    receive(folder, "10.0.0.2", [("box-17", 3, MAIN, "of enc"), ("enc", 4, MAIN, "of enc too")])
    yield made  # not started: who asks gets the parts above
    made.manager.database.close()


def read(api, name="cam", status=200, **asked):
    answer = api.get(f"/v1/stations/{name}/journal", params=asked, headers=api.token("read"))
    assert answer.status_code == status, answer.text
    return answer.json()


def messages(answer):
    return [entry["message"] for entry in answer["entries"]]


def at(second) -> str:
    return datetime.fromtimestamp(BEGIN + second, UTC).isoformat()


def test_a_station_has_its_own_lines_only(api):
    assert messages(read(api)) == [f"line {second}" for second in range(10)]
    assert messages(read(api, "enc")) == ["of enc", "of enc too"]
    assert messages(read(api, "silent")) == messages(read(api, "evil")) == []
    first = read(api)["entries"][1]
    assert first | {"cursor": ""} == {
        "cursor": "", "time": "2023-11-14T22:13:21.000Z", "unit": MAIN, "identifier": "python3", "pid": 42,
        "level": "warning", "message": "line 1",
    }  # fmt: skip


def test_unit_time_and_number_of_lines(api):
    assert messages(read(api, unit=MAIN)) == ["line 1", "line 3", "line 5", "line 7", "line 9"]
    assert messages(read(api, lines=2)) == ["line 8", "line 9"]
    assert messages(read(api, unit=MAIN, lines=2)) == ["line 7", "line 9"]
    assert messages(read(api, since=at(3), until=at(5))) == ["line 3", "line 4", "line 5"]
    assert messages(read(api, since=at(3), lines=1)) == ["line 9"]
    assert messages(read(api, until=at(5), lines=2)) == ["line 4", "line 5"]
    assert messages(read(api, since=at(100))) == []
    assert messages(read(api, until="0001-01-01T00:00:00Z")) == []
    assert len(messages(read(api, until="9999-12-31T23:59:59Z"))) == 10


def test_what_follows_is_read_with_the_cursor(api, tmp_path):
    first = read(api, until=at(3))
    seen, after = messages(first), first["after"]
    while True:
        more = read(api, after=after, lines=2)
        if not more["entries"]:
            break
        seen += messages(more)
        after = more["after"]
    assert seen == [f"line {second}" for second in range(10)]
    receive(tmp_path / "journals", "10.0.0.1", [("cam", 20, MAIN, "new")])
    assert messages(read(api, after=after)) == ["new"]


def test_a_line_that_came_twice_is_told_once(api, tmp_path):
    receive(tmp_path / "journals", "10.0.0.1", CAM[-3:])
    assert messages(read(api)) == [f"line {second}" for second in range(10)]
    last = read(api, until=at(7))
    assert messages(read(api, after=last["after"])) == ["line 8", "line 9"]


def test_what_a_station_sends_is_only_text(api, tmp_path):
    odd = [
        ("cam", 30, MAIN, b"\xff\xfe binary"), ("cam", 31, MAIN, "two\nlines\n{{ template }}"),
        ("cam", 32, MAIN, "x" * 100_000), ("cam", 33, MAIN, "odd", {"PRIORITY": "boom", "_PID": "minus"}),
    ]  # fmt: skip
    receive(tmp_path / "journals", "10.0.0.1", odd)
    found = read(api, since=at(30))["entries"]
    assert found[0]["message"] == "\ufffd\ufffd binary"
    assert found[1]["message"] == "two\nlines\n{{ template }}"
    assert len(found[2]["message"]) < 5000
    assert (found[3]["level"], found[3]["pid"]) == ("info", None)


@pytest.mark.parametrize(
    "asked",
    [
        {"unit": "--directory=/"}, {"unit": "*"}, {"unit": "a b"}, {"unit": ""}, {"unit": "x" * 300},
        {"after": "s=1"}, {"after": "--all"}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"lines": 0},
        {"lines": logs.LINES + 1},
    ],
)  # fmt: skip
def test_what_is_no_name_time_or_cursor_is_refused(api, asked):
    assert read(api, status=422, **asked)["code"] == "InvalidRequest"


def test_an_unknown_station_and_no_journals_are_404(api, tmp_path):
    for name in ("nobody", "off"):
        assert read(api, name, status=404)["code"] == "NotFound"
    for path in (tmp_path / "journals").iterdir():
        path.unlink()
    assert read(api)["entries"] == []
    (tmp_path / "journals").rmdir()
    assert read(api, status=404)["code"] == "NoJournals"


def test_a_search_ends(api, monkeypatch):
    monkeypatch.setattr(logs, "SECONDS", 0.0)
    monkeypatch.setattr(logs, "_started", lambda command: original(["sleep", "60"]))
    assert read(api, status=422)["code"] == "SearchTooLarge"


original = logs._started


def test_searches_side_by_side_are_few(api, monkeypatch):
    monkeypatch.setattr(logs, "SECONDS", 0.01)
    for _ in range(3):
        logs.AT_ONCE.acquire()
    try:
        assert read(api, status=429)["code"] == "TooManySearches"
    finally:
        for _ in range(3):
            logs.AT_ONCE.release()
