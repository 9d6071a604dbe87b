"""The options of roles/stills/role.yml say what the program says."""

from pathlib import Path

import pytest
import yaml

from station.stills.stream_settings import KEY
from stationmaster.validation import validator

TOP = Path(__file__).resolve().parent.parent.parent
OPTIONS = yaml.safe_load((TOP / "roles/stills/role.yml").read_text("utf-8"))["options"]


def faults(streams):
    return [one.message for one in validator(OPTIONS).iter_errors({"streams": streams})]


@pytest.mark.parametrize(
    ("stream", "good"),
    [
        ({"images": ["a.jpg"]}, True),
        ({"flux": "a.txt", "images": ["a.jpg"]}, True),
        ({"flux": "a.txt", "testcard": {}}, False),
        ({"images": ["a.jpg"], "testcard": {}}, False),
        ({"flux": "a.txt", "from": "hall/main"}, False),
        ({}, False),
    ],
    ids=["images", "both", "flux and card", "two", "flux and ingest", "none"],
)
def test_a_stream_has_one_source_and_images_may_replace_those_of_a_flux(stream, good):
    assert (faults({"a": stream}) == []) is good


@pytest.mark.parametrize("key", ["a", "1a", "-", "1", "a.b", "", "1" * 60 + "a", "1" * 64 + "a", "a" * 64, "a" * 65])
def test_a_key_is_good_for_the_inventory_if_it_is_for_the_program(key):
    assert (faults({key: {"testcard": {}}}) == []) is bool(KEY.match(key))
