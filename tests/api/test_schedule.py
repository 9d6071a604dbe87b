"""The schedule: each format read to the same talks, hostile files refused, rooms set on air once a talk."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from api.problems import Problem
from api.schedule import LEAD, MARGIN, Schedule
from station import job
from stationmaster.model import Event, Room, Station
from stationmaster.schedule_formats import BYTES, TEXT, ScheduleError, Talk, read
from stationmaster.schedule_plan import Plan, plan_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    """Seconds since 1970 of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def event(number, room, date, start, duration, title, persons=(), **more):
    """A talk as pretalx exports it."""
    return {
        "id": number, "guid": f"0d64f8e2-0000-529f-b5ab-{number:0>12}", "logo": "", "date": date,
        "start": start, "duration": duration, "room": room, "slug": f"demo-{number}", "title": title, "subtitle": "",
        "url": f"https://talks.example.org/demo/talk/{number}/", "track": "Network", "type": "Talk", "language": "en",
        "abstract": "…", "description": "…", "recording_license": "", "do_not_record": False, "links": [],
        "persons": [{"id": 1, "code": "ABCDEF", "public_name": name, "biography": None} for name in persons], **more,
    }  # fmt: skip


def pretalx(rooms, version="0.3", zone="Europe/Berlin", **day):
    """A pretalx export with one day."""
    days = [{"index": 1, "date": "2026-07-04", "day_start": "2026-07-04T04:00:00+02:00", "rooms": rooms, **day}]
    conference = {"acronym": "demo", "title": "Demo", "time_zone_name": zone, "daysCount": 1, "days": days}
    schedule = {"version": version, "base_url": "https://talks.example.org/demo/", "conference": conference}
    return json.dumps({"$schema": "https://c3voc.de/schedule/schema.json", "schedule": schedule}).encode()


PRETALX = pretalx(
    {
        "Hall A": [
            event(25, "Hall A", "2026-07-04T10:00:00+02:00", "10:00", "00:45", "Opening", ["Ada Lovelace", "Grace"]),
            event(26, "Hall A", "2026-07-04T11:00:00+02:00", "11:00", "01:30", "Big data", do_not_record=True),
        ],
        "Hall B": [event(27, "Hall B", "2026-07-05T00:30:00+02:00", "00:30", "00:20", "Night talk")],
    }
)

FRAB_JSON = json.dumps(
    {
        "schedule": {
            "version": "1.0",
            "conference": {
                "acronym": "demo",
                "daysCount": 1,
                "days": [
                    {
                        "index": 0,
                        "date": "2026-07-04",
                        "day_start": "2026-07-04T08:00:00",
                        "rooms": {
                            "Hall A": [
                                {"id": 25, "start": "10:00", "duration": "00:45", "room": "Hall A", "title": "Opening",
                                 "language": "en", "track": "Network",
                                 "persons": [{"id": 1, "name": "Ada Lovelace"}, {"id": 2, "public_name": "Grace"}]},
                                {"id": 26, "start": "11:00", "duration": "01:30", "title": "Big data",
                                 "do_not_record": True},
                            ],
                            "Hall B": [{"id": 27, "start": "00:30", "duration": "00:20", "title": "Night talk"}],
                        },
                    }
                ],
            },
        }
    }
).encode()  # fmt: skip

FRAB_XML = b"""<?xml version='1.0' encoding='utf-8' ?>
<schedule>
  <generator name="frab" version="0.9"/>
  <version>1.0</version>
  <conference><acronym>demo</acronym><title>Demo</title><time_zone_name>Europe/Berlin</time_zone_name></conference>
  <day index="1" date="2026-07-04" start="2026-07-04T04:00:00+02:00" end="2026-07-05T04:00:00+02:00">
    <room name="Hall A">
      <event guid="a" id="25">
        <date>2026-07-04T10:00:00+02:00</date><start>10:00</start><duration>00:45</duration><room>Hall A</room>
        <slug>demo-25</slug><title>Opening</title><subtitle/><track>Network</track><language>en</language>
        <recording><license>CC</license><optout>false</optout></recording>
        <persons><person id="1">Ada Lovelace</person><person id="2">Grace</person></persons>
      </event>
      <event guid="b" id="26">
        <start>11:00</start><duration>01:30</duration><title>Big data</title>
        <recording><license/><optout>true</optout></recording>
      </event>
    </room>
    <room name="Hall B">
      <event id="27"><start>00:30</start><duration>00:20</duration><title>Night talk</title></event>
    </room>
  </day>
</schedule>
"""

