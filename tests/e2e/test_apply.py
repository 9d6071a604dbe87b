"""The engine among real media: what restarts and what does not, what is held, taken back and repaired."""

import json
import random
import time

import pytest

from tests.e2e.stage import AGENT, CAM, CAM_B, ENC, HOME, SPARE, Watch, merged, unbroken

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

MAIN = "ingest/main"


def changed_units(before, after):
    return sorted(unit for unit in before.keys() | after.keys() if before.get(unit) != after.get(unit))


def files(stage, station):
    """The checksum of each file of the current generation."""
    return stage.out(station, f"cd {HOME}/current/ && find . -type f ! -name bundle.json | sort | xargs sha256sum")


def test_one_option_restarts_one_unit(stage):
    before, other = stage.invocations(ENC), stage.invocations(CAM)
    stage.want({ENC: {"encode": {"talks": {"mp4": {"crf": 30}}}}})
    play = stage.site(only="hall_a")
    assert changed_units(before, stage.invocations(ENC)) == ["encode@talks"]
    assert stage.invocations(CAM) == other
    assert (play.changed(ENC), play.changed(CAM)) == (1, 0)
    assert "encode@talks" in play.stdout[play.stdout.index("PLAY RECAP") :]
    assert '"crf": 30' in stage.out(ENC, f"cat {HOME}/current/etc/encode/talks/config.json")


def test_titles_reach_the_stations_without_a_restart(stage):
    """They stand in a file that programs read again; nobody's recording is cut for a spelling mistake."""
    before = stage.invocations(CAM_B), stage.invocations(ENC)
    stage.want(event={"event_title": "A better title"}, rooms={"hall_b": {"room_title": "The Hall"}})
    play = stage.site()
    assert (stage.invocations(CAM_B), stage.invocations(ENC)) == before
    assert play.changed(CAM_B) == 1
    context = json.loads(stage.read(CAM_B, f"{HOME}/current/etc/ingest/main/context.json"))
    assert (context["event"]["title"], context["room"]["title"]) == ("A better title", "The Hall")


def test_a_failing_unit_takes_the_station_back_and_is_named(stage):
    before, was = stage.invocations(ENC), files(stage, ENC)
    stage.run(ENC, "touch /srv/stationmaster/encode/second")  # where its folder has to go
    try:
        stage.want({ENC: {"encode": {"second": {"from": f"{CAM}/main"}, "talks": {"mp4": {"crf": 31}}}}})
        play = stage.site(only=f"{ENC},{CAM}", check=False)
    finally:
        stage.run(ENC, "rm -f /srv/stationmaster/encode/second")
    assert play.status
    assert (play.recap[ENC]["failed"], play.recap[CAM]["failed"]) == (1, 0)
    table = play.stdout[play.stdout.index("PLAY RECAP") :]
    assert "encode@second" in table
    assert "went back to generation" in table
    assert "install" in table  # its journal
    assert files(stage, ENC) == was
    after = stage.invocations(ENC)
    assert set(after) == set(before)
    assert set(changed_units(before, after)) <= {"encode@talks", AGENT}


def test_rollback_stays_until_the_inventory_changes(stage):
    was = files(stage, ENC)
    stage.want({ENC: {"encode": {"talks": {"mp4": {"crf": 32}}}}})
    stage.site(only=ENC)
    assert files(stage, ENC) != was
    stage.playbook("playbooks/rollback.yml", "-l", ENC, reason="it looked worse")
    assert files(stage, ENC) == was
    play = stage.site(only=ENC)
    assert play.changed(ENC) == 0
    assert "it looked worse" in play.stdout
    stage.want({ENC: {"encode": {"talks": {"mp4": {"crf": 33}}}}})
    assert stage.site(only=ENC).changed(ENC) == 1


