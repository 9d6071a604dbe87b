"""Makes sure that nothing of a run is alive on its stations after it was ended.

The end of ansible-playbook is not the end of what it started: with pipelining a command goes
on after its connection died. Every play sets `STATIONMASTER_RUN` in the environment of what
it starts, so that it can be found in /proc. A converge of the applier lives in a unit of its
own on purpose; it is waited for.
"""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path
from typing import Any

from api import run_ansible, run_tree

SECONDS = 9.0
"""For all stations together: what is left of 15 s after a cancel was seen and the run's own processes were ended."""
FORKS = 50
SCRIPT = """\
run=@RUN@; n=0
while found=$(grep -lzxF "STATIONMASTER_RUN=$run" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); [ -n "$found" ]; do
  if [ $n -ge 50 ]; then echo stationmaster-sweep left processes $found; exit 0; fi
  if [ $n -lt 15 ]; then signal=TERM; else signal=KILL; fi
  kill -$signal $found 2>/dev/null; n=$((n+1)); sleep 0.1
done
for folder in ~/.ansible/tmp; do
  find "$folder" -mindepth 1 -maxdepth 1 -name 'ansible-tmp-*' -mmin +@MINUTES@ -exec rm -rf {} + 2>/dev/null
done
n=0
while grep -q '"run": *"'$run'"' /var/lib/stationmaster/pending.json 2>/dev/null &&
    systemctl list-units --plain --no-legend --state=active,activating,deactivating 'stationmaster-apply-*' | grep -q .
do
  if [ $n -ge 25 ]; then echo stationmaster-sweep left converge; exit 0; fi
  n=$((n+1)); sleep 0.2
done
echo stationmaster-sweep clean
"""
WORDS = {"processes": "processes of the run are still there", "converge": "its applier is still converging"}


def sweep(private: Path, job: dict[str, Any], began: float) -> dict[str, str]:
    """Look for the run on its stations and end what is found.

    Args:
        private: an empty folder for ansible-runner.
        job: the run's.
        began: when the run began; temporary folders of Ansible that are older belong to nothing.

    Returns:
        The stations that could not be proven clean, with the reason.
    """
    unproven = dict.fromkeys(job["stations"], "did not answer the search in time")
    minutes = math.ceil(max(0.0, time.time() - began) / 60) + 1
    script = SCRIPT.replace("@RUN@", job["run"]).replace("@MINUTES@", str(minutes))

    def handler(event: dict[str, Any]) -> None:
        told = event.get("event_data") or {}
        host, result = told.get("host"), told.get("res")
        if host not in unproven or not isinstance(result, dict):
            return
        if event.get("event") == "runner_on_unreachable":
            unproven[host] = "could not be reached"
            return
        lines = [line for line in str(result.get("stdout")).splitlines() if line.startswith("stationmaster-sweep ")]
        words = lines[-1].split() if lines else []
        if words[1:] == ["clean"]:
            del unproven[host]
        elif words[1:2] == ["left"] and words[2:]:
            unproven[host] = WORDS.get(words[2], "something is left")
        else:
            unproven[host] = "could not be looked at: " + str(result.get("msg") or result.get("stderr") or "")[:200]

    play = {
        "name": "Sweep",
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"name": "Look for the run", "raw": script, "register": "swept", "ignore_errors": True}],
    }
    playbook = private.with_name("sweep.json")
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    over = threading.Event()

    def bound() -> None:
        if not over.wait(SECONDS):
            run_tree.end_children(grace=0.5)

    warden = threading.Thread(target=bound, daemon=True)
    warden.start()
    # not over connections of the run: those may hang; and no new one is kept
    ssh = "-o ControlMaster=no -o ControlPath=none -o ConnectTimeout=5"
    forks = str(min(FORKS, len(job["stations"])))
    try:
        run_ansible.run(private, {**job, "arguments": ["--forks", forks]}, playbook, {}, handler, lambda: False, ssh)
    finally:
        over.set()
        warden.join()
    return unproven