ICAL = b"""BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//Demo//EN\r
X-WR-TIMEZONE:Europe/Berlin\r
BEGIN:VEVENT\r
UID:25\r
SUMMARY:Opening\r
DTSTART:20260704T080000Z\r
DTEND:20260704T084500Z\r
LOCATION:Hall A\r
ATTENDEE;CN=Ada Lovelace:mailto:ada@example.org\r
ATTENDEE;CN=Grace:mailto:grace@example.org\r
END:VEVENT\r
BEGIN:VEVENT\r
UID:26\r
SUMMARY:Big data\r
DTSTART;TZID=Europe/Berlin:20260704T110000\r
DURATION:PT1H30M\r
LOCATION:Hall A\\, first floor\r
END:VEVENT\r
BEGIN:VEVENT\r
UID:27\r
SUMMARY:Night talk\r
DTSTART:20260705T003000\r
DTEND:20260705T005000\r
LOCATION:hall_b\r
END:VEVENT\r
BEGIN:VEVENT\r
UID:28\r
STATUS:CANCELLED\r
SUMMARY:Not given\r
DTSTART:20260704T080000Z\r
DTEND:20260704T084500Z\r
LOCATION:Hall A\r
END:VEVENT\r
END:VCALENDAR\r
"""

EXPECTED = [
    ("25", "Opening", ("Ada Lovelace", "Grace"), at("2026-07-04T08:00"), at("2026-07-04T08:45")),
    ("26", "Big data", (), at("2026-07-04T09:00"), at("2026-07-04T10:30")),
    ("27", "Night talk", (), at("2026-07-04T22:30"), at("2026-07-04T22:50")),
]
SAMPLES = {"pretalx": PRETALX, "frab-json": FRAB_JSON, "frab-xml": FRAB_XML, "ical": ICAL}


