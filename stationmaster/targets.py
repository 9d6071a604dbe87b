"""The JSON Schema of `event_targets`: the places of an event to upload to.

The schema is data for the inventory rules and for editors; annotations mean
what they mean in a role's options (`writeOnly`: a secret, delivered only as a
credential; `x-reference`: a value `station/instance`). `station/remote.py` reads what
the bundle makes of an entry.
"""

from __future__ import annotations

from typing import Any

_SEGMENT = r"[A-Za-z0-9_.,=+~@-]+"
_DOTS = r"(.*/)?\.{1,2}(/|$)"
_PATH = {
    "type": "string",
    "pattern": rf"^(?!{_DOTS})/?({_SEGMENT}(/{_SEGMENT})*)?$",
    "default": "",
    "description": "Folder at the target; below it come event, room and product. Empty: where the account lands.",
}
_VERIFY = {
    "enum": ["auto", "hash", "download"],
    "default": "auto",
    "description": (
        "How a copy is verified. `hash` trusts the checksum that the target states, `download` reads every byte "
        "back; `auto` is `hash` where the target computes checksums from what it stored (sftp with a shell, "
        "local), else `download`."
    ),
}
_PASSWORD = {"type": "string", "minLength": 1, "writeOnly": True, "description": "Password (a vault value)."}
_PRIVATE_KEY = {
    "type": "string",
    "minLength": 1,
    "writeOnly": True,
    "description": "Private key in PEM form, without a passphrase (a vault value).",
}
_USER = {"type": "string", "pattern": "^[A-Za-z0-9_.@+-]{1,64}$", "description": "Account at the target."}
_HOST_KEYS = {
    "type": "string",
    "pattern": r"^((ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?\n?)+$",
    "description": (
        "The server's public keys as `ssh-keyscan` prints them, without the host name, one a line. List all of "
        "them: which one is used is settled between the two programs."
    ),
}


def _entry(kind: str, summary: str, required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": summary,
        "type": "object",
        "additionalProperties": False,
        "required": ["type", *required],
        "properties": {"type": {"const": kind, "description": summary}, **properties, "verify": _VERIFY},
    }


SFTP = _entry(
    "sftp",
    "An account on an SSH server.",
    ["host", "user"],
    {
        "host": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]+$", "description": "Name or address."},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535, "default": 22, "description": "TCP port."},
        "user": _USER,
        "password": _PASSWORD,
        "private_key": _PRIVATE_KEY,
        "host_key": _HOST_KEYS,
        "accept_any_host_key": {
            "type": "boolean",
            "default": False,
            "description": (
                "Talk to whoever answers at the address, and give them the password. "
                "Only for a cable between two boxes."
            ),
        },
        "path": _PATH,
    },
)
SFTP["anyOf"] = [{"required": ["password"]}, {"required": ["private_key"]}]
SFTP["allOf"] = [
    {
        "anyOf": [
            {"required": ["host_key"]},
            {"properties": {"accept_any_host_key": {"const": True}}, "required": ["accept_any_host_key"]},
        ]
    }
]
S3 = _entry(
    "s3",
    "A bucket of an S3 service.",
    ["bucket", "access_key_id", "secret_access_key"],
    {
        "provider": {
            "enum": [
                "AWS",
                "Ceph",
                "Cloudflare",
                "DigitalOcean",
                "Dreamhost",
                "IDrive",
                "Minio",
                "Scaleway",
                "Wasabi",
                "Other",
            ],
            "default": "Other",
            "description": "Whose service it is; it decides about details of the protocol.",
        },
        "endpoint": {
            "type": "string",
            "pattern": r"^(https?://)?[A-Za-z0-9_.:-]+(/\S*)?$",
            "description": "Address of the service, unless it is AWS.",
        },
        "region": {"type": "string", "pattern": "^[A-Za-z0-9-]*$", "default": "", "description": "Region."},
        "bucket": {
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            "description": "Bucket; it must exist.",
        },
        "access_key_id": {"type": "string", "pattern": r"^\S+$", "description": "The public half of the key."},
        "secret_access_key": {
            "type": "string",
            "minLength": 1,
            "writeOnly": True,
            "description": "The secret half (a vault value).",
        },
        "path": _PATH,
    },
)
WEBDAV = _entry(
    "webdav",
    "A WebDAV folder, for instance of a Nextcloud.",
    ["url"],
    {
        "url": {
            "type": "string",
            "pattern": r"^https?://[^\s@]+$",
            "description": "Address of the folder; no user or password in it.",
        },
        "vendor": {
            "enum": ["nextcloud", "owncloud", "other"],
            "default": "other",
            "description": "Whose software it is.",
        },
        "user": _USER,
        "password": _PASSWORD,
        "path": _PATH,
    },
)
LOCAL = _entry(
    "local",
    "A folder on the uploading station, for instance a mounted disk.",
    ["path"],
    {
        "path": {
            "type": "string",
            "pattern": rf"^(?!{_DOTS})/({_SEGMENT}/)*{_SEGMENT}$",
            "description": "Absolute path of the folder; it must exist.",
        },
    },
)
STATION = _entry(
    "station",
    "An instance of the station role `target`; address, port, account and keys come from its options.",
    ["station"],
    {
        "station": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_.-]+/[A-Za-z0-9_-]{1,64}$",
            "x-reference": True,
            "description": "`station/instance` of the target.",
        },
        "path": _PATH,
    },
)
ENTRIES: dict[str, dict[str, Any]] = {"sftp": SFTP, "s3": S3, "webdav": WEBDAV, "local": LOCAL, "station": STATION}
"""The schema of an entry by its `type`."""
SCHEMA: dict[str, Any] = {
    "title": "A place to upload to",
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": list(ENTRIES), "description": "Kind of the place."}},
    "oneOf": list(ENTRIES.values()),
}
"""The schema of one entry."""
ALL_SCHEMA: dict[str, Any] = {
    "title": "event_targets: places to upload to, by name",
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "additionalProperties": SCHEMA,
}
"""The schema of `event_targets` as a whole."""
