"""The agent against managers: enrolment, hellos, a manager that is away, clocks, goodbyes."""

import datetime
import ipaddress
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api import enrolment
from api.access import Principal
from api.tables import Station
from station.agent import LONGEST_PAUSE
from station.agent_manager import SigningClock
from station.config import ConfigError
from tests.api.stations_kit import host_key, put_served

CHECKOUT = Path(__file__).resolve().parents[2]
ADMIN = Principal("test", "admin", None, "here")


def accept(near, name="hall-a-cam"):
    with near.manager.database.writing() as session:
        enrolment.accept(near.registry, session, ADMIN, name, None)


def rotate(near, leaked=False):
    with near.manager.database.writing() as session:
        enrolment.rotate(near.registry, session, ADMIN, "hall-a-cam", leaked)


def test_with_its_rooms_token_it_enrols_at_once_and_says_hello(near, box):
    manager = near()
    agent = box.agent(manager.url, token=manager.token())
    assert agent.turn() == 0
    path = box.root / "state/identity.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert box.identity()["claim"] is None
    assert 0 < agent.turn() <= 5
    view = manager.view()
    assert (view.said["station"], view.state, view.presence) == ("hall-a-cam", "new", "present")
    assert view.id == box.identity()["id"]
    assert host_key("hall-a-cam") in manager.registry.known_hosts.read_text()


def test_without_a_token_it_asks_until_an_operator_accepts_also_after_a_restart(near, box):
    manager = near()
    assert 1 < box.agent(manager.url).turn() <= enrolment.ASK_AGAIN
    claim = box.identity()["claim"]
    agent = box.agent(manager.url)
    agent.turn()
    assert box.identity()["claim"] == claim
    accept(manager)
    assert agent.turn() == 0
    agent.turn()
    assert manager.view().presence == "present"


def test_a_secret_that_was_lost_on_the_way_is_asked_for_with_a_new_claim(near, box):
    manager = near()
    agent = box.agent(manager.url)
    agent.turn()
    first = box.identity()["claim"]
    accept(manager)
    with manager.manager.database.writing() as session:
        session.query(Station).one().claimed_at = 1.0
    agent.turn()
    agent.turn()
    assert box.identity()["claim"] not in (None, first)
    accept(manager)
    assert agent.turn() == 0


def test_it_fetches_a_rotated_secret_by_itself(near, box):
    manager = near()
    agent = box.agent(manager.url, token=manager.token())
    agent.turn()
    agent.turn()
    before = box.identity()["secret"]
    rotate(manager)
    assert agent.turn() == 0
    assert box.identity()["secret"] != before
    agent.turn()
    assert manager.view().presence == "present"


def test_once_it_is_disowned_it_enrols_anew_and_waits(near, box):
    manager = near()
    agent = box.agent(manager.url, token=manager.token())
    agent.turn()
    agent.turn()
    rotate(manager, leaked=True)
    for _ in range(4):
        agent.turn()
    assert box.identity()["claim"]
    accept(manager)
    agent.turn()
    agent.turn()
    assert manager.view().said["boot_id"] == agent.boot


def test_a_manager_that_is_away_is_asked_less_often_and_at_spread_times(box):
    box.keep(type("Machine", (), {"id": "12345678-1234", "secret": "00" * 32}))
    agent = box.agent("http://127.0.0.1:9")
    pauses = [agent.turn() for _ in range(12)]
    assert all(pause <= LONGEST_PAUSE for pause in pauses)
    assert max(pauses[:2]) <= 7.5
    assert min(pauses[-4:]) >= LONGEST_PAUSE / 2
    assert len({round(pause, 3) for pause in pauses[-6:]}) > 1


def test_a_manager_that_is_killed_and_comes_back_hears_it_again(serve, box):
    manager = serve()
    box.keep(put_served(manager))
    agent = box.agent(manager.url)
    assert agent.turn() <= 5
    manager.stop(signal.SIGKILL)
    agent.turn()
    assert agent._failures == 1
    manager.start()
    agent.turn()
    assert agent._failures == 0


