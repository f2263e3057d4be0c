"""Reads: what is known of one user, and of one item."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.domain.items import MAX_NEIGHBOURS, REPLY_NEIGHBOURS
from app.domain.validation import MAX_PRODUCT_ID_BYTES, MAX_USER_ID_BYTES
from app.web.owners import Owners
from app.web.problems import FieldError, Problem, Refusal
from app.web.representations import item_json, profile_json, recommendations_json
from app.web.views import Views

#: A list has at most 50 (ranking.list_length).
MAX_RECOMMENDATIONS = 50


class Reads:
    """The handlers of GET /v1/users/... and /v1/items/...; each answer is of acknowledged state."""

    def __init__(self, views: Views, owners: Owners) -> None:
        self._views = views
        self._owners = owners

    async def profile(self, request: web.Request) -> web.StreamResponse:
        user_id = _id(request, "user_id", MAX_USER_ID_BYTES)
        include = request.query.get("include")
        if include not in (None, "neighbours"):
            raise _wrong("include", 'must be "neighbours" or absent')

        def here() -> dict[str, Any] | Problem:
            profile = self._views.profile(user_id)
            if profile is None:
                return _UNKNOWN_USER
            return profile_json(profile, self._views.neighbours(user_id) if include else None)

        return await self._owners.answer(request, user_id, here)

    async def recommendations(self, request: web.Request) -> web.StreamResponse:
        user_id = _id(request, "user_id", MAX_USER_ID_BYTES)
        limit = _limit(request, MAX_RECOMMENDATIONS, MAX_RECOMMENDATIONS)

        def here() -> dict[str, Any] | Problem:
            entry = self._views.outbox(user_id)
            if entry is None and self._views.profile(user_id) is None:
                return _UNKNOWN_USER
            return recommendations_json(user_id, entry.update if entry is not None else None, limit)

        return await self._owners.answer(request, user_id, here)

    async def neighbours(self, request: web.Request) -> web.StreamResponse:
        product_id = _id(request, "product_id", MAX_PRODUCT_ID_BYTES)
        limit = _limit(request, REPLY_NEIGHBOURS, MAX_NEIGHBOURS)

        def here() -> dict[str, Any] | Problem:
            item = self._views.item(product_id)
            return _UNKNOWN_ITEM if item is None else item_json(item, limit)

        return await self._owners.answer(request, product_id, here)


_UNKNOWN_USER = Problem(404, "unknown-user", "no event of this user was applied")
_UNKNOWN_ITEM = Problem(404, "unknown-item", "no event about this product was applied")


def _id(request: web.Request, name: str, max_bytes: int) -> str:
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


def _wrong(name: str, detail: str) -> Refusal:
    return Refusal(Problem(400, "invalid-parameter", f"{name} {detail}", [FieldError(None, name, f"{name} {detail}")]))
