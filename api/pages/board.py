"""The status board: how each room is, for a screen in the crew's room; read-only, by a token of its own.

It shows states and talks, and nothing that a passer-by should not read: no addresses, no texts of programs.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from api.access import address_of, find_token
from api.pages import render, rooms
from api.pages.changes import Cards, answer, stream
from api.pages.session import BOARD, board_of, give_cookie
from api.problems import Problem

router = APIRouter(prefix="/board", include_in_schema=False)


def cards_of(manager: Any) -> Cards:
    """Return the cards of all rooms as the board shows them."""

    def draw() -> dict[str, str]:
        return {one["room"].name: render.fragment("board-room", **one) for one in rooms.read(manager)}

    return Cards(draw)


@router.get("")
def show(request: Request, token: Annotated[str | None, Query(max_length=200)] = None) -> Response:
    """Show the board; with a token in the address it is kept in a cookie, and the address shown without it."""
    manager = request.app.state.manager
    if token is not None:
        found = find_token(manager.database, token)
        if found is None or found.scope != BOARD:
            manager.open_limit.check(address_of(request))
            raise Problem(
                401, "NoValidToken", "This is no valid token of a status board.",
                "An admin makes one: stationmaster token create --scope board",
            )  # fmt: skip
        return give_cookie(request, RedirectResponse("/board", 303), found.id, BOARD)
    board_of(request)
    return render.page(request, None, "board", found=rooms.read(manager))


@router.get("/changes")
def changes(request: Request, _viewer: Annotated[str, Depends(board_of)]) -> StreamingResponse:
    """Send the rooms as they change."""
    return answer(stream(request.app.state.manager, request.app.state.board_cards))
