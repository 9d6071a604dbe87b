"""The one name that uploaders and the station role `target` must agree on."""

INCOMING = ".incoming"
"""Folder at a target for what is not verified yet. Nothing else at a `target` can be changed."""
