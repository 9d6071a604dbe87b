"""The schemas for editors accept what `check` accepts and know every name."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from stationmaster import catalogue
from stationmaster.editor_schema import event_file, room_file

TOP = Path(__file__).parents[3]
DATA = TOP / "tests" / "data"
ROOMS = ["rooms/hall-a.yml", "rooms/hall-b.yml", "services.yml"]


class Loader(yaml.SafeLoader):
    """Reads `!vault` as the text that it is for an editor."""


Loader.add_constructor("!vault", lambda loader, node: node.value)


def read(path):
    return yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader with one more tag


def errors(schema, data):
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.parametrize("name", ROOMS)
def test_it_accepts_the_tests_inventory(roles, name):
    assert errors(room_file(roles), read(DATA / "inventory" / name)) == []


def test_it_accepts_the_event_of_the_tests(roles):
    assert errors(event_file(roles), read(DATA / "inventory" / "group_vars/all/event.yml")) == []


@pytest.mark.parametrize("name", ROOMS)
def test_it_accepts_the_shipped_inventory(name):
    assert errors(room_file(catalogue.load()), read(TOP / "inventory" / name)) == []


def test_it_accepts_the_shipped_event():
    assert errors(event_file(catalogue.load()), read(TOP / "inventory" / "group_vars/all/event.yml")) == []


def room(**station):
    return {"rooms": {"children": {"hall_a": {"hosts": {"one": station}}}}}


@pytest.mark.parametrize(
    "data",
    [
        room(station_role={}),
        room(room_title="x"),
        room(station_roles=[]),
        room(station_roles={"mixer": {}}),
        room(station_roles={"ingest": {"a b": {}}}),
        room(station_roles={"ingest": {"main": {"sourcee": {}}}}),
        room(station_roles={"ingest": {"main": {"source": {"type": "tescard"}}}}),
        room(station_roles={"ingest": {"main": {"source": {"type": "srt", "port": "high"}}}}),
        room(station_roles={"encode": {"one": {}, "two": {}}}),
        {"rooms": {"child": {}}},
        {"rooms": {"vars": {"room_role_defaults": {"ingest": {"vido": {}}}}}},
    ],
)
def test_it_refuses_mistakes(roles, data):
    assert errors(room_file(roles), data)


@pytest.mark.parametrize(
    "data",
    [
        room(station_roles={}, ansible_host="x", crew_variable=1),
        room(station_roles={"record": {"copy": None}}),
        room(station_roles={"ingest": {"main": {"video": {"rate": "{{ rate }}"}, "timestamp": 3}}}),
        room(station_roles={"ingest": {"main": {"source": {"port": 9000}}}}),
        {"rooms": None, "services": {"hosts": {"one": None}}},
    ],
)
def test_it_accepts_parts_and_templates(roles, data):
    assert errors(room_file(roles), data) == []


def test_every_option_is_described_for_completion(roles):
    station = room_file(roles)["$defs"]["station"]["properties"]
    assert set(station["station_roles"]["properties"]) == set(roles.roles)
    options = station["station_roles"]["properties"]["ingest"]["additionalProperties"]["properties"]
    assert {"source", "video", "timestamp"} <= set(options)
