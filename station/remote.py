"""A place to upload to, as rclone must be told about it.

`open_remote` turns a resolved entry of `event_targets` into files below the
instance's runtime folder, all 0600: rclone.conf, known_hosts, key. No secret
is ever an argument or an environment variable.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from station import files
from station.config import ConfigError, typed

SECTION = "target"
"""Name of the place in rclone.conf: paths there begin with `target:`."""
COMPUTES_HASHES = ("sftp", "local")
"""Places whose checksum is made from the bytes that they stored. What S3 states of an object in several parts, and what
Nextcloud states of any, is what the client said while uploading: no proof."""

Verify = Literal["auto", "hash", "download"]


@dataclass(frozen=True, slots=True)
class Remote:
    """A place to upload to.

    `base` is the folder in rclone's words, without the section; `url` is how
    receipts name that folder; `config` is rclone's configuration file, made again by
    `open_remote` only. `secrets` are strings that no message may hold.
    """

    name: str
    kind: str
    base: str
    url: str
    verify: Verify
    config: Path
    secrets: tuple[str, ...]

    def path(self, *parts: str) -> str:
        """Return a path at the target as an rclone argument."""
        return f"{SECTION}:" + "/".join([*([self.base] if self.base else []), *parts])

    def locate(self, *parts: str) -> str:
        """Return the URL of a path at the target, for people and receipts."""
        return "/".join([self.url.rstrip("/"), *(quote(part) for part in parts)])

    def scrub(self, text: str) -> str:
        """Return a text without any secret of the target."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def open_remote(name: str, entry: Mapping[str, Any], folder: Path) -> Remote:
    """Write what rclone needs to know about a target.

    Args:
        name: name of the target.
        entry: the resolved entry, secrets merged in.
        folder: the instance's runtime folder; rclone.conf and its companions are written there.

    Raises:
        ConfigError: an entry that cannot be used, named by its key.
        OSError: the folder cannot be written, or there is no rclone.
    """
    text = _Reader(name, entry)
    kind = text.need("type")
    make = {"sftp": _sftp, "station": _sftp, "s3": _s3, "webdav": _webdav, "local": _local}.get(kind)
    if make is None:
        raise ConfigError(f"targets.{name}.type", f"is {kind!r}; allowed are sftp, s3, webdav, local and station")
    folder.mkdir(parents=True, exist_ok=True)
    kind = "sftp" if kind == "station" else kind
    settings, base, url = make(text, folder)
    lines = [
        f"[{SECTION}]",
        f"type = {kind}",
        *(f"{key} = {_value(name, key, value)}" for key, value in settings.items()),
    ]
    config = folder / "rclone.conf"
    files.write(config, "\n".join(lines) + "\n", mode=0o600)
    verify = text.get("verify", "auto")
    if verify == "auto":
        verify = "auto" if kind in COMPUTES_HASHES else "download"
    if verify not in ("auto", "hash", "download"):
        raise ConfigError(f"targets.{name}.verify", f"is {verify!r}; allowed are auto, hash and download")
    secrets = tuple(str(entry[key]) for key in ("password", "private_key", "secret_access_key") if entry.get(key))
    return Remote(name, kind, base, url, verify, config, (*secrets, *_obscured(settings)))


def minimal_environment(folder: Path) -> dict[str, str]:
    """Return the environment for rclone: no RCLONE_… of someone else's, and its cache where we may write."""
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {"PATH": path, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "LANG": "C.UTF-8"}


class _Reader:
    """The entry, read key by key with errors that name the key."""

    def __init__(self, name: str, entry: Mapping[str, Any]) -> None:
        self.name = name
        self.entry = entry

    def need(self, key: str) -> str:
        return typed(self.entry, key, str, prefix=f"targets.{self.name}.")

    def get(self, key: str, default: str = "") -> Any:
        return typed(self.entry, key, str, default, prefix=f"targets.{self.name}.")

    def folder(self) -> str:
        path = str(self.get("path"))
        if any(part in (".", "..") for part in path.split("/")) or re.search(r"[\x00-\x1f]", path):
            raise ConfigError(f"targets.{self.name}.path", f"is {path!r}; allowed is a folder without `..`")
        return path.rstrip("/") if path != "/" else ""

    def error(self, key: str, text: str) -> ConfigError:
        return ConfigError(f"targets.{self.name}.{key}", text)


