"""The lab's one error."""

from __future__ import annotations


class LabError(Exception):
    """Something about the lab that the caller can put right; the text says what and how."""
