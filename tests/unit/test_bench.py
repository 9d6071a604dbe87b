"""The bench's arithmetic and the shape of its results; no timing is asserted here."""

import json

import pytest

from bench import apply, contenders, figures, pages
from bench.hello import Failed

RUNS = {
    "raw": [2.0, 1.0, 9.0],
    "noop": [3.0, 2.5, 2.6],
    "site": [4.0],
    "pyinfra": [7.0, 8.0],
    "mitogen": [13.0],
    "stock": [80.0],
}


def test_ratios_divide_medians():
    assert figures.ratios(figures.medians(RUNS)) == {
        "noop_to_raw": 1.3,
        "site_to_raw": 2.0,
        "stock_to_noop": 30.77,
        "mitogen_to_noop": 5.0,
        "pyinfra_to_noop": 2.88,
    }


def test_what_was_not_measured_has_no_ratio():
    values = figures.ratios(figures.medians({**RUNS, "stock": []}))
    assert values["stock_to_noop"] is None
    assert figures.missed(values) == []


@pytest.mark.parametrize(("name", "seconds"), [("noop", [3.2]), ("site", [4.1]), ("stock", [60.0]), ("pyinfra", [6.0])])
def test_a_missed_goal_is_said(name, seconds):
    values = figures.ratios(figures.medians({**RUNS, name: seconds}))
    assert any(name in sentence for sentence in figures.missed(values))


def test_reached_goals_are_silent():
    assert figures.missed(figures.ratios(figures.medians(RUNS))) == []


def test_results_have_their_shape_and_no_machine_name():
    bench = apply.Bench(20, 6)
    bench.runs = RUNS
    result = json.loads(json.dumps(apply.report(bench, {"engine": 5.0}, {"engine": 4.0})))
    assert set(result) == {"ratios", "seconds", "setting", "host"}
    assert set(result["ratios"]) == {
        "noop_to_raw", "site_to_raw", "stock_to_noop", "mitogen_to_noop", "pyinfra_to_noop"
    }  # fmt: skip
    assert result["seconds"]["runs"]["raw"] == RUNS["raw"]
    assert set(result["host"]) == {"cpus", "cpu", "memory_gib", "system", "kernel", "python", "load_before"}
    assert set(result["setting"]["rivals"]) == {"ansible-core", "mitogen", "pyinfra"}


RECAP = """
PLAY RECAP *********
bench-01                   : ok=1    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
bench-02              : ok=1    changed=0    unreachable=0    failed={failed}    skipped=0    rescued=0    ignored=0
"""
TABLE = """
    Operation             Hosts   Success   Error   No Change
    Start bench-idle@u1   2       1         -       1
    Grand total           40      {done}         {errors}       39
"""


def test_changes_are_read_from_recap_and_table():
    assert contenders.changed("stock", RECAP.format(failed=0)) == (2, 1)
    assert contenders.changed("pyinfra", TABLE.format(done=1, errors="-")) == (40, 1)
    assert contenders.changed("pyinfra", TABLE.format(done="-", errors="-")) == (40, 0)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("stock", RECAP.format(failed=1)),
        ("stock", "nothing"),
        ("pyinfra", TABLE.format(done=1, errors=2)),
        ("pyinfra", "nothing"),
    ],
)
def test_a_rival_that_fails_is_no_comparison(name, output):
    with pytest.raises(contenders.Failed):
        contenders.changed(name, output)


class _Recorded(apply.Bench):
    """A bench that notes whose turn it is instead of running it."""

    def __init__(self):
        super().__init__(2, 1)
        self.order = []

    def say(self, text):
        pass

    def time(self, name):
        self.order.append(name)
        return 1.0, 0


def test_runs_are_interleaved_and_slow_ones_fewer():
    bench = _Recorded()
    apply.at_rest(bench, 5, {"stock": 3}, ["pyinfra", "stock"])
    assert {name: len(runs) for name, runs in bench.runs.items()} == {
        "raw": 5, "noop": 5, "site": 5, "pyinfra": 5, "mitogen": 0, "stock": 3
    }  # fmt: skip
    turns = [set(bench.order[:4]), set(bench.order[4:9])]
    assert turns == [{"raw", "noop", "site", "pyinfra"}, {"raw", "noop", "site", "pyinfra", "stock"}]
    assert bench.order[0] != bench.order[4]


def test_a_rival_that_changes_at_rest_stops_the_bench(monkeypatch):
    bench = _Recorded()
    monkeypatch.setattr(bench, "time", lambda name: (1.0, 3))
    with pytest.raises(contenders.Failed, match="nothing to change"):
        bench.settled("stock")
    monkeypatch.setattr(bench, "time", lambda name: (1.0, 0))
    with pytest.raises(contenders.Failed, match="something to change"):
        bench.changing("stock")


def test_the_size_can_be_chosen(monkeypatch):
    seen = []
    monkeypatch.setattr(contenders, "ready_rivals", lambda: None)
    monkeypatch.setattr(apply, "write_wants", lambda bench, note: seen.append((bench.stations, bench.units)))

    def stop(bench, keep, work):
        raise contenders.Failed("far enough")

    monkeypatch.setattr(apply, "_in_lab", stop)
    with pytest.raises(contenders.Failed):
        apply.main(["--stations", "3", "--units", "2", "--runs", "1"])
    assert seen == [(3, 2)]


def test_a_change_counts_until_each_page_was_told_of_it():
    made = [("hall_1", 10.0), ("hall_2", 20.0)]
    one = [("hall_1", "ready", 9.0), ("hall_2", "failed", 20.5), ("hall_1", "failed", 11.0)]
    two = [("hall_1", "failed", 10.5), ("hall_2", "late", 20.5), ("hall_2", "failed", 22.0)]
    assert pages.delays(made, [one, two]) == [[1.0, 0.5], [0.5, 2.0]]
    with pytest.raises(Failed, match="1 pages were not told that hall_2 failed"):
        pages.delays(made, [one, two[:1]])