def _value(name: str, key: str, value: str) -> str:
    # rclone.conf is an INI file with quoting and `%(x)s` substitution of its own.
    if re.search(r"[\x00-\x1f\x7f]|%\(", value) or value[:1] in ('"', "`"):
        raise ConfigError(
            f"targets.{name}.{key}", "holds a control character, a leading quote or `%(`, which rclone.conf cannot hold"
        )
    return value


def _obscured(settings: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(settings[key] for key in ("pass",) if key in settings)


def _obscure(password: str) -> str:
    """Return rclone's form of a password. It is no encryption: the file's mode protects it."""
    if "\n" in password or "\r" in password:
        raise ConfigError("password", "holds a line break")
    done = subprocess.run(["rclone", "obscure", "-"], input=password + "\n", capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _sftp(text: _Reader, folder: Path) -> tuple[dict[str, str], str, str]:
    host, port, path = text.need("host"), typed(text.entry, "port", int, 22), text.folder()
    settings = {"host": host, "port": str(port), "user": text.need("user"), "shell_type": "unix"}
    if text.get("password"):
        settings["pass"] = _obscure(text.need("password"))
    if text.get("private_key"):
        key = folder / "key"
        files.write(key, text.need("private_key").rstrip("\n") + "\n", mode=0o600)
        settings["key_file"] = str(key)
    if "pass" not in settings and "key_file" not in settings:
        raise text.error("password", "is missing, and private_key as well: one of the two is needed")
    keys = [line.strip() for line in str(text.get("host_key")).splitlines() if line.strip()]
    if keys:
        known = folder / "known_hosts"
        place = host if port == 22 else f"[{host}]:{port}"
        files.write(known, "".join(f"{place} {key}\n" for key in keys), mode=0o600)
        settings["known_hosts_file"] = str(known)
    elif not typed(text.entry, "accept_any_host_key", bool, False, prefix=f"targets.{text.name}."):
        raise text.error(
            "host_key", "is missing: name the server's public key (ssh-keyscan), or set accept_any_host_key"
        )
    place = f"{host}:{port}" if port != 22 else host
    return settings, path, f"sftp://{place}/" + quote(path.lstrip("/"))


def _s3(text: _Reader, folder: Path) -> tuple[dict[str, str], str, str]:
    bucket, path = text.need("bucket"), text.folder().strip("/")
    settings = {
        "provider": text.get("provider", "Other"),
        "access_key_id": text.need("access_key_id"),
        "secret_access_key": text.need("secret_access_key"),
        # The account may be allowed to put objects and nothing else: do not try to make the bucket.
        "no_check_bucket": "true",
    }
    settings |= {key: text.get(key) for key in ("endpoint", "region") if text.get(key)}
    return settings, f"{bucket}/{path}" if path else bucket, f"s3://{bucket}/" + quote(path)


def _webdav(text: _Reader, folder: Path) -> tuple[dict[str, str], str, str]:
    url, path = text.need("url"), text.folder().strip("/")
    settings = {"url": url, "vendor": text.get("vendor", "other")}
    if text.get("user"):
        settings["user"] = text.need("user")
    if text.get("password"):
        settings["pass"] = _obscure(text.need("password"))
    return settings, path, url.rstrip("/") + "/" + quote(path)


def _local(text: _Reader, folder: Path) -> tuple[dict[str, str], str, str]:
    path = Path(text.need("path"))
    if not path.is_absolute():
        raise text.error("path", f"is {str(path)!r}; needed is an absolute path")
    return {}, str(path), "file://" + quote(str(path))
