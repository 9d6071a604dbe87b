"""Programs that also run by hand: their options are those of role.yml, and a misspelt one is told."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from types import ModuleType

import pytest

from station import config
from stationmaster import catalogue

ROLES = catalogue.load()


def program_of(role: str) -> ModuleType | None:
    for name in (f"station.{role}", f"station.{role}.settings", f"station.{role}s.settings"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        if hasattr(module, "EXAMPLE"):
            return module
    return None


PROGRAMS = {role: module for role in sorted(ROLES.roles) if (module := program_of(role)) is not None}


@pytest.mark.parametrize("role", PROGRAMS)
def test_a_program_knows_the_options_of_its_role(role):
    assert set(PROGRAMS[role].OPTIONS) == set(ROLES.roles[role].options["properties"])


@pytest.mark.parametrize("role", PROGRAMS)
def test_a_misspelt_option_is_told_with_the_right_one(role, tmp_path):
    options = PROGRAMS[role].OPTIONS
    right = max(options, key=len)
    file = tmp_path / "c.json"
    file.write_text(json.dumps(PROGRAMS[role].EXAMPLE))
    config.load(file, role, options)
    file.write_text(json.dumps(PROGRAMS[role].EXAMPLE | {right[:-2] + right[-1]: 1}))
    with pytest.raises(config.ConfigError, match=f"did you mean {right}"):
        config.load(file, role, options)


def test_programs_are_found():
    assert {"visuals", "fallback", "signage", "broker", "stills", "catalogue"} <= set(PROGRAMS)


@pytest.mark.parametrize(
    ("program", "module", "package"), [("stills", "PIL", "python3-pil"), ("visuals", "aiohttp", "python3-aiohttp")]
)
def test_a_missing_library_is_told_with_its_package(program, module, package):
    code = (
        f"import sys, runpy; sys.modules[{module!r}] = None; runpy.run_module('station.{program}', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"apt install {package}" in done.stderr
