"""The bench's arithmetic and the shape of its results; no timing is asserted here."""

import json
import socket

import pytest

from bench import apply, contenders, figures, stomp_load, visuals_figures
from bench.hello import Failed
from bench.visuals_figures import Turn

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
    from bench import pages  # the whole manager with it

    assert pages.delays(made, [one, two]) == [[1.0, 0.5], [0.5, 2.0]]
    with pytest.raises(Failed, match="1 pages were not told that hall_2 failed"):
        pages.delays(made, [one, two[:1]])


def _measured(rate, cost, memory, **more):
    one = visuals_figures.middle([Turn(rate, cost, 1.0), Turn(1.0, 99.0, 2.0), Turn(10 * rate, cost / 10, 0.5)])
    return {**one, "single": visuals_figures.middle([Turn(rate / 2, cost * 2, 1.0)]), "memory_bytes": memory, **more}


def test_visuals_are_measured_against_the_better_way_of_the_rival():
    found = {
        "ours": _measured(1000.0, 10.0, 5000, slow={"rate_with": 95, "rate_without": 100}),
        "ours_bus": _measured(400.0, 60.0, 6000),
        "rival": _measured(500.0, 40.0, 50000, slow={"rate_with": 1, "rate_without": 1}),
        "rival_plain": _measured(800.0, 50.0, 0),
    }
    values = visuals_figures.ratios(1000, found)
    assert values == {
        "fan_out_1000": 1.25, "processor_1000": 0.25, "fan_out_single_1000": 1.25, "processor_single_1000": 0.25,
        "memory_1000": 0.1, "slow_rate_1000": 0.95,
        "fan_out_bus_1000": 0.5, "processor_bus_1000": 1.5, "fan_out_bus_single_1000": 0.5,
        "processor_bus_single_1000": 1.5, "memory_bus_1000": 0.12,
    }  # fmt: skip
    assert {sentence.split()[0] for sentence in figures.missed(values, visuals_figures.GOALS)} == {
        "fan_out_bus_1000", "processor_bus_1000", "fan_out_bus_single_1000", "processor_bus_single_1000"
    }  # fmt: skip
    assert visuals_figures.ratios(1000, {"ours": found["ours"]}) == {}


def _said(*parts):
    """Return the client's end of a connection whose server has sent these parts and closed."""
    client, server = socket.socketpair()
    for part in parts:
        server.sendall(part)
    server.close()
    return client


def test_the_load_client_waits_for_the_frame_it_expects():
    with _said(b"\nMESSAGE\nmessage-id:1\n\nSHOW x\0", b"RECEIPT\nreceipt-id:s\n\n\0\n") as client:
        stomp_load.expect(client, b"RECEIPT")
    for said in (b"ERROR\nmessage:no\n\n\0", b"CONNECTED\n\n\0", b""):
        with _said(said) as client, pytest.raises(stomp_load.Failed, match="RECEIPT expected"):
            stomp_load.expect(client, b"RECEIPT")


def test_the_load_client_says_how_many_files_it_needs():
    with pytest.raises(stomp_load.Failed, match="need 10000064 open files"):
        stomp_load.room_for(10_000_000)


def test_the_load_client_counts_what_each_subscriber_got():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as subscriber, socket.socket() as publisher:
        load = stomp_load.Load()
        ends = []
        for one in (subscriber, publisher):
            one.connect(server.getsockname())
            ends.append(server.accept()[0])
            load.add(one)
        load.sockets, load.publisher = [subscriber], publisher
        with ends[0], ends[1]:
            ends[0].sendall(b"MESSAGE\n\na\0MESSAGE\n\nb\0")
            ends[1].sendall(b"RECEIPT\n\n\0RECEIPT\n\n\0")
            found = load.fan(2, 2, 40, True)
            assert found["deliveries"] == 2
            sent = ends[1].recv(4096)
            assert (sent.count(b"SEND\n"), sent.count(b"\0")) == (2, 2)
            ends[0].sendall(b"MESSAGE\n\na\0" * 3)
            with pytest.raises(stomp_load.Failed, match="1 subscribers got not 2"):
                load.fan(2, 2, 40, False)


def test_figures_stand_beside_their_goals_and_what_misses_one_is_said(capsys):
    goals = {"rate_": ("at least", 0.8), "late": ("at most", 100.0)}
    assert figures.judge({"rate_24": 0.8, "late_p99": 100.0, "without_goal": 7, "rate_none": None}, goals) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["rate_24", "0.8", "at", "least", "0.8"], ["late_p99", "100.0", "at", "most", "100"],
        ["without_goal", "7"], ["rate_none", "-", "at", "least", "0.8"],
    ]  # fmt: skip
    assert figures.judge({"rate_24": 0.7, "late_p99": 101.0}, goals) == 1
    said = capsys.readouterr().out
    assert "bench: rate_24 is 0.7, it should be at least 0.8\n" in said and "bench: late_p99 is 101.0" in said
