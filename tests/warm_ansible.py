"""Ansible's commands, forked from a process that has read Ansible's modules: that is most of what a playbook costs.

A test's lab plays hundreds. The commands themselves are run by molecule, the demo and the manager's runs.
"""

import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "ansible.cli.adhoc",
        "ansible.cli.playbook",
        "ansible.executor.playbook_executor",
        "ansible.inventory.manager",
        "ansible.plugins.connection.ssh",
        "ansible.plugins.strategy.linear",
        "tests.warm_ansible",
    ]
)


def run(words: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> CompletedProcess[str]:
    """Run `ansible-playbook` or `ansible` with its arguments, as `subprocess.run` would.

    What Ansible reads as its modules are read, `ansible.cfg` and variables such as `ANSIBLE_FORKS`, is as it was at
    the first call.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = f"{folder}/out", f"{folder}/err"
        process = _CONTEXT.Process(target=_be, args=([*words], str(cwd), {**environment}, out, err))
        # the first call starts the process that reads Ansible's modules, and this folder's ansible.cfg with them
        with contextlib.chdir(cwd):
            process.start()
        process.join()
        told = [Path(path).read_text(errors="replace") for path in (out, err)]
    assert process.exitcode is not None
    return CompletedProcess([*words], process.exitcode, *told)


def _be(words: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    from ansible.cli import adhoc, playbook

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = words
    {"ansible": adhoc, "ansible-playbook": playbook}[Path(words[0]).name].main(words)