@pytest.mark.parametrize("sample", SAMPLES)
def test_each_format_gives_the_same_talks(sample):
    found = read(SAMPLES[sample], BERLIN)
    assert found.remarks == []
    assert [(one.id, one.title, one.presenters, one.start, one.end) for one in found.talks] == EXPECTED
    if sample != "ical":
        assert (found.talks[0].language, found.talks[0].track) == ("en", "Network")
        assert [one.do_not_record for one in found.talks] == [False, True, False]
        assert found.version in ("0.3", "1.0")


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_talk_has_what_an_encode_job_needs(sample):
    for talk in read(SAMPLES[sample], BERLIN).talks:
        times = {name: datetime.fromtimestamp(getattr(talk, name), UTC).isoformat() for name in ("start", "end")}
        wanted = {"id": talk.id, "title": talk.title, "presenters": list(talk.presenters), **times}
        assert job.parse(wanted, ["cam/main"]).id == talk.id


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (b"[]", "neither"),
        (b"{}", "pretalx or frab"),
        (b'{"schedule": []}', "pretalx or frab"),
        (b'{"schedule": {"conference": {"days": 3}}}', "pretalx or frab"),
        (b'{"schedule": ' * 100_000, "pretalx or frab"),
        (b"<html/>", "not the XML of frab"),
        (b"<schedule>", "well-formed"),
        (b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:x\n", "iCalendar"),
        (b"\xff\xfe<\x00s\x00", "UTF-8"),
        (b" " * (BYTES + 1), "bytes"),
        (b'<!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><schedule>&b;</schedule>', "document type"),
        (b'<!DOCTYPE s SYSTEM "file:///etc/passwd"><schedule/>', "document type"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><schedule>&x;</schedule>',
         "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE s []><schedule/>'.encode("utf-16"), "UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_the_reason(data, why):
    with pytest.raises(ScheduleError, match=why):
        read(data, BERLIN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration": "-1:00"}, {"duration": "00:00"}, {"duration": "99:99:99"}, {"duration": None}, {"duration": 45},
        {"date": None, "start": "25:00"}, {"date": "2026-13-01T10:00:00+02:00", "start": None},
        {"date": "9999-12-31T23:59:59-14:00"}, {"date": "0001-01-01T00:00:00+14:00"}, {"date": {}, "start": []},
    ],
)  # fmt: skip
def test_a_talk_without_a_time_is_told_and_the_others_stay(wrong):
    good = event(1, "Hall A", "2026-07-04T10:00:00+02:00", "10:00", "00:45", "Good")
    bad = event(2, "Hall A", "2026-07-04T10:00:00+02:00", "10:00", "00:45", "Bad") | wrong
    found = read(pretalx({"Hall A": [bad, good, "no talk", None], "Hall B": 3}), BERLIN)
    assert [one.title for one in found.talks] == ["Good"]
    assert [(one.error, one.value) for one in found.remarks] == [("InvalidTalk", "2")]


def test_what_speakers_write_is_bounded_and_plain():
    hostile = "{{ lookup('pipe', 'id') }}\x1b[2J\n" + "x" * 10_000
    wrong = event("a/../b c", "Hall A", "2026-07-04T10:00:00+02:00", "", "0:23:59", hostile, [hostile, None, {}])
    wrong["persons"] += [{"name": {"de": "Ünï", "en": "Uni"}}, "Plain", 7, ["x"]]
    (talk,) = read(pretalx({"Hall A": [wrong]}), BERLIN).talks
    assert len(talk.title) == TEXT and "\x1b" not in talk.title and "\n" not in talk.title
    assert job.ID.fullmatch(talk.id)
    assert talk.presenters[1:] == ("Uni", "Plain", "7")
    assert talk.end - talk.start == 24 * 3600 - 60


def test_a_talk_of_more_than_a_day_is_refused():
    long = event(1, "Hall A", "2026-07-04T10:00:00+02:00", "", "1:02:00", "Exhibition")
    (remark,) = read(pretalx({"Hall A": [long]}), BERLIN).remarks
    assert "93600" in remark.message


def test_parts_of_a_talk_have_ids_of_their_own():
    parts = [event(1, "Hall A", f"2026-07-04T1{n}:00:00+02:00", "", "00:30", "Workshop") for n in range(3)]
    assert [one.id for one in read(pretalx({"Hall A": parts}), BERLIN).talks] == ["1", "1-2", "1-3"]


def test_a_calendar_that_repeats_is_told():
    data = ICAL.replace(b"UID:26\r\n", b"UID:26\r\nRRULE:FREQ=DAILY\r\n")
    data = data.replace(b"DTSTART:20260705T003000", b"DTSTART;VALUE=DATE:20260705")
    found = read(data, BERLIN)
    assert [(one.error, one.value) for one in found.remarks] == [("RepeatedTalk", "Big data"), ("InvalidTalk", "27")]
    assert len(found.talks) == 2


def demo(tmp_path, data=None, name="schedule.json", **settings):
    """An event with two rooms of one station each."""
    (tmp_path / "files").mkdir(exist_ok=True)
    if data is not None:
        (tmp_path / "files" / name).write_bytes(data)
        settings = {"schedule": name, **settings}
    rooms = {name: Room(name, title, None) for name, title in (("hall_a", "Hall A"), ("hall_b", "Hall B"))}
    stations = {f"cam-{name}": Station(f"cam-{name}", room, None, None, [], {}) for name, room in rooms.items()}
    return Event("demo", "Demo", str(tmp_path), rooms, stations, settings={"timezone": "Europe/Berlin", **settings})


@pytest.mark.parametrize("sample", SAMPLES)
def test_talks_come_to_the_rooms_of_the_inventory(tmp_path, sample):
    plan = plan_of(demo(tmp_path, SAMPLES[sample]))
    assert plan.remarks == []
    assert {room: [one.id for one in talks] for room, talks in plan.rooms.items()} == {
        "hall_a": ["25", "26"],
        "hall_b": ["27"],
    }


def test_the_file_may_be_named_with_its_folder(tmp_path):
    demo(tmp_path, PRETALX)
    assert len(plan_of(demo(tmp_path, schedule="files/schedule.json")).rooms["hall_a"]) == 2


def test_rooms_that_match_none_are_told_with_the_nearest(tmp_path):
    rooms = {name: [event(n, name, f"2026-07-04T10:0{n}:00+02:00", "", "00:30", "T")] for n, name in
             enumerate(("Hal A", "Foyer", "HALL-b", "hall_a"))}  # fmt: skip
    rooms["Foyer"] *= 2
    plan = plan_of(demo(tmp_path, pretalx(rooms)))
    assert [len(plan.rooms[name]) for name in ("hall_a", "hall_b")] == [1, 1]
    told = {one.value: one.message for one in plan.remarks if one.error == "UnmatchedRoom"}
    assert set(told) == {"Hal A", "Foyer"}
    assert "did you mean 'Hall A'" in told["Hal A"] and told["Foyer"].startswith("2 talks")


def test_a_schedule_that_cannot_be_read_is_told(tmp_path):
    plan = plan_of(demo(tmp_path, b"nothing"))
    assert [one.error for one in plan.remarks] == ["UnreadableSchedule"] and plan.rooms == {}
    assert str(tmp_path) not in plan.remarks[0].message
    (tmp_path / "files/schedule.json").unlink()
    assert [one.error for one in plan_of(demo(tmp_path, schedule="schedule.json")).remarks] == ["UnreadableSchedule"]
    assert plan_of(demo(tmp_path)).remarks == []


def talk(name, start, end, room="Hall A"):
    return Talk(name, name, (), room, start, end)


def test_now_and_next():
    talks = [talk("a", 100, 200), talk("long", 150, 900), talk("b", 200, 300), talk("c", 1000, 1100)]
    plan = Plan(rooms={"hall_a": talks})

    def names(moment):
        return tuple(one and one.id for one in plan.now_and_next("hall_a", moment))

    assert names(99) == (None, "a")
    assert names(100) == ("a", "long")
    assert names(199) == ("long", "b")
    assert names(299.9) == ("b", "c")
    assert names(300) == ("long", "c")
    assert names(950) == (None, "c")
    assert names(1100) == (None, None)
    assert plan.now_and_next("nowhere", 1) == (None, None)


def test_overlapping_talks_are_told(tmp_path):
    rooms = {"Hall A": [event(n, "Hall A", f"2026-07-04T10:0{n}:00+02:00", "", "00:30", "T") for n in (1, 2)]}
    assert [one.error for one in plan_of(demo(tmp_path, pretalx(rooms))).remarks] == ["OverlappingTalks"]


class World:
    """A schedule on a clock of the test's own, with two talks of 45 minutes in Hall A and one in Hall B."""

    def __init__(self, tmp_path, **settings):
        self.asked, self.until = [], {}
        self.problem = None
        self.start = at("2026-07-04T08:00")
        event_ = demo(tmp_path, PRETALX, **{"schedule_on_air": True, **settings})
        snapshot = SimpleNamespace(
            event=event_, state="one", stations_of=lambda room: [f"cam-{room}"], revision="r", path=tmp_path
        )
        self.snapshot = snapshot
        self.manager = SimpleNamespace(
            inventory=SimpleNamespace(current=lambda: snapshot),
            registry=SimpleNamespace(view=self.view),
            runs=SimpleNamespace(submit=self.submit),
        )
        self.schedule = Schedule(self.manager)

    def view(self, name):
        return SimpleNamespace(said={"state": {"on_air_until": self.until.get(name)}}) if self.until else None

    def submit(self, request, author, *, key):
        if self.problem is not None:
            raise self.problem
        self.asked.append((request.action, request.target.room, request.minutes, author, key))
        return SimpleNamespace(id="r")

    def pass_time(self, start, end, step=5.0):
        moment = start
        while moment <= end:
            self.schedule.step(moment)
            moment += step


def test_a_talk_sets_its_room_on_air_once(tmp_path):
    world = World(tmp_path)
    world.pass_time(world.start - 600, world.start - LEAD - 1)
    assert world.asked == []
    world.pass_time(world.start - LEAD, world.start + 3600 - LEAD - 5)
    ((action, room, minutes, author, key),) = world.asked
    assert (action, room, author) == ("on-air", "hall_a", "schedule")
    assert minutes == (45 * 60 + MARGIN + LEAD) / 60
    assert "25" in key
    world.pass_time(world.start + 3600 - LEAD, world.start + 20 * 3600)
    assert [(room, minutes) for _, room, minutes, _, _ in world.asked] == [
        ("hall_a", 56), ("hall_a", 101), ("hall_b", 31),
    ]  # fmt: skip


def test_in_the_middle_of_a_talk_it_is_the_rest(tmp_path):
    world = World(tmp_path)
    world.schedule.step(world.start + 30 * 60)
    assert world.asked[0][2] == 25
    world.asked.clear()
    Schedule(world.manager).step(world.start + 45 * 60)
    assert world.asked == []


def test_it_never_shortens_what_a_person_set(tmp_path):
    world = World(tmp_path)
    world.until = {"cam-hall_a": world.start + 8 * 3600}
    world.pass_time(world.start, world.start + 600)
    assert world.asked == []
    world = World(tmp_path)
    world.manager.inventory.current().stations_of = lambda room: ["cam-hall_a", "other"]
    world.until = {"cam-hall_a": world.start + 8 * 3600, "other": None}
    world.pass_time(world.start, world.start + 600)
    assert [minutes for _, _, minutes, _, _ in world.asked] == [8 * 60]


@pytest.mark.parametrize(("status", "retryable", "tries"), [(409, False, 0), (422, False, 0), (503, True, 1)])
def test_only_what_may_pass_is_tried_again(tmp_path, status, retryable, tries):
    world = World(tmp_path)
    world.problem = Problem(status, "X", "", "", retryable=retryable)
    world.pass_time(world.start, world.start + 60)
    world.problem = None
    world.pass_time(world.start + 65, world.start + 120)
    assert len(world.asked) == tries


def test_without_the_setting_no_room_is_set_on_air(tmp_path):
    world = World(tmp_path, schedule_on_air=False)
    world.pass_time(world.start - 600, world.start + 12 * 3600, 60)
    assert world.asked == []


def test_a_talk_that_is_moved_is_another_one(tmp_path):
    world = World(tmp_path)
    world.pass_time(world.start, world.start + 60)
    data = PRETALX.replace(b'"duration": "00:45"', b'"duration": "00:55"')
    (tmp_path / "files/schedule.json").write_bytes(data)
    world.pass_time(world.start + 65, world.start + 120)
    assert len(world.asked) == 1  # the same state of the inventory: read once
    world.snapshot.state = "two"
    world.pass_time(world.start + 125, world.start + 180)
    assert len(world.asked) == 2