def test_after_a_restart_of_the_agent_its_hellos_are_no_replay(near, box):
    manager = near()
    box.agent(manager.url, token=manager.token()).turn()
    for _ in range(3):
        agent = box.agent(manager.url)
        agent.turn()
        assert agent._failures == 0


def test_a_clock_that_is_wrong_or_goes_backwards_costs_no_hello(near, box):
    manager = near()
    box.agent(manager.url, token=manager.token()).turn()
    offset = [-3600.0]
    agent = box.agent(manager.url, SigningClock(wall=lambda: time.time() + offset[0]))
    for jump in (-3600.0, 1e6, -1e9):
        offset[0] = jump
        agent.turn()
        assert agent._failures == 0
        assert manager.view().presence == "present"


def certificate(folder, name, address="127.0.0.1"):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(encoding))
    (folder / f"{name}.key").write_bytes(private)
    return str(folder / f"{name}.pem"), str(folder / f"{name}.key")


def test_only_the_manager_with_the_given_certificate_is_spoken_to(near, box, tmp_path):
    own, key = certificate(tmp_path, "manager")
    other, _ = certificate(tmp_path, "other")
    manager = near(ssl_certfile=own, ssl_keyfile=key)
    for wrong in ({"certificate": other}, {}):
        agent = box.agent(manager.url, token=manager.token(), **wrong)
        agent.turn()
        assert agent._failures == 1
        assert "certificate" in agent._told.lower()
    assert box.agent(manager.url, token=manager.token(), certificate=own).turn() == 0
    elsewhere = box.agent(manager.url.replace("127.0.0.1", "localhost"), certificate=own)
    elsewhere.turn()
    assert elsewhere._failures == 1
    with pytest.raises(ConfigError):
        box.agent(manager.url, certificate=str(tmp_path / "missing.pem"))


@pytest.mark.parametrize(("system", "presence"), [("stopping", "shutdown"), ("running", "present"), ("", "present")])
def test_it_says_goodbye_when_the_machine_goes_down_and_only_then(near, box, system, presence):
    manager = near()
    agent = box.agent(manager.url, token=manager.token())
    agent.turn()
    agent.turn()
    (box.said / "system").write_text(system + "\n")
    agent._goodbye()
    assert manager.view().presence == presence


def test_an_answer_that_is_none_of_ours_is_survived(box, tmp_path):
    box.keep(type("Machine", (), {"id": "12345678-1234", "secret": "00" * 32}))
    import http.server
    import threading

    answers = [b"", b"[]", b"<html>", b"{", b'{"next_hello_after": "x"}', b'{"next_hello_after": -1}', b"[" * 70000]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            content = answers[0]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        agent = box.agent(f"http://127.0.0.1:{server.server_port}")
        while answers:
            assert 0.2 <= agent.turn() <= LONGEST_PAUSE
            answers.pop(0)
            if not answers:
                break
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_damaged_identity_is_one_that_has_nothing(near, box):
    manager = near()
    (box.root / "state/identity.json").write_text('{"id": "x", "secret": "not hex"')
    assert box.agent(manager.url, token=manager.token()).turn() == 0


def test_without_a_managers_address_it_says_so_and_waits(box):
    agent = box.agent("")
    assert agent.turn() == LONGEST_PAUSE
    assert "event_manager_url" in agent._told


def test_as_a_process_it_says_hello_and_ends_when_asked(serve, tmp_path):
    manager = serve()
    macs = subprocess.run(
        [sys.executable, "-c", "from station import agent_machine; print(*agent_machine.macs())"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    machine = put_served(manager, macs=macs or ["02:00:00:00:01:0a"])
    import json

    (tmp_path / "identity.json").write_text(json.dumps({"id": machine.id, "secret": machine.secret, "claim": None}))
    config = {"role": "agent", "instance": "station", "station": "hall-a-cam", "options": {"manager": manager.url}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "station.agent", "--config", str(tmp_path / "config.json")],
        cwd=CHECKOUT, env={**os.environ, "STATE_DIRECTORY": str(tmp_path)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        assert "knows the station as new" in line
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stderr.close()
