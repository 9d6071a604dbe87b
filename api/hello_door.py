"""Who signed a hello, and the answers to one that is not taken."""

from __future__ import annotations

import random

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.access import address_of
from api.clock import now
from api.guard import RateLimit
from api.problems import Problem
from api.registry import Identity, Registry
from station import hello_signature

SKEW = 30.0
"""Seconds that a station's time may differ from ours: with it, a hello of a forgotten boot cannot be sent again."""
SPREAD = 0.2
"""Share of the interval by which hellos come early, at random."""

_REFUSALS = {
    "unsigned": (401, "NotSigned", "The hello brings no signature: {why}.", "Sign it as /openapi.json says."),
    "signature": (
        401,
        "BadSignature",
        "No station that is enrolled signs like this.",
        "Enrol with a new claim; an operator accepts it.",
    ),
    "rotated": (
        401,
        "SecretRotated",
        "The secret that signed this is no longer valid.",
        "Enrol with a new claim, signed with the secret that there was.",
    ),
    "unknown": (401, "BadSignature", "The station is no longer enrolled.", "Enrol with a new claim."),
    "skew": (
        409,
        "ClockSkew",
        "The time of the hello is more than {skew:.0f} s from the manager's.",
        "Sign with the time that 'server_time' tells, and set the clock right.",
    ),
    "replay": (
        409,
        "Replayed",
        "The counter is not greater than that of the last hello of this boot.",
        "Sign a new hello with a greater counter.",
    ),
    "left": (
        409,
        "BootLeft",
        "The station has said hello from a later boot already.",
        "If two machines have the same disk contents, enrol one of them anew.",
    ),
    "other-machine": (
        409,
        "MachineChanged",
        "None of the MAC addresses is one that the station was enrolled with, or that the inventory names.",
        "Write the machine's MAC address into the inventory, or enrol it anew and have an operator accept it.",
    ),
}
"""Outcome to status, code, detail and action."""


def refusal(outcome: str, why: str = "") -> Problem:
    """Return the problem of a hello that is not taken, with the manager's time."""
    status, code, detail, action = _REFUSALS[outcome]
    return Problem(
        status, code, detail.format(why=why, skew=SKEW), action, retryable=status == 409, server_time=round(now(), 3)
    )


def spread(interval: float) -> float:
    """Return when to come again, in seconds: a little before the interval is over, each time another little."""
    return round(interval * (1 - SPREAD * random.random()), 3)  # noqa: S311 - nothing secret


async def checked(
    registry: Registry, limit: RateLimit, request: Request, path: str, body: bytes
) -> tuple[Identity, hello_signature.Signed]:
    """Return who signed a request and with what.

    Raises:
        Problem: 401 for a wrong signature (429 if there are many), 409 for a wrong time.
    """
    try:
        signed = hello_signature.read(request.headers)
    except hello_signature.Unsigned as error:
        limit.check(address_of(request))
        raise refusal("unsigned", str(error)) from error
    identity = registry.identity(signed.station)
    if identity is None or not hello_signature.verify(identity.secret, signed, "POST", path, body):
        # another manager may have enrolled it, or changed its secret, since we looked
        identity = await run_in_threadpool(registry.load_identity, signed.station)
        if identity is None or not hello_signature.verify(identity.secret, signed, "POST", path, body):
            limit.check(address_of(request))
            raise refusal(_why(registry, identity, signed, path, body))
    if abs(now() - float(signed.time)) > SKEW:
        raise refusal("skew")
    return identity, signed


def _why(registry: Registry, identity: Identity | None, signed: hello_signature.Signed, path: str, body: bytes) -> str:
    if identity is not None and identity.rotating:
        before = bytes.fromhex(registry.secret(identity.id, identity.secret_number - 1))
        if hello_signature.verify(before, signed, "POST", path, body):
            return "rotated"
    return "signature"
