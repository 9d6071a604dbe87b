"""A check costs little beyond what Ansible itself takes to list the same inventory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import generate

TOP = Path(__file__).parents[3]
BEYOND = 2.0
"""Seconds for 500 stations."""

CHECK = """
import sys
from pathlib import Path
from stationmaster import ansible_setup, catalogue
ansible_setup.use_configuration()
roles = catalogue.load([Path(sys.argv[2])])
from stationmaster import inventory, rules
sys.exit(len(rules.check(inventory.load(sys.argv[1], roles=roles), roles)))
"""


def seconds(*command):
    environment = {**os.environ, "ANSIBLE_CONFIG": str(TOP / "ansible.cfg"), "PYTHONPATH": str(TOP)}
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=TOP)
    return time.monotonic() - began


def test_500_stations(tmp_path):
    folder = tmp_path / "large"
    generate.write(folder, 500)
    roles = str(TOP / "tests" / "data" / "roles")
    lister = str(Path(sys.executable).parent / "ansible-inventory")
    beyond = []
    for _ in range(3):
        # a machine that is busy with other things gets another chance
        listed = seconds(lister, "-i", str(folder), "--list")
        beyond.append(seconds(sys.executable, "-c", CHECK, str(folder), roles) - listed)
        if beyond[-1] < BEYOND:
            return
    raise AssertionError(f"seconds beyond ansible-inventory: {beyond}")
