"""What to do where a library of Debian's is missing: for programs that are run by hand, where nobody installed it."""

from __future__ import annotations

PACKAGES = {"aiohttp": "python3-aiohttp", "aio_pika": "python3-aio-pika", "PIL": "python3-pil"}
"""Debian package by the name of its module."""


def told(error: ModuleNotFoundError) -> str:
    """Return what a person does about a module that is missing. Raises it again where no package has it."""
    package = PACKAGES.get((error.name or "").partition(".")[0])
    if package is None:
        raise error
    return f"{error.name} is missing: run it by /usr/bin/python3 after `apt install {package}`"
