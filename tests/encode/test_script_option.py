"""`encode` with `script:`, as the first system had it: any JSON is a job, the program decides."""

import json

import pytest

SHELL = "#!/bin/sh\n"


@pytest.fixture
def scripted(instance, tmp_path):
    def make(body, **options):
        program = tmp_path / "program"
        program.write_text(SHELL + body)
        made = instance(script=str(program), **options)
        made.program = program
        return made

    return make


def test_success_moves_the_job_to_done(scripted, tmp_path):
    one = scripted(f'printf "%s" "$1" > {tmp_path}/seen', job_defaults={"server": "10.4.4.3", "title": "none"})
    old = {"schedule_id": 12, "main": {"filename": "12-main.dv"}, "in_time": "25", "title": "mine"}
    one.put(old, "12")
    one.start()
    one.wait(lambda: (one.data / "done" / "12.json").exists())
    assert json.loads((tmp_path / "seen").read_text()) == {**old, "server": "10.4.4.3"}
    assert json.loads((one.data / "done" / "index.json").read_text()) == []
    one.wait(lambda: not list((one.data / "wip").iterdir()))


def test_files_that_it_leaves_are_the_product(scripted):
    one = scripted('cd "$STATIONMASTER_OUTPUT" && mkdir sub && echo film > a.mkv && echo text > sub/b.srt')
    one.put({"id": "a", "title": "T"})
    one.start()
    manifest = one.finished("a")
    assert {row["name"]: row["size"] for row in manifest["files"]} == {"a.mkv": 5, "sub/b.srt": 5}
    assert manifest["ranges"] == [] and manifest["title"] == "T"
    assert (one.data / "done" / "a" / "sub" / "b.srt").read_text() == "text\n"
    one.wait(lambda: json.loads((one.data / "done" / "index.json").read_text()) == ["a"])


def test_failure_keeps_its_output_and_its_half_product_goes(scripted):
    one = scripted('echo half > "$STATIONMASTER_OUTPUT/a.mkv"; echo "no disk for you" >&2; exit 7')
    one.put({"id": "a"})
    one.start()
    reason = one.failed("a")
    assert "exit status 7" in reason["reason"] and reason["exit_code"] == 7
    assert reason["output"] == "no disk for you\n"
    left = ["done/index.json", "fail/a.json", "fail/a.reason.json"]
    one.wait(lambda: [name for name in one.tree() if "/" in name] == left)


def test_a_hang_is_ended(scripted):
    one = scripted("sleep 100", script_timeout=1)
    one.put({"id": "a"})
    one.start()
    reason = one.failed("a")
    assert reason["timed_out"] and "longer than it may" in reason["reason"]


def test_a_program_that_is_not_there_fails_the_job_not_the_unit(scripted):
    one = scripted("exit 0")
    one.program.unlink()
    one.put({"id": "a"})
    one.start()
    assert "no such program" in one.failed("a")["reason"]
    assert one.process.poll() is None


def test_stopping_the_unit_puts_its_job_back(scripted):
    one = scripted("sleep 100")
    one.put({"id": "a"})
    one.start()
    one.wait(lambda: one.status()["jobs"])
    assert one.end() == 0
    assert (one.data / "todo" / "a.json").exists()


def test_a_configuration_without_work_is_refused(instance):
    one = instance()
    one.start()
    assert one.process.wait(10) == 78
    assert "names no source" in one.said()


def test_a_second_process_does_not_share_the_folder(scripted):
    one = scripted("exit 0")
    one.start()
    one.wait(lambda: one.status()["state"])
    first = one.process
    one.start()
    assert one.process.wait(10) == 1
    one.process = first
    assert "another process works in this folder" in one.said()
