"""Visuals on real stations: two that share a broker, one of them killed, cut off or without power."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

from tests.labkit import Lab, until
from tests.visuals.stomp_client import Client

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
NETWORK = "10.95.31"
TOKEN = "a-token-of-the-lab-1"
PASSWORD = "a-password-of-the-lab"
BROKER = "a-password-of-the-broker"
CHANNEL = "/topic/dab/ce1/ce15/c221/0/"
SILENCE, CHECK = 6, 3
VISUALS = {
    "token": TOKEN,
    "brokers": ["north/main"],
    "broadcasters": {
        "1": {
            "users": {"studio": PASSWORD},
            "channels": [
                {
                    "topic": CHANNEL,
                    "name": "One",
                    "picture": "http://192.0.2.1/one.png",
                    "text": "One",
                    "link": "http://192.0.2.1/",
                }
            ],
        }
    },
}
BOTH = ["north/main", "south/main"]
STATIONS = {
    "north": {
        "station_roles": {
            "broker": {"main": {"password": BROKER}},
            "visuals": {"main": VISUALS},
            "fallback": {"main": {"from": BOTH, "silence": SILENCE, "check": CHECK}},
        }
    },
    "south": {
        "station_roles": {
            "visuals": {"main": VISUALS},
            "fallback": {"main": {"from": BOTH, "silence": SILENCE, "check": CHECK}},
            "signage": {"main": {"to": BOTH}},
        }
    },
}
UNITS = {
    "north": ["broker", "visuals", "fallback"],
    "south": ["visuals", "fallback", "signage"],
}


@pytest.fixture(scope="module")
def lab():
    with Lab.of(NETWORK, STATIONS) as lab:
        play = lab.playbook("site.yml")
        assert play.changed("north") and play.changed("south")
        yield lab


@pytest.fixture
def connect(lab):
    """Open a connection to visuals on a station; all are closed at the end."""
    opened = []

    def connect(station, login="", passcode=""):
        client = Client(lab.address(station), 61613, login=login, passcode=passcode)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def studio(connect, station):
    return connect(station, "1.studio", PASSWORD)


def active(lab, station, role):
    return lab.run(station, f"systemctl is-active stationmaster-{role}@main.service", check=False).stdout.strip()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - an address of the lab
        return answer.read()


def test_every_unit_runs_and_a_second_run_changes_nothing(lab):
    for station, roles in UNITS.items():
        for role in roles:
            assert active(lab, station, role) == "active", lab.run(
                station, f"journalctl -u stationmaster-{role}@main"
            ).stdout
    play = lab.playbook("site.yml")
    assert play.changed("north") == play.changed("south") == 0


def test_a_confirmed_message_reaches_the_other_instance_and_is_the_last_value_on_both(lab, connect):
    radio = connect("south")
    radio.subscribe(CHANNEL + "text", no_last=True)
    studio(connect, "north").send(CHANNEL + "text", b"TEXT from the north", receipt=True)
    assert radio.wait_for(b"TEXT from the north", 10)
    for station in UNITS:
        late = connect(station)
        late.subscribe(CHANNEL + "text")
        assert late.wait_for(b"TEXT from the north", 10)


def test_silence_brings_the_default_and_the_other_watchdog_takes_over(lab, connect):
    radio = connect("south")
    radio.subscribe(CHANNEL + "image", no_last=True)
    assert radio.wait_for(b"SHOW http://192.0.2.1/one.png", SILENCE + CHECK + 10)
    lab.run("north", "systemctl stop stationmaster-fallback@main")
    try:
        radio.messages()
        assert radio.wait_for(b"SHOW http://192.0.2.1/one.png", SILENCE + 2 * CHECK + 10)
    finally:
        lab.run("north", "systemctl start stationmaster-fallback@main")


def test_a_killed_broker_costs_nobody_a_message_or_a_connection(lab, connect):
    radio, sender = connect("south"), studio(connect, "south")
    radio.subscribe(CHANNEL + "text", no_last=True)
    lab.run("north", "systemctl kill --signal=KILL stationmaster-broker@main")
    sender.send(CHANNEL + "text", b"TEXT sent meanwhile", receipt=True, seconds=60)
    assert radio.wait_for(b"TEXT sent meanwhile", 20)
    assert until(lambda: active(lab, "north", "broker") == "active", 30)


def test_a_power_cut_of_one_station_leaves_the_other_and_comes_back_whole(lab, connect):
    radio = connect("south")
    radio.subscribe(CHANNEL + "text", no_last=True)
    studio(connect, "north").send(CHANNEL + "text", b"TEXT before the cut", receipt=True)
    assert radio.wait_for(b"TEXT before the cut", 10)
    lab.power_cut("north")
    late = connect("south")
    late.subscribe(CHANNEL + "text")
    assert late.wait_for(b"TEXT before the cut", 20)
    lab.boot("north")
    assert until(lambda: active(lab, "north", "visuals") == "active", 60)
    studio(connect, "south").send(CHANNEL + "text", b"TEXT after the cut", receipt=True, seconds=60)
    assert radio.wait_for(b"TEXT after the cut", 20)
    back = connect("north")
    back.subscribe(CHANNEL + "text")
    assert back.wait_for(b"TEXT after the cut", 30)


def test_a_room_has_its_sign_and_its_screen(lab, connect):
    radio = connect("north")
    radio.subscribe("/topic/id/test/hall_x/image")
    assert until(lambda: radio.seen(b"SHOW "), 20)
    url = next(re.findall(rb"SHOW (\S+)", body)[0] for body in radio.bodies if body.startswith(b"SHOW ")).decode()
    assert url.startswith(f"http://{lab.address('south')}:8080/signage/main/")
    picture = get(url)
    assert picture[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0") and len(picture) <= 50 << 10
    for station in UNITS:
        assert b"<html" in get(f"http://{lab.address(station)}:8061/screen/hall_x")


def test_no_secret_is_in_a_unit_a_log_or_a_readable_file(lab):
    script = (
        "journalctl --no-pager; systemctl cat 'stationmaster-*'; cat /proc/[0-9]*/cmdline;"
        " find /var/lib/stationmaster/current/etc /srv/stationmaster /run/stationmaster -type f -perm -o+r"
        " -exec cat {} +"
    )
    for station in UNITS:
        text = lab.run(station, script, check=False).stdout
        assert "stationmaster-visuals" in text
        for secret in (TOKEN, PASSWORD, BROKER):
            assert secret not in text


def test_metrics_and_health_are_told(lab):
    for station in UNITS:
        assert json.loads(get(f"http://{lab.address(station)}:8061/healthz"))
        assert b"stationmaster_visuals_" in get(f"http://{lab.address(station)}:8061/metrics")
