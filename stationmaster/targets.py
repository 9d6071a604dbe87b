"""Places to upload to: the schema of an entry of `event_targets`."""

from __future__ import annotations

from typing import Any

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["sftp", "s3", "webdav", "local", "station"]},
        "password": {"type": "string", "writeOnly": True},
        "private_key": {"type": "string", "writeOnly": True},
        "secret_access_key": {"type": "string", "writeOnly": True},
    },
}
"""JSON Schema of one target; values marked `writeOnly` reach a station as credentials only."""
