"""What the page makes of a hello: one word and one line an instance; and of figures: a plot."""

import pytest

from api.pages.health import health
from api.pages.plots import plots_of
from stationmaster.model import Instance, Station
from tests.api.stations_kit import applied, unit

INGEST = "stationmaster-ingest@main.service"
FINE = {"running": 1.0, "last_segment_seconds": 997.0, "loudness_lufs:Room": -21.0}


def station():
    roles = {
        "ingest": {"main": Instance("ingest", "main", {})},
        "web": {"station": Instance("web", "station", {}, implied=True)},
    }
    return Station("cam", None, None, None, [], roles)


def said(figures=None, told=None, **more):
    told = {"status": "running", "masked": False, "result": "", **(told or {})}
    units = {INGEST: unit(**told), "stationmaster-web@station.service": unit(masked=False)}
    told = {"ingest/main": {**FINE, **(figures or {})}}
    return applied(units=units, figures=told, time=1000.0, disk=None, clock_offset=None) | more


@pytest.mark.parametrize(
    ("told", "word", "text"),
    [
        ({}, "absent", "nothing heard yet"),
        (said(), "ready", "running"),
        (said({"last_segment_seconds": 900.0}), "failed", "no segment for 100 s; running"),
        (said({"last_segment_seconds": 900.0, "running": 0.0}), "ready", "running"),  # it waits for its source
        (said({"last_segment_seconds": 0.0}), "ready", "running"),
        (said({"last_segment_seconds": 900.0, "behind_seconds": 10.0}), "ready", "running"),
        (said({"behind_seconds": 31.0}), "warn", "running"),
        (said({"warning:silence": 1.0}), "warn", "running"),
        (said(told={"healthy": False, "active": "failed", "sub": "failed"}), "failed", "failed failed: running"),
        (said(told={"masked": True, "healthy": False}), "stopped", "masked on the station"),
        (said(state=applied()["state"] | {"stopped": {INGEST: {"who": "ann"}}}), "stopped", "stopped by ann"),
        (said() | {"units": {}}, "absent", "not there yet"),
        (said() | {"units": None}, "absent", "not there yet"),
    ],
)
def test_an_instance_has_one_word(told, word, text):
    one = health(station(), told).instances[0]
    assert (one.word, one.text) == (word, text)


def test_what_a_lost_station_said_last_is_no_news():
    told = health(station(), said(), heard=False)
    assert [(one.word, one.text) for one in told.instances] == [("unknown", "said last: running")]
    assert told.instances[0].meters == ()


def test_an_implied_instance_shows_only_in_its_line():
    assert health(station(), said()).others == "1 more unit, all well"
    broken = said()
    broken["units"]["stationmaster-web@station.service"]["healthy"] = False
    told = health(station(), broken)
    assert (told.others, told.others_word) == ("web@station is not well", "failed")
    assert [one.role for one in told.instances] == ["ingest"]


def test_loudness_and_progress_are_told():
    one = health(station(), said({"progress_ratio:talk:mp4": 0.4, "progress_ratio:talk:cut": 1.0})).instances[0]
    assert (one.meters, one.progress) == ((("Room", -21.0),), 0.4)


@pytest.mark.parametrize(
    ("more", "text", "word"),
    [
        ({}, "nothing said of disk and clock", "quiet"),
        ({"disk": {"free": 5, "size": 10, "hours_left": None}}, "50% of the disk free", "quiet"),
        ({"disk": {"free": 5, "size": 10, "hours_left": 3.9}}, "disk for 4 h", "warn"),
        ({"disk": {"free": 5, "size": 10, "hours_left": 0.5}}, "disk for 30 min", "warn"),
        ({"clock_offset": -0.02}, "clock -20 ms", "quiet"),
        ({"clock_offset": 2.5}, "clock +2.5 s", "warn"),
    ],
)
def test_disk_and_clock_are_told_in_time(more, text, word):
    told = health(station(), said(**more))
    assert (told.machine, told.machine_word) == (text, word)


def test_a_plot_breaks_where_nothing_was_heard():
    plot = plots_of({"load": [(0, 1.0), (60, 3.0), (600, 2.0)], "empty": []})
    assert [(one.name, one.last, one.least, one.most) for one in plot] == [("load", 2.0, 1.0, 3.0)]
    assert plot[0].lines == ["0.0,48.0 24.0,0.0", "240.0,24.0 240.0,24.0"]
    assert plots_of({"load": [(0, 1.0)]})[0].lines == ["0.0,24.0 0.0,24.0"]
