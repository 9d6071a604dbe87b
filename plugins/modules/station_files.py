"""Small files and links of a station, all in one execution."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: station_files
short_description: Small files and links of a station, all in one execution
version_added: "2.19"
description:
  - Writes text files and symlinks with their folders, root's, mode 0644 and 0755.
  - One execution for all of them, where M(ansible.builtin.copy) takes several for each.
options:
  files:
    description: Path to content.
    type: dict
    default: {}
  links:
    description: Path to what the link leads to. A file in the way is replaced.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Says what would change, and changes nothing.
  diff_mode:
    support: full
    description: Shows the content before and after.
author: The Stationmaster maintainers
"""
EXAMPLES = """
- name: Write settings
  station_files:
    files:
      /etc/sysctl.d/90-x.conf: "kernel.panic = 10\\n"
    links:
      /etc/systemd/system/apt-daily.timer: /dev/null
"""
RETURN = """
paths:
  description: What changed.
  type: list
  returned: always
"""


def read(path: Path) -> str | None:
    """Return a file's text, or None where there is no regular file."""
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def write(path: Path, text: str) -> None:
    """Put a text file in place in one step, durably."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    staged = path.with_name(path.name + ".stationmaster-new")
    with staged.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def link(path: Path, target: str) -> None:
    """Put a symlink in place in one step."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    staged = path.with_name(path.name + ".stationmaster-new")
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    staged.rename(path)


def main() -> None:
    """Run the module."""
    arguments = {"files": {"type": "dict", "default": {}}, "links": {"type": "dict", "default": {}}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    changed: list[str] = []
    differences: list[dict[str, Any]] = []
    for path, text in sorted(module.params["files"].items()):
        before = read(Path(path))
        if before != text:
            changed.append(path)
            differences.append({"before_header": path, "after_header": path, "before": before or "", "after": text})
            if not module.check_mode:
                write(Path(path), text)
    for path, target in sorted(module.params["links"].items()):
        if not Path(path).is_symlink() or str(Path(path).readlink()) != target:
            changed.append(path)
            differences.append({"prepared": f"{path} becomes a link to {target}\n"})
            if not module.check_mode:
                link(Path(path), target)
    module.exit_json(changed=bool(changed), paths=changed, diff=differences)


if __name__ == "__main__":
    main()
