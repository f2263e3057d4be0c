"""Reads: what is known of one user, and of one item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from app.domain.catalog import Catalog
from app.domain.items import MAX_NEIGHBOURS, REPLY_NEIGHBOURS
from app.domain.validation import MAX_PRODUCT_ID_BYTES, MAX_USER_ID_BYTES
from app.streams.recommender import PUBLISHED
from app.web.freshness import SERVED_BY
from app.web.owners import NOBODY_KNOWS, Owners, json_response
from app.web.peers import HOP_HEADER, problem_of
from app.web.problems import FieldError, Problem, Refusal
from app.web.representations import item_json, profile_json, recommendations_json, removed_json, selection_json
from app.web.views import Views

#: A list has at most 50 (ranking.list_length).
MAX_RECOMMENDATIONS = 50


class Reads:
    """The handlers of GET /v1/users/... and /v1/items/...; each answer is of acknowledged state, and says how current that is."""

    def __init__(self, views: Views, owners: Owners, catalog: Catalog, clock: Callable[[], int]) -> None:
        self._views = views
        self._owners = owners
        self._catalog = catalog
        self._clock = clock

    async def profile(self, request: web.Request) -> web.StreamResponse:
        user_id = id_of(request, "user_id", MAX_USER_ID_BYTES)
        include = request.query.get("include")
        if include not in (None, "neighbours"):
            raise _wrong("include", 'must be "neighbours" or absent')

        def here() -> dict[str, Any] | Problem:
            profile = self._views.profile(user_id)
            if profile is None:
                return UNKNOWN_USER
            return profile_json(profile, self._views.neighbours(user_id) if include else None)

        return await self._owners.answer(request, user_id, here)

    async def recommendations(self, request: web.Request) -> web.StreamResponse:
        """The list that was published for the user; with ``slot`` or ``explain``, a list as it is at this moment."""
        user_id = id_of(request, "user_id", MAX_USER_ID_BYTES)
        limit = _limit(request, MAX_RECOMMENDATIONS, MAX_RECOMMENDATIONS)
        slot, explain = self._slot(request), _flag(request, "explain")

        def published() -> dict[str, Any] | Problem:
            update = self._views.published(user_id, self._clock())
            if update is None and self._views.profile(user_id) is None:
                return UNKNOWN_USER
            return recommendations_json(user_id, update, limit, self._catalog)

        def selected() -> dict[str, Any] | Problem:
            # Nobody is unknown here: who reads a slot has a place to fill, and gets what anybody would.
            name, profile, now_ms = slot or PUBLISHED, self._views.profile(user_id), self._clock()
            selection = self._views.select(user_id, name, now_ms, explain=explain)
            document = selection_json(user_id, name, profile, selection, limit, self._catalog, now_ms)
            return document | {"removed": removed_json(selection, self._catalog)} if explain else document

        answer = await self._owners.answer(request, user_id, selected if slot or explain else published, ranked=not (slot or explain))
        is_wanted = slot and "max_staleness_ms" in request.query and HOP_HEADER not in request.headers
        if slot and is_wanted and (why := problem_of(answer)) in NOBODY_KNOWS:
            return self._fallback(user_id, slot, limit, why)
        return answer

    def _fallback(self, user_id: str, slot: str, limit: int, why: str) -> web.StreamResponse:
        """What anybody gets, where nobody knows the person well enough: a place is to be filled."""
        now_ms = self._clock()
        selection = self._views.select_for_anybody(slot, now_ms)
        document = selection_json(user_id, slot, None, selection, limit, self._catalog, now_ms)
        response = json_response(document | {"fallback_because": why})
        response.headers[SERVED_BY] = "fallback"
        return response

    def _slot(self, request: web.Request) -> str | None:
        name = request.query.get("slot")
        if name is not None and name not in (slots := self._views.slots()):
            raise _wrong("slot", f"must be one of {', '.join(sorted(slots))}")
        return name

    async def neighbours(self, request: web.Request) -> web.StreamResponse:
        product_id = id_of(request, "product_id", MAX_PRODUCT_ID_BYTES)
        limit = _limit(request, REPLY_NEIGHBOURS, MAX_NEIGHBOURS)

        def here() -> dict[str, Any] | Problem:
            item = self._views.item(product_id)
            return _UNKNOWN_ITEM if item is None else item_json(item, limit)

        return await self._owners.answer(request, product_id, here, self._views.item_freshness)


UNKNOWN_USER = Problem(404, "unknown-user", "no event of this user was applied")
_UNKNOWN_ITEM = Problem(404, "unknown-item", "no event about this product was applied")


def id_of(request: web.Request, name: str, max_bytes: int) -> str:
    """The id in the path. Raises Refusal if no id can look like it."""
    text = request.match_info[name]
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _wrong(name, "is not UTF-8") from None
    if text.startswith("__"):  # the tables' own keys; validation lets no id begin so
        raise _wrong(name, 'must not begin with "__"')
    if size > max_bytes:
        raise _wrong(name, f"must be at most {max_bytes} bytes of UTF-8")
    return text


def _limit(request: web.Request, default: int, most: int) -> int:
    text = request.query.get("limit")
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most:
        return int(text)
    raise _wrong("limit", f"must be a whole number from 1 to {most}")


def _flag(request: web.Request, name: str) -> bool:
    match request.query.get(name):
        case None | "false" | "0":
            return False
        case "true" | "1" | "":
            return True
        case _:
            raise _wrong(name, "must be true or false")


def _wrong(name: str, detail: str) -> Refusal:
    return Refusal(Problem(400, "invalid-parameter", f"{name} {detail}", [FieldError(None, name, f"{name} {detail}")]))
