"""The one place that touches the tags and vault internals of ansible-core 2.19.

Ansible tags each value and key that it reads with file and line, each string
that it trusts as a template, and each decrypted secret. Everything else in
this project sees only what the functions here return.
"""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from ansible._internal._datatag import _tags
from ansible._internal._templating._jinja_common import UndecryptableVaultError
from ansible.errors import AnsibleError
from ansible.parsing.vault import AnsibleVaultError, EncryptedString, VaultSecretsContext

from stationmaster.model import Origin


class Unreadable(Exception):
    """A value that depends on a secret whose password is not known.

    `certain` is False when it merely may: a name is missing that an encrypted file may define.
    """

    def __init__(self, certain: bool = True) -> None:
        super().__init__("the vault password is not known")
        self.certain = certain


def origin_of(value: Any, layer: str = "") -> Origin | None:
    """Return where a key or value was written, None when Ansible does not know.

    `true`, `false` and `null` cannot carry a tag: ask for the key's origin.
    """
    tag = value if isinstance(value, _tags.Origin) else _tags.Origin.get_tag(value)
    if tag is None or tag.path is None:
        return None
    return Origin(layer=layer, file=str(tag.path), line=tag.line_num)


def error_origin(error: BaseException) -> Origin | None:
    """Return the place that an Ansible error, or what caused it, points at."""
    seen: set[int] = set()
    current: BaseException | None = error
    found = None
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        found = origin_of(getattr(current, "obj", None)) or found
        current = current.__cause__
    return found


def lacks_password(error: BaseException) -> bool:
    """Say whether a template failed because it touched a vault value whose password is not known."""
    current: BaseException | None = error
    for _ in range(20):
        if current is None:
            return False
        if isinstance(current, UndecryptableVaultError | AnsibleVaultError):
            return True
        current = current.__cause__ or current.__context__
    return False


def is_template(value: Any) -> bool:
    """Say whether Ansible would template this string."""
    return isinstance(value, str) and "{" in value and _tags.TrustedAsTemplate.is_tagged_on(value)


def is_encrypted(value: Any) -> bool:
    """Say whether a value is a `!vault` value that is still encrypted."""
    return isinstance(value, EncryptedString)


def was_encrypted(data: Any) -> bool:
    """Say whether a file's data came from a file that was encrypted as a whole."""
    return bool(_tags.SourceWasEncrypted.is_tagged_on(data))


def decrypted(value: Any) -> str:
    """Return the text of a `!vault` value.

    Raises:
        Unreadable: the password is not known.
    """
    try:
        return str.__str__(str(value))
    except (AnsibleError, ReferenceError) as error:
        raise Unreadable from error


@contextlib.contextmanager
def vault_secrets(secrets: Sequence[tuple[str, Any]] | None) -> Iterator[None]:
    """Let `!vault` values be decrypted with these secrets for a while.

    Ansible holds its secrets in one object per process which it sets once; a
    long-lived process that reads several inventories needs it per inventory.
    """
    before = VaultSecretsContext._current
    VaultSecretsContext._current = VaultSecretsContext(list(secrets)) if secrets else None
    try:
        yield
    finally:
        VaultSecretsContext._current = before


def scalar(value: Any) -> Any:
    """Return a leaf as plain JSON data without any tag.

    Dates become ISO 8601 text, as they were written; numbers that JSON lacks
    become their text, so that a schema refuses them.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return str(value)


def name(key: Any) -> str:
    """Return a mapping's key as text: YAML's `1:` and `true:` are names too."""
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(scalar(key))


def plain(value: Any, _open: tuple[int, ...] = ()) -> Any:
    """Return a whole value as plain JSON data, encrypted leaves as None.

    A value that contains itself (a YAML alias can) is cut there.
    """
    if id(value) in _open:
        return None
    if isinstance(value, Mapping):
        return {name(key): plain(item, (*_open, id(value))) for key, item in value.items()}
    if is_encrypted(value):
        return None
    if isinstance(value, list | tuple | Set):
        return [plain(item, (*_open, id(value))) for item in value]
    return scalar(value)
