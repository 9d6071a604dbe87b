"""The file by which a run's events come."""

from api import run_ansible


def test_a_line_that_was_cut_off_takes_no_other_along(tmp_path):
    told = []
    with run_ansible._followed(tmp_path / "events", told.append) as path, path.open("a") as file:
        file.write('{"event": "a"}\n{"event": "b", "uu{"event": "c"}\n{"event": "d"}\n{"event": "e"')
    assert [one["event"] for one in told] == ["a", "unreadable", "d"]