def test_drift_is_repaired(stage):
    """A unit that somebody stopped, one that somebody edited, and nothing else."""
    before = stage.invocations(ENC)
    unit = f"{HOME}/current/units/stationmaster-encode@talks.service"
    stage.run(
        ENC, f"systemctl stop stationmaster-upload@archive; sed -i s/^Nice=.*/Nice=19/ {unit}; systemctl daemon-reload"
    )
    play = stage.site(only=ENC)
    assert play.changed(ENC) == 1
    assert "drift" in play.stdout
    after = stage.invocations(ENC)
    assert set(after) == set(before)
    assert "upload@archive" in changed_units(before, after)
    assert not {"record@copy", "web@station"} & set(changed_units(before, after))
    assert "Nice=19" not in stage.out(ENC, "systemctl cat stationmaster-encode@talks")
    assert stage.site(only=ENC).changed(ENC) == 0


CHANGES = [
    lambda dice: ("roles", {CAM: {"ingest": {"main": {"video": {"bitrate": dice.randrange(300, 900)}}}}}),
    lambda dice: ("roles", {CAM: {"ingest": {"main": {"preview": {"every": dice.randrange(1, 9)}}}}}),
    lambda dice: ("roles", {CAM: {"ingest": {"main": {"audio": {"silence": -dice.randrange(40, 60)}}}}}),
    lambda dice: ("roles", {CAM: {"ingest": {"main": {"retention": {"hours": dice.randrange(1, 99)}}}}}),
    lambda dice: ("roles", {CAM: {"web": {"station": {"port": dice.randrange(8081, 8099)}}}}),
    lambda dice: ("roles", {CAM: {"script": {f"s{dice.randrange(3)}": {"program": "/usr/bin/sleep", "options": {}}}}}),
    lambda dice: ("roles", {CAM: {"script": None}}),
    lambda dice: ("roles", {ENC: {"encode": {"talks": {"mp4": {"crf": dice.randrange(15, 30)}}}}}),
    lambda dice: ("roles", {ENC: {"record": {"copy": {"parallel": dice.randrange(1, 8)}}}}),
    lambda dice: ("roles", {ENC: {"upload": {"archive": {"rate_limit": f"{dice.randrange(1, 9)}M"}}}}),
    lambda dice: ("event", {"event_title": f"Conference {dice.randrange(99)}"}),
    lambda dice: ("event", {"event_role_defaults": {"ingest": {"audio": {"bitrate": dice.choice([96, 128, 192])}}}}),
    lambda dice: ("rooms", {"hall_a": {"room_title": f"Hall {dice.randrange(99)}"}}),
]


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.soak)])
@pytest.mark.timeout(600)
def test_on_air_no_change_is_seen(stage, count):
    """Whatever is asked for, a viewer sees no break; what waits is listed, and comes when the room is off air."""
    seed = time.time_ns() % 10_000
    dice = random.Random(seed)  # noqa: S311 - for variety, not for secrets
    first = stage.grown(CAM, MAIN, 1)[-1].seq
    before, encoders = stage.invocations(CAM), stage.ffmpeg(CAM, "ingest@main")
    wanted = {"roles": {}, "event": {}, "rooms": {}}
    stage.playbook("playbooks/on-air.yml", "-l", "hall_a", minutes=60)
    try:
        with Watch(stage, CAM, MAIN) as watch:
            for number in range(count):
                # among few changes, too, there is one that would restart the camera
                kind, change = CHANGES[0](dice) if number == 0 else dice.choice(CHANGES)(dice)
                wanted[kind] = merged(wanted[kind], change)
                stage.want(**wanted)
                play = stage.site(only="hall_a")
                assert not play.recap[CAM]["failed"], f"seed {seed}, change {number}: {change}"
            assert "ingest@main: on air" in play.stdout, play.stdout
            stage.grown(CAM, MAIN, 2)
        shown = f"seed {seed}: {wanted}"
        assert watch.playlists and not watch.breaks(), shown
        assert watch.missed == 0, shown
        now = stage.invocations(CAM)
        assert (now["ingest@main"], now["web@station"]) == (before["ingest@main"], before["web@station"]), shown
        assert stage.ffmpeg(CAM, "ingest@main") == encoders, shown
        assert unbroken(segment for segment in stage.segments(CAM, MAIN) if segment.seq >= first), shown
        state = json.loads(stage.read(CAM, f"{HOME}/state.json"))
        assert "stationmaster-ingest@main.service" in [entry["unit"] for entry in state["held"]]
        assert stage.site(only="hall_a").changed(CAM) == 0
    finally:
        stage.playbook("playbooks/on-air.yml", "-l", "hall_a", minutes=0)
    play = stage.site(only=CAM)
    assert play.changed(CAM) == 1
    assert stage.invocations(CAM)["ingest@main"] != before["ingest@main"]
    assert not json.loads(stage.read(CAM, f"{HOME}/state.json"))["held"]
    assert f'"bitrate": {wanted["roles"][CAM]["ingest"]["main"]["video"]["bitrate"]}' in stage.out(
        CAM, f"cat {HOME}/current/etc/ingest/main/config.json"
    )


