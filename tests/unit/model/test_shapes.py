"""Whatever stands in an inventory, a check ends with findings and never with a traceback."""

import json
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stationmaster import inventory, rules

NAMES = st.sampled_from(
    [
        "ingest",
        "record",
        "upload",
        "mixer",
        "main",
        "source",
        "type",
        "from",
        "video",
        "rate",
        "a b",
        "{{ x }}",
        "ü",
        "",
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
    st.sampled_from(["testcard", "hall-a-cam/main", "{{ nothing }}", "{{", "{% if %}", "/", "hall-a-cam/", "archive"]),
)
KEYS = st.one_of(NAMES, st.integers(0, 3), st.booleans(), st.none(), st.floats(0, 1))
VALUES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)), max_leaves=8
)
VARIABLES = [
    "station_roles",
    "station_mac",
    "station_number",
    "station_blocked_roles",
    "station_spare_of",
    "ansible_host",
    "room_number",
    "room_title",
    "room_role_defaults",
    "event_name",
    "event_role_defaults",
    "event_targets",
    "event_network",
    "event_room_size",
]
ONE = "rooms:\n  children:\n    z:\n      hosts:\n        one:\n          station_roles: "


def judge(folder, roles):
    try:
        found = rules.check(inventory.load(folder, roles=roles), roles)
    except inventory.UnusableInventory as error:
        found = error.findings
    for finding in found:
        assert finding.error in ("BlockedRole", "MissingRoleFactory", "InvalidConfiguration")
        assert finding.message
        assert finding.text()
    json.dumps([finding.to_dict() for finding in found], allow_nan=False)
    return found


def write(folder, data):
    (folder / "zz.yml").write_text(yaml.safe_dump(data, allow_unicode=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(variable=st.sampled_from(VARIABLES), value=VALUES)
def test_any_value_of_any_variable(folder, roles, variable, value):
    hosts = {"one": {"station_roles": {}}}
    group = {"hosts": hosts}
    if variable.startswith("event"):
        (folder / "group_vars" / "all" / "zz.yml").write_text(yaml.safe_dump({variable: value}))
    elif variable.startswith("room"):
        group["vars"] = {variable: value}
    else:
        hosts["one"][variable] = value
    write(folder, {"rooms": {"children": {"hall_z": group}}})
    judge(folder, roles)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(role=NAMES, options=VALUES, defaults=VALUES)
def test_any_options(folder, roles, role, options, defaults):
    station = {"station_roles": {role: {"main": options}}}
    room = {"vars": {"room_number": 3, "room_role_defaults": {role: defaults}}, "hosts": {"one": station}}
    write(folder, {"rooms": {"children": {"hall_z": room}}})
    judge(folder, roles)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=VALUES, place=st.sampled_from(["top", "rooms", "children", "room", "hosts", "host"]))
def test_any_structure(folder, roles, data, place):
    for name in ("host", "hosts", "room", "children", "rooms"):
        if place == "top":
            break
        data = {
            {"host": "one", "hosts": "hosts", "room": "hall_z", "children": "children", "rooms": "rooms"}[name]: data
        }
        if name == place:
            break
    write(folder, data)
    judge(folder, roles)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text(folder, roles, text):
    (folder / "zz.yml").write_bytes(text.encode("utf-8", "surrogatepass"))
    judge(folder, roles)


@pytest.mark.parametrize(
    "text",
    [
        "rooms: &x\n  children: *x\n",
        ONE + "&r {ingest: *r}\n",
        ONE + "{ingest: {main: &o {source: *o}}}\n",
        ONE + "{ingest: {main: {source: &l [*l]}}}\n",
        ONE + "!vault nonsense\n",
        ONE + "{ingest: {main: !vault 3}}\n",
        "rooms:\n  children:\n    z:\n      hosts:\n        one: {station_roles: {? [1, 2] : 3}}\n",
        "rooms: {children: {z: {hosts: [one]}}}\n",
        "rooms: {hosts: {one: {station_roles: {}}}}\n",
        "rooms: {children: {rooms: {hosts: {one: {station_roles: {}}}}}}\n",
        "services: {hosts: {'cam[1:3]': {station_roles: {}}}}\n",
        "\x00",
        "- 1\n",
        "plugin: nothing\n",
    ],
)
def test_odd_files(folder, roles, text):
    (folder / "zz.yml").write_text(text)
    judge(folder, roles)


def test_a_folder_where_a_file_belongs(folder, roles):
    shutil.rmtree(folder / "group_vars")
    (folder / "group_vars").write_text("no folder")
    judge(folder, roles)
