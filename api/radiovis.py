"""The HTTP interface of the original manager of RadioVIS: a server that was made for it finds ours in its place.

Not part of our API: requests are forms, also with GET, the token of scope `visuals` stands in the path, and a wrong one
is answered with 404, as an address that is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import delete
from starlette.concurrency import run_in_threadpool

from api import messages
from api.access import address_of, find_token, is_enough
from api.broadcasters import converted
from api.clock import now
from api.logs import EARLIEST, LATEST
from api.problems import Problem, not_found
from api.tables import Message
from station.visuals import topics
from station.visuals.directory import Listing, judge
from station.visuals.passwords import Checker

router = APIRouter(prefix="/action/radiovis/api", include_in_schema=False)

SOURCE = "radiovis"
"""What is logged through here, which has no instance of ours; only this is removed through here."""
FIELDS = 100
"""Fields of a form; the original sends four."""
FIRST_DIGIT = {
    "ad": "3", "al": "9", "at": "a", "az": "b", "ba": "f", "be": "6", "bg": "8", "by": "f",
    "ch": "4", "cy": "2", "cz": "2", "de": "d", "dk": "9", "dz": "2", "ee": "2", "eg": "f", "es": "e", "fi": "6",
    "fo": "9", "fr": "f", "gb": "c", "ge": "c", "gi": "a", "gr": "1", "hr": "c", "hu": "b", "ie": "2", "il": "4",
    "iq": "b", "is": "a", "it": "5", "jo": "5", "lb": "a", "li": "9", "lt": "c", "lu": "7", "lv": "9", "ly": "d",
    "ma": "1", "mc": "b", "md": "1", "me": "1", "mt": "c", "nl": "8", "no": "f", "pl": "3", "ps": "8",
    "pt": "8", "ro": "e", "rs": "d", "ru": "7", "se": "e", "si": "9", "sk": "5", "sm": "3", "sy": "6", "tn": "7",
    "tr": "3", "ua": "6", "uk": "c", "va": "4",
}  # fmt: skip
"""First digit of the PI codes of a country of the European broadcasting area (IEC 62106, annex D), of some of several;
the original asks for a country alone, and takes the answer for all its stations."""
Form = dict[str, str]


@router.api_route("/{secret}/{name}", methods=["GET", "POST"])
async def answer(request: Request, secret: str, name: str) -> Response:
    """Answer one call of the original."""
    manager = request.app.state.manager
    operation = OPERATIONS.get(name)
    token = await run_in_threadpool(find_token, manager.database, secret)
    if token is None or not is_enough(token.scope, "visuals") or token.room is not None:
        await run_in_threadpool(manager.open_limit.check, address_of(request))
        raise not_found("page", name[:40])
    if operation is None:
        raise not_found("page", name[:40])
    form = await _form(request)
    if name == "check_auth":
        return JSONResponse(await _check_auth(manager, form))
    return JSONResponse(await run_in_threadpool(operation, manager, form))


async def _form(request: Request) -> Form:
    try:
        body = parse_qsl(
            (await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS
        )
    except ValueError as error:
        raise Problem(422, "InvalidForm", "The form has too many fields.", "Send what the call needs.") from error
    return {**dict(request.query_params), **dict(body)}


def _listing(manager: Any) -> Listing:
    return Listing.from_json(dict(manager.inventory.current().broadcasters))


async def _check_auth(manager: Any, form: Form) -> dict[str, Any]:
    listing = await run_in_threadpool(_listing, manager)
    # one for the whole process: it remembers what was right, and has its own few threads
    found = await judge(listing, _CHECKER, form.get("username", ""), form.get("password", ""), form.get("ip", ""))
    return {"result": True} if found.ok else {"result": False, "error": found.error}


def _get_channels(manager: Any, form: Form) -> dict[str, Any]:
    broadcaster = _listing(manager).broadcasters.get(form.get("station_id", ""))
    return {"list": [channel.topic for channel in broadcaster.channels] if broadcaster else []}


def _get_gcc(_manager: Any, form: Form) -> dict[str, Any]:
    country = form.get("cc", "").strip().lower()
    return {"gcc": topics.gcc(country, form.get("pi") or FIRST_DIGIT.get(country, ""))}


def _get_all_channels(manager: Any, _form: Form) -> dict[str, Any]:
    return {"list": [[converted(one.topic), _number(one.topic)] for one in _listing(manager).channels]}


def _get_all_vis_channels(manager: Any, _form: Form) -> dict[str, Any]:
    return {"list": [[converted(one.topic), _number(one.topic)] for one in _listing(manager).channels if one.picture]}


def _get_channel_default(manager: Any, form: Form) -> dict[str, Any]:
    wanted = form.get("id", "")
    for one in _listing(manager).channels:
        if one.picture and str(_number(one.topic)) == wanted:
            file = PurePosixPath(urlsplit(one.picture).path).name
            return {
                "info": {
                    "id": _number(one.topic), "orga": one.station, "name": one.name, "filename": file,
                    "clean_filename": file, "radiotext": one.text or "", "radiolink": one.link or "",
                    "public_url": one.picture,
                }
            }  # fmt: skip
    return {"info": None}


def _add_log(manager: Any, form: Form) -> dict[str, Any]:
    try:
        told = json.loads(form.get("headers") or "{}")
        when = float(form.get("timestamp") or now())
    except ValueError as error:
        raise Problem(422, "InvalidForm", f"It is no log entry: {error}", "Send headers as JSON.") from error
    if not isinstance(told, dict) or not form.get("topic") or not math.isfinite(when):
        raise Problem(422, "InvalidForm", "It is no log entry.", "Send topic, message, headers and timestamp.")
    one = {
        "topic": form["topic"], "body": form.get("message", ""), "source": SOURCE,
        "headers": {str(name): str(value) for name, value in told.items()},
        "when": min(max(when, EARLIEST), LATEST),
    }  # fmt: skip
    messages.store(manager.database, [one])
    return {"result": True}


def _cleanup_logs(manager: Any, form: Form) -> dict[str, Any]:
    try:
        age = float(form.get("max_age", ""))
    except ValueError as error:
        raise Problem(422, "InvalidForm", "max_age is no number.", "Send seconds.") from error
    if math.isfinite(age) and age >= 0:
        with manager.database.writing() as session:
            session.execute(delete(Message).where(Message.source == SOURCE, Message.at < now() - age))
    return {"result": True}


def _number(topic: str) -> int:
    """Return a channel's id, a number as the original's; it follows from the topic, so that it stays."""
    return int.from_bytes(hashlib.sha256(topic.encode()).digest()[:6], "big")


_CHECKER = Checker()
OPERATIONS: dict[str, Callable[[Any, Form], dict[str, Any]] | None] = {
    "check_auth": lambda _manager, _form: {},
    "get_channels": _get_channels,
    "get_gcc": _get_gcc,
    "get_all_channels": _get_all_channels,
    "get_all_vis_channels": _get_all_vis_channels,
    "get_channel_default": _get_channel_default,
    "add_log": _add_log,
    "cleanup_logs": _cleanup_logs,
}
"""What the original calls; `check_auth` waits for others and is answered on its own."""