ROLE = """\
summary: Says something again and again.
description: A role of the crew's own, in one folder.
options:
  type: object
  additionalProperties: false
  required: [text]
  properties:
    text: {description: What it says., type: string}
    every: {description: Seconds between two times., type: integer, minimum: 1, default: 1}
files:
  - {name: say.py, template: say.py.j2}
units:
  - command: [/usr/bin/python3, -u, "{{ etc }}/say.py"]
    type: exec
    watchdog: false
    network: false
"""
PROGRAM = """\
import time
while True:
    print({{ options.text | tojson }}, "on", {{ station.name | tojson }})
    time.sleep({{ options.every }})
"""


def test_a_new_station_role_is_one_folder(stage, tmp_path, monkeypatch):
    """Validated, documented, rendered, started and pruned, with no other edit."""
    role = tmp_path / "own/town-crier"
    (role / "templates").mkdir(parents=True)
    (role / "role.yml").write_text(ROLE)
    (role / "templates/say.py.j2").write_text(PROGRAM)
    monkeypatch.setenv("STATIONMASTER_ROLES", str(tmp_path / "own"))

    assert "town-crier" in [line.split()[0] for line in stage.tool("roles").stdout.splitlines()]
    assert "town-crier" in json.dumps(json.loads(stage.tool("schema").stdout))
    code = "from stationmaster import reference; print(*reference.pages().values())"
    page = stage.python("-c", code).stdout
    assert "## town-crier" in page
    assert "Seconds between two times." in page

    stage.want({SPARE: {"town-crier": {"oyez": {"txet": "Hear ye", "every": 0}}}})
    found = json.loads(stage.tool("check", "--json", "-i", stage.inventory, check=False).stdout)["findings"]
    assert {(one["role"], one["suggestion"]) for one in found} >= {("town-crier", "text")}
    assert any(one["path"][-1] == "every" or one["path"].endswith("every") for one in found)

    stage.want({SPARE: {"town-crier": {"oyez": {"text": 'Hear "ye" 100%'}}}})
    assert stage.tool("check", "-i", stage.inventory).returncode == 0
    assert "town-crier" in stage.tool("explain", SPARE, "-i", stage.inventory).stdout
    assert stage.site(only=SPARE).changed(SPARE)
    assert set(stage.invocations(SPARE)) == {"town-crier@oyez", AGENT}
    stage.wait(SPARE, "journalctl -u stationmaster-town-crier@oyez | grep -qF 'Hear \"ye\" 100% on spare'", 20)
    assert stage.out(SPARE, "ps -o user= -C python3 | sort -u") == "sm-town+" or "sm-town" in stage.out(
        SPARE, "getent passwd"
    )
    assert stage.site(only=SPARE).changed(SPARE) == 0

    stage.want()
    assert "removed town-crier@oyez" in stage.site(only=SPARE).stdout
    assert set(stage.invocations(SPARE)) == {AGENT}
    assert "town-crier" not in stage.out(SPARE, f"find -L /usr/local/lib/systemd {HOME}/current/")
    stage.touched.clear()
