"""A program of the crew's own: called right, judged right, and never left running."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from station.script_job import ARGUMENT_LIMIT, OUTPUT_LIMIT, ScriptError, command_of, run_script


def program(folder: Path, body: str, mode: int = 0o755, shebang: str = "/bin/sh") -> Path:
    path = folder / "program"
    path.write_text(f"#!{shebang}\n{body}")
    path.chmod(mode)
    return path


def test_the_job_arrives_as_one_json_argument(tmp_path: Path) -> None:
    job = {"id": "a", "title": 'Ünïcode "quotes" $HOME %s `x`\nline'}
    script = program(
        tmp_path,
        "import json,sys\nassert len(sys.argv)==2\nprint(json.loads(sys.argv[1])['title'])",
        0o755,
        sys.executable,
    )
    result = run_script(script, job)
    assert result.ok and result.exit_code == 0
    assert result.output == job["title"] + "\n"


@pytest.mark.parametrize(("body", "reason"), [("exit 3", "exit status 3"), ("kill -9 $$", "signal 9")])
def test_anything_but_exit_0_is_a_failure_with_its_output(tmp_path: Path, body: str, reason: str) -> None:
    result = run_script(program(tmp_path, f"echo out; echo err >&2; {body}"), {})
    assert not result.ok
    assert reason in result.reason
    assert result.output == "out\nerr\n"
    assert json.dumps(result.report())


def test_only_the_end_of_a_flood_is_kept(tmp_path: Path) -> None:
    result = run_script(program(tmp_path, "seq 1 200000; echo last; exit 1"), {})
    assert result.output.endswith("last\n")
    assert len(result.output) == OUTPUT_LIMIT


@pytest.mark.pace
@pytest.mark.slow
def test_a_hang_is_ended_with_its_children(tmp_path: Path) -> None:
    script = program(
        tmp_path, f"trap '' TERM\n(sleep 300 & echo $! > {tmp_path}/child; wait) &\nwhile :; do sleep 1; done"
    )
    begun = time.monotonic()
    result = run_script(script, {}, timeout=0.5)
    assert result.timed_out and not result.ok
    assert time.monotonic() - begun < 8
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and Path(f"/proc/{child}/status").exists():
        if "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.05)
    else:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.pace
def test_a_background_child_does_not_keep_us_waiting(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert run_script(program(tmp_path, "sleep 60 & echo done"), {}).output == "done\n"
    assert time.monotonic() - begun < 5


def test_a_program_that_never_stops_printing_is_still_ended(tmp_path: Path) -> None:
    assert run_script(program(tmp_path, "exec yes"), {}, timeout=0.5).timed_out


def test_the_unit_being_stopped_ends_it(tmp_path: Path) -> None:
    result = run_script(program(tmp_path, "sleep 60"), {}, tick=lambda: False)
    assert result.stopped and not result.ok


def test_a_file_without_execute_bit_runs_by_its_first_line(tmp_path: Path) -> None:
    assert run_script(program(tmp_path, "echo hello", 0o644), {}).output == "hello\n"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("/no/such/program", None, "no such program"), ("relative", None, "absolute"), (None, "echo hi", "#! line")],
)
def test_what_cannot_start_says_why(tmp_path: Path, name: str | None, text: str | None, says: str) -> None:
    if text is not None:
        path = tmp_path / "text"
        path.write_text(text)
        path.chmod(0o644)
        name = str(path)
    with pytest.raises(ScriptError, match=says):
        command_of(name or "")


def test_a_job_too_big_for_an_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="bytes"):
        run_script(program(tmp_path, "exit 0"), {"x": "y" * ARGUMENT_LIMIT})
