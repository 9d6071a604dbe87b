"""What a role asks for in role.yml is in its context.json, and no change of it makes a unit restart."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from station.stills import stream_settings
from stationmaster import bundle, catalogue, options, resolve
from stationmaster.model import Event, Instance, Room, Station
from stationmaster.role_context import rooms_of, wanted_context

SHIPPED = catalogue.load()
CATALOGUE = catalogue.Catalogue(
    {**SHIPPED.roles, "script": dataclasses.replace(SHIPPED.roles["script"], context=("talks", "url"), serves=True)}
)
ICAL = """BEGIN:VCALENDAR\r
VERSION:2.0\r
PRODID:-//test//\r
{}END:VCALENDAR\r
"""
TALK = """BEGIN:VEVENT\r
UID:{}\r
DTSTART:20260301T{}00\r
DURATION:PT45M\r
SUMMARY:{}\r
LOCATION:{}\r
URL:https://example.org/{}\r
END:VEVENT\r
"""


def schedule(*talks):
    return ICAL.format("".join(TALK.format(*row[:4], row[0]) for row in talks))


@pytest.fixture
def render(tmp_path):
    """Return what renders a station's bundle: (room of the station, options, schedule)."""
    (tmp_path / "files").mkdir()
    hall_a, hall_b = Room("hall_a", "Hall A", 1), Room("hall_b", "Hall B", 2)

    def made(text, room=None, names=CATALOGUE, **given):
        if text is not None:
            (tmp_path / "files" / "schedule.ics").write_text(text)
        value = options.fill_defaults(names.roles["script"].options, {"program": "/bin/true"}) | given
        roles = {"script": {"door": Instance("script", "door", value)}}
        station = Station("screens", hall_a if room else None, "10.0.0.9", None, [], roles)
        settings = {"timezone": "Europe/Berlin"} | ({"schedule": "schedule.ics"} if text is not None else {})
        rooms = {"hall_a": hall_a, "hall_b": hall_b}
        event = Event("demo", "Demo", str(tmp_path), rooms, {"screens": station}, settings=settings)
        resolve.add_implied(event, names)
        return bundle.render(event, "screens", names, "r")

    return made


def context_of(made):
    return json.loads(made.blobs[made.manifest["files"]["etc/script/door/context.json"]["sha256"]])


def test_a_role_that_asks_gets_its_rooms_talks_and_its_address(render):
    rows = ("b", "1100", "Second", "Hall A"), ("a", "1000", "First", "Hall A"), ("c", "1000", "Else", "Hall B")
    found = context_of(render(schedule(*rows), room="hall_a"))
    assert found["url"] == "http://10.0.0.9:8080/script/door/"
    assert found["talks"] == {
        "timezone": "Europe/Berlin",
        "rooms": {
            "hall_a": {
                "title": "Hall A",
                "talks": [
                    {
                        "id": name,
                        "title": title,
                        "subtitle": "",
                        "presenters": [],
                        "start": start,
                        "end": start + 2700,
                        "language": "",
                        "track": "",
                        "url": f"https://example.org/{name}",
                    }
                    for name, title, start in (("a", "First", 1772355600), ("b", "Second", 1772359200))
                ],
            }
        },
    }


def test_other_roles_get_none(render):
    found = context_of(render(schedule(("a", "1000", "First", "Hall A")), names=SHIPPED))
    assert "talks" not in found and "url" not in found


def test_without_a_schedule_the_rooms_are_there_without_talks(render):
    rooms = context_of(render(None))["talks"]["rooms"]
    assert rooms == {"hall_a": {"title": "Hall A", "talks": []}, "hall_b": {"title": "Hall B", "talks": []}}


def test_a_changed_schedule_is_another_bundle_but_no_restart(render):
    before = render(schedule(("a", "1000", "First", "Hall A")))
    after = render(schedule(("a", "1030", "First", "Hall A")))
    assert before.wanted != after.wanted
    assert {name: unit["hash"] for name, unit in before.manifest["units"].items()} == {
        name: unit["hash"] for name, unit in after.manifest["units"].items()
    }


@pytest.mark.parametrize(
    ("room", "named", "expected"),
    [
        ("hall_a", ["hall_b", "nowhere", "hall_b"], ["hall_b"]),
        ("hall_a", None, ["hall_a"]),
        (None, None, ["hall_a", "hall_b"]),
        (None, [], ["hall_a", "hall_b"]),
    ],
)
def test_which_rooms(room, named, expected):
    event = SimpleNamespace(rooms={"hall_a": Room("hall_a", "A", 1), "hall_b": Room("hall_b", "B", 2)})
    instance = Instance("script", "door", {} if named is None else {"rooms": named})
    assert rooms_of(event, SimpleNamespace(room=event.rooms.get(room)), instance) == expected


def streams_of(given, room="hall_a"):
    """Return the context word `stills` of an event whose one server has these streams."""
    row = dataclasses.replace(SHIPPED.roles["script"], name="stills", provides="stills", context=("stills",))
    names = catalogue.Catalogue({**SHIPPED.roles, "stills": row})
    hall = Room("hall_a", "Hall A", 1)
    options = {"http_port": 8070, "streams": given}
    roles = {"stills": {"main": Instance("stills", "main", options)}}
    station = Station("cam", hall if room else None, "10.0.0.7", None, [], roles)
    event = Event("demo", "Demo", "", {"hall_a": hall}, {"cam": station})
    return wanted_context(event, names, station, roles["stills"]["main"], row.context)


def test_the_servers_of_stills_are_told_with_their_streams():
    given = {"slides": {"testcard": {}, "room": "hall_b"}, "cam": {"testcard": {}, "name": "camera"}}
    assert streams_of(given) == {
        "stills": [
            {
                "name": "cam/main",
                "station": "cam",
                "instance": "main",
                "address": "10.0.0.7",
                "http_port": 8070,
                "room": "hall_a",
                "streams": [
                    {"key": "cam", "id": 1, "name": "camera", "room": "hall_a"},
                    {"key": "slides", "id": 2, "name": "slides", "room": "hall_b"},
                ],
            }
        ]
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": {}, "b": {"id": 1}, "c": {}}, [2, 1, 3]),
        ({"a": {"flux": "a.txt"}, "b": {"id": 7}, "c": {}}, [None, 7, None]),
        ({"a": {"flux": "a.txt", "id": 0}, "b": {}}, [0, 2]),
        ({}, []),
    ],
)
def test_streams_have_the_numbers_that_their_server_gives_them(given, expected):
    told = streams_of(given, room=None)["stills"][0]
    assert told["room"] is None
    assert [one["id"] for one in told["streams"]] == expected
    if all("flux" not in one for one in given.values()) and given:
        made = stream_settings.numbered(
            [stream_settings.StreamSettings(key, **{"id": -1, **one}) for key, one in given.items()]
        )
        assert [one.id for one in made] == expected
