"""Escaping into units: what a value contains must arrive at the process unchanged."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stationmaster import units

AWKWARD = [
    "50% $HOME ${HOME} $$",
    'say "hi"',
    "back\\slash \\n",
    "two\nlines",
    "tab\tbell\a",
    "'single'",
    "",
    " ",
    "%%n",
    "ü→",
]


def unescape(argument: str) -> str:
    """Undo what systemd undoes: quotes, C escapes, specifiers and dollars."""
    assert argument[0] == argument[-1] == '"'
    out, text = [], argument[1:-1]
    position = 0
    while position < len(text):
        two = text[position : position + 2]
        if two in ("%%", "$$", '\\"', "\\\\"):
            out.append(two[1])
            position += 2
        elif two == "\\n":
            out.append("\n")
            position += 2
        elif two == "\\x":
            out.append(chr(int(text[position + 2 : position + 4], 16)))
            position += 4
        else:
            assert text[position] not in '%$"\\', argument
            out.append(text[position])
            position += 1
    return "".join(out)


@pytest.mark.parametrize("value", AWKWARD)
def test_word_is_undone_by_systemds_rules(value):
    assert unescape(units.word(value)) == value


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",))))
@settings(max_examples=300, deadline=None)
def test_word_never_breaks_out(value):
    quoted = units.word(value)
    assert unescape(quoted) == value
    assert "\n" not in quoted


def test_word_refuses_nul():
    with pytest.raises(units.TemplateError, match="NUL"):
        units.word("a\0b")


def test_line_keeps_one_line_and_no_specifier():
    assert units.line("100%\n[Service]\nExecStart=evil") == "100%% [Service] ExecStart=evil"


def test_systemd_reads_a_quoted_command(tmp_path: Path):
    """The real parser agrees: `systemd-analyze verify` accepts each awkward argument."""
    for number, value in enumerate(AWKWARD):
        unit = tmp_path / f"awkward{number}.service"
        unit.write_text(f"[Service]\nExecStart=/bin/true {units.word(value)}\n")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (value, done.stderr)


def test_an_expression_names_its_place():
    with pytest.raises(units.TemplateError, match="here"):
        units.expand("{{ nothing }}", {}, "here")
