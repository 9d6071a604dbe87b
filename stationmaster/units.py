"""Rendering units and configuration files from a role's data.

systemd reads `%` as a specifier, `$` as a variable and quotes as words: every
value goes through one of the filters below before it enters a unit.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


class TemplateError(Exception):
    """A template of a role that cannot be rendered; the text names it."""


def line(value: object) -> str:
    """Escape a value for a unit setting that is not split into words.

    Specifiers are doubled; line breaks and other control characters become
    spaces, for no setting of ours holds them and one would start a new line.
    """
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text.replace("%", "%%").strip()


def word(value: object) -> str:
    r"""Quote a value as one argument of `ExecStart=`.

    Control characters become `\n` and `\xNN` escapes, which systemd undoes.

    Raises:
        TemplateError: the value has a NUL character, which no argument can hold.
    """
    text = str(value)
    if "\0" in text:
        raise TemplateError(f"an argument cannot hold a NUL character: {text!r}")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    if not text.isprintable():
        text = "".join(_escape(character) for character in text)
    return f'"{text}"'


def path_word(value: object) -> str:
    """Quote a path for settings that take a list of paths; there `$` is an ordinary character."""
    return word(value).replace("$$", "$")


def _escape(character: str) -> str:
    if character == "\n":
        return "\\n"
    if ord(character) < 32 or ord(character) == 127:
        return f"\\x{ord(character):02x}"
    return character


def environment(*folders: Path) -> jinja2.Environment:
    """Return a Jinja environment over template folders, the shared `templates/` last.

    An undefined name is an error; line breaks of block tags are dropped.
    """
    env = _environment(folders)
    return env


@functools.cache
def _environment(folders: tuple[Path, ...]) -> jinja2.Environment:
    env = jinja2.Environment(  # noqa: S701 - units and configuration files are no HTML
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    env.filters.update(line=line, word=word, path_word=path_word, json=to_json)
    return env


def to_json(value: object) -> str:
    """Return a value as JSON, keys sorted, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1) + "\n"


def expand(text: str, variables: dict[str, Any], where: str) -> str:
    """Render a string of role.yml.

    Args:
        text: the string, with or without Jinja expressions.
        variables: what expressions may use.
        where: what to call the place in an error.

    Raises:
        TemplateError: the expression is wrong or uses an unknown name.
    """
    if "{" not in text:
        return text
    try:
        return _compiled(text).render(variables)
    except Exception as error:  # an expression may raise anything; what counts is where it stands
        raise TemplateError(f"{where}: {text!r}: {error}") from error


@functools.cache
def _compiled(text: str) -> jinja2.Template:
    return environment().from_string(text)


def render_file(folder: Path, template: str, variables: dict[str, Any]) -> str:
    """Render a template of a role's `templates/` folder or of the shared one.

    Raises:
        TemplateError: the template is missing, wrong, or uses an unknown name.
    """
    try:
        return environment(folder).get_template(template).render(variables)
    except Exception as error:  # a template may raise anything; what counts is which one it was
        raise TemplateError(f"{folder / template}: {type(error).__name__}: {error}") from error
