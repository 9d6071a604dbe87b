"""ansible-lint with the syntax checks of all playbooks and roles in one process: `python -m tests.lint --strict …`.

ansible-lint starts ansible-playbook for each of them, and most of such a start is the import of Ansible. They are
checked one by one, as ever, when the one process finds anything: then it shows what is wrong where.
"""

import subprocess
import sys
import tempfile

from ansiblelint.__main__ import main
from ansiblelint.runner import Runner

ONE_BY_ONE = Runner._run_syntax_check_phase


def all_pass(files, environment) -> bool:
    """Tell whether ansible-playbook finds nothing wrong with the syntax of playbooks and roles."""
    playbooks = [str(file.path) for file in files if file.kind == "playbook"]
    roles = [f"    - ansible.builtin.import_role: {{name: {file.path}}}\n" for file in files if file.kind == "role"]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as of_roles:
        of_roles.write("- name: Roles\n  hosts: localhost\n  tasks:\n" + "".join(roles) if roles else "[]\n")
        of_roles.flush()
        command = ["ansible-playbook", "--syntax-check", *playbooks, of_roles.name]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def at_once(self, matches):
    """Return the files whose syntax was checked, as the method that it stands for."""
    files = self._collect_syntax_check_files()
    return files if all_pass(files, self.app.runtime.environ) else ONE_BY_ONE(self, matches)


if __name__ == "__main__":
    Runner._run_syntax_check_phase = at_once
    sys.exit(main(sys.argv))
