"""The commands that are the manager's clients, against a served manager that runs real playbooks."""

import http.server
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import threading

import pytest

from api.certificates import ensure
from api.run_states import ENDED
from stationmaster import client, follow, plain
from stationmaster.cli import main
from stationmaster.commands import logs
from tests import plain_http
from tests.api.conftest import CHECKOUT, Served
from tests.api.run_kit import shell, wait_for
from tests.api.small_event import SmallEvent
from tests.api.stations_kit import Machine, put_served
from tests.api.test_logs import MAIN, at, receive

EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
"""Retitles a terminal's window, clears it, turns the direction of writing and colours."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A served manager on a small event, with journals and tokens."""
    top = tmp_path_factory.mktemp("client")
    event = SmallEvent(top / "project")
    receive(top / "journals", "10.0.0.1", [("a1", n, MAIN, f"line {n}") for n in range(3)] + [("a1", 3, "x", EVIL)])
    made = Served(
        top / "data", "-i", str(event.inventory), STATIONMASTER_PROJECT=str(event.folder),
        STATIONMASTER_JOURNALS=str(top / "journals"),
    )  # fmt: skip
    made.event = event
    made.tokens = {
        name: made.token(*words)["Authorization"].removeprefix("Bearer ")
        for name, words in {
            "read": ["read"], "operate": ["operate"], "admin": ["admin"], "hall_b": ["operate", "--room", "hall_b"],
        }.items()
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {made.tokens['read']}"}
    made.read = lambda: wait_for(
        lambda: plain_http.get(f"{made.url}/v1/inventory", headers=headers).json()["in_force"], 100
    )
    made.read()
    yield made
    made.stop(signal.SIGKILL)


@pytest.fixture
def command(world, monkeypatch, capsys):
    """Run a command as somebody; gives exit code, output and errors."""
    monkeypatch.setenv("STATIONMASTER_MANAGER", world.url)

    def run(*arguments: str, scope: str = "admin") -> tuple[int, str, str]:
        monkeypatch.setenv("STATIONMASTER_TOKEN", world.tokens.get(scope, scope))
        code = main(arguments)
        told = capsys.readouterr()
        for text in told:
            assert all(line.isprintable() for line in text.split("\n")), text
        return code, told.out, told.err

    yield run
    world.event.playbook("apply", shell("true"))


# --- runs


def test_apply_tells_where_its_run_is_and_runs_how_it_went(world, command):
    code, out, err = command("apply", "hall_a", scope="operate")
    assert (code, err) == (0, "")
    assert out.startswith(f"{world.url}/v1/runs/")
    identity = out.strip().rpartition("/")[2]
    code, out, _ = command("runs", identity, "--watch", scope="read")
    assert code == 0, out
    code, out, _ = command("runs", identity, scope="read")
    assert code == 0
    assert "apply hall_a" in out
    for station in ("a1", "a2", "a3"):
        assert f"\n{station}       ok" in out
    code, out, _ = command("runs", scope="read")
    assert code == 0
    assert identity in out.splitlines()[1]
    assert command("runs", "--station", "b1", "--json", scope="read")[1].count(identity) == 0


def test_watch_shows_each_station_until_the_end(world, command):
    world.event.playbook("apply", shell("echo x", name="First"), shell("echo y", name="Second", changed_when=True))
    code, out, err = command("apply", "--everything", "--watch", scope="operate")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for station in ("a1", "b3"):
        assert f"{station}: working  First" in lines
        assert f"{station}: working  Second" in lines
        assert f"{station}: changed" in lines
    assert lines[0].startswith("apply ")
    assert any(line.endswith(": succeeded") for line in lines)


def test_a_run_that_fails_is_told_with_place_and_exit_1(world, command):
    failing = shell(f"printf '%s' '{EVIL}' >&2; exit 3", name="Break", when="inventory_hostname == 'a2'")
    world.event.playbook("apply", failing)
    code, out, err = command("apply", "hall_a", "--watch")
    assert code == 1
    assert "a2: failed  " in out
    assert "a1: skipped" in out or "a1: ok" in out
    assert "at site.yml" in err
    assert "'Break'" in err
    identity = out.split()[1].rstrip(":")
    assert command("runs", identity)[0] == 1
    world.event.playbook("apply", shell("true"))
    code, out, _ = command("runs", identity, "--retry", "--watch")
    assert code == 0
    assert "a1" not in out
    code, _, err = command("runs", identity.replace(identity[-1], "0" if identity[-1] != "0" else "1"), "--retry")
    assert (code, "There is no run" in err) == (2, True)


def test_json_is_all_that_is_printed_and_has_no_control_characters(world, command):
    world.event.playbook("apply", shell(f"printf '%s' '{EVIL}\x7f' >&2; exit 3"))
    code, out, _ = command("apply", "a1", "--watch", "--json")
    told = json.loads(out)
    assert (code, told["state"], list(told["results"])) == (1, "failed", ["a1"])
    code, out, _ = command("apply", "a1", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["address"].endswith(json.loads(out)["id"])
    code, out, _ = command("apply", "a9", "--json")
    assert (code, json.loads(out)["exit"]) == (2, 2)


def test_a_run_can_be_canceled_and_says_so(world, command):
    world.event.playbook("apply", shell("touch {{ trace }}/.begun; sleep 60"))
    identity = json.loads(command("apply", "hall_b", "--json")[1])["id"]
    wait_for(lambda: (world.event.trace / ".begun").exists())
    code, out, err = command("runs", identity, "--cancel", "--watch")
    assert (code, out.count(": canceled")) == (1, 1), (out, err)
    assert json.loads(command("runs", identity, "--json")[1])["state"] == "canceled"
    code, _, err = command("runs", identity, "--cancel")
    assert (code, "The run has ended" in err) == (2, True)


def test_a_restart_of_the_manager_does_not_end_a_watch(world, command, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 110)
    world.event.playbook("apply", shell(f"while [ ! -e {world.event.trace}/.go ]; do sleep 0.1; done"))
    identity = json.loads(command("apply", "b1", "--json")[1])["id"]
    wait_for(lambda: json.loads(command("runs", identity, "--json")[1])["state"] == "running")

    watched, show = threading.Event(), follow.Screen.show

    def shown(*arguments):
        watched.set()
        show(*arguments)

    def restart():
        watched.wait(60)
        world.stop(signal.SIGKILL)
        world.start()
        (world.event.trace / ".go").touch()
        world.read()

    monkeypatch.setattr(follow.Screen, "show", shown)
    thread = threading.Thread(target=restart)
    thread.start()
    code, out, _ = command("runs", identity, "--watch")
    thread.join()
    assert code == 0, out


@pytest.mark.parametrize("state", ENDED)
def test_every_end_of_a_run_has_its_exit_code(state):
    codes = {"succeeded": 0, "unreachable": 6, "cancel_unverified": 5, "lost": 5}
    assert follow.exit_of({"state": state}) == codes.get(state, 1)


def test_on_a_terminal_the_table_is_drawn_over_itself(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")
    screen, out = (follow.Screen(made := Terminal()), made)
    stations = {f"s{n}": follow.Progress() for n in range(3)}
    screen.show("apply X: running", stations)
    stations["s0"].see("runner_on_start", {"task": EVIL + "x" * 99})
    screen.show("apply X: running", stations)
    first, second = out.getvalue().split("\x1b[5A\x1b[J")
    for drawn in (first, second):
        assert "\x1b" not in drawn
        assert all(len(line) <= 40 for line in drawn.splitlines())
    assert "working" in second
    screen.show("apply X: running", {f"s{n}": follow.Progress() for n in range(30)})
    assert out.getvalue().endswith("… 28 more\n")


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "scope", "code", "told"),
    [
        (["apply"], "admin", 2, "--everything"),
        (["apply", "hall_a", "--everything"], "admin", 2, "--everything"),
        (["apply", "hall-a"], "admin", 2, "hall_a"),
        (["apply", "all"], "admin", 2, "group"),
        (["apply", "*"], "admin", 2, "no name"),
        (["apply", "a1,b1"], "admin", 2, "no name"),
        (["status", "a1?x=1"], "admin", 2, "no name"),
        (["runs", ".."], "admin", 2, "no name"),
        (["runs", "x"], "admin", 2, "run_id"),
        (["runs", "--watch"], "admin", 2, "ID"),
        (["accept", "../../tokens"], "admin", 2, "no name"),
        (["logs", "nobody"], "read", 2, "nobody"),
        (["logs", "a1", "--lines", "0"], "read", 2, "--lines"),
        (["status", "hall_z"], "read", 2, "hall_a, hall_b"),
        (["apply", "hal_a"], "admin", 2, "neither a room nor a station 'hal_a'; did you mean 'hall_a'?"),
        (["apply", "nobody"], "admin", 2, "neither a room nor a station 'nobody'. 'stationmaster status'"),
        (["apply", "hall_a"], "read", 3, "operate"),
        (["apply", "hall_a"], "hall_b", 3, "hall_b"),
        (["apply", "--everything"], "hall_b", 3, "hall_b"),
        (["apply", "hall_a", "--interrupt"], "operate", 3, "admin"),
        (["accept", "a1"], "operate", 3, "admin"),
        (["status"], "smt_wrong", 3, "token"),
        (["status"], "", 2, "STATIONMASTER_TOKEN"),
        (["status"], "smt_a b", 2, "token"),
        (["status", "--manager", "http://127.0.0.1:9"], "read", 4, "127.0.0.1:9"),
        (["status", "--manager", "ftp://127.0.0.1"], "read", 2, "https://"),
        (["status", "--ca", "/nowhere"], "read", 2, "/nowhere"),
        (["status", "--token-file", "/nowhere"], "read", 2, "/nowhere"),
    ],
)
def test_refusals_say_what_to_do_and_have_their_exit_code(command, arguments, scope, code, told):
    found, out, err = command(*arguments, scope=scope)
    assert (found, out) == (code, ""), err
    assert err.startswith("stationmaster: ")
    assert told in err


@pytest.mark.parametrize("words", [["--token", "smt_x"], ["--tok", "smt_x"], ["--token=smt_x"]])
def test_a_token_is_no_argument(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["status", *words])
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_every_client_command_tells_its_exit_codes(capsys):
    for name in ("status", "apply", "runs", "logs", "accept"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert client.EXITS in capsys.readouterr().out


def test_the_page_about_the_manager_tells_the_same_exit_codes():
    page = (CHECKOUT / "docs/manager.md").read_text()
    for line in client.EXITS.splitlines()[1:]:
        code, _, meaning = line.strip().partition(" ")
        assert f"| {code} | {meaning.strip().partition(';')[0]}" in page


# --- who answers


class Stranger(http.server.BaseHTTPRequestHandler):
    """What else may listen on a port."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works</html>" if "html" in self.path else b"[]")

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger():
    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_who_is_no_manager_is_not_taken_for_one(stranger):
    with client.Client(f"http://127.0.0.1:{stranger.server_port}", "smt_x") as asked:
        assert asked.get("/v1/stations") == []
        with pytest.raises(client.Unreachable):
            asked.get("/html")
        with pytest.raises(client.Refused) as caught:
            asked.post("/v1/runs", {})
    assert caught.value.code == client.NO_MANAGER


def test_a_certificate_that_nobody_knows_is_refused_unless_named(stranger, tmp_path):
    ensure(tmp_path, ["127.0.0.1", "localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    stranger.socket = context.wrap_socket(stranger.socket, server_side=True)
    url = f"https://127.0.0.1:{stranger.server_port}"
    with client.Client(url, "smt_x") as asked, pytest.raises(client.Unreachable, match="--ca"):
        asked.get("/v1/stations")
    authority = next(path for path in sorted(tmp_path.glob("*.pem")) if "CA:TRUE" in certificate(path))
    with client.Client(url, "smt_x", str(authority)) as asked:
        assert asked.get("/v1/stations") == []


def certificate(path) -> str:
    command = ["openssl", "x509", "-in", str(path), "-noout", "-text"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


# --- stations and journals


def test_a_machine_that_waits_is_shown_and_accepted(world, command):
    machine = Machine("a2", macs=["02:00:00:00:01:0b"])
    with plain_http.Client(base_url=world.url) as http:
        assert machine.enrol(http).status_code == 202
        code, out, _ = command("status", scope="read")
        assert code == 0
        waiting = next(line for line in out.splitlines() if line.startswith("waiting: "))
        assert all(word in waiting for word in ("a2", "02:00:00:00:01:0b", machine.id))
        code, out, _ = command("accept", "a2")
        assert code == 0
        assert "a2 is the machine a2" in out
        assert machine.enrol(http).status_code == 201
    code, out, _ = command("status", "hall_a", scope="read")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["a1", "a2", "a3"]
    assert "waiting: " not in out
    told = json.loads(command("status", "--json", scope="read")[1])
    assert {one["name"]: one["state"] for one in told}["a2"] == "new"
    code, _, err = command("accept", "a2")
    assert (code, "waits to be a2" in err) == (2, True)


def test_logs_are_read_by_unit_and_time_and_cannot_touch_the_terminal(world, command):
    put_served(world, "a1", macs=["02:00:00:00:01:0a"])
    code, out, err = command("logs", "a1", scope="read")
    assert code == 0, err
    assert [line.rpartition(": ")[2] for line in out.splitlines()[:3]] == ["line 0", "line 1", "line 2"]
    assert out.splitlines()[3].endswith(r"\x1b]0;owned\x07\x1b[2J\u202e\x9b31m")
    lines = command("logs", "a1", "--unit", "ingest/main", "--since", at(2), scope="read")[1].splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["line 2"]
    assert len(json.loads(command("logs", "a1", "--lines", "2", "--json", scope="read")[1])["entries"]) == 2


@pytest.mark.parametrize("text", ["10m", "2h", "1d", "30s", "2026-01-02T03:04", "2026-01-02 03:04:05+02:00"])
def test_times_are_ages_or_iso(text):
    assert logs.moment(text)


@pytest.mark.parametrize("text", ["", "x", "-5m", "5 minutes", "999999999d", "25:00"])
def test_other_times_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["logs", "a1", f"--since={text}"])
    assert "neither an age" in capsys.readouterr().err


def test_plain_text_is_one_printable_line():
    assert plain.plain("grüße 会議 ✓") == "grüße 会議 ✓"
    for number in range(0x110000):
        assert plain.plain(chr(number)).isprintable()
    assert plain.table(["A", "B"], [[None, "x\ny"], ["aa", 3]]) == ["A   B", r"    x\ny", "aa  3"]


def test_as_a_program_it_takes_the_token_from_a_file(world, tmp_path):
    (tmp_path / "token").write_text(world.tokens["read"] + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "stationmaster", "status", "--manager", world.url, "--token-file", tmp_path / "token"],
        cwd=CHECKOUT, env={k: v for k, v in os.environ.items() if not k.startswith("STATIONMASTER_")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "hall_a  a1" in done.stdout
