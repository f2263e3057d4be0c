"""The JSON body that a webhook target gets for one person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import orjson

from app.destinations.list_json import list_json, list_objects
from app.destinations.requests import Rendered, digest_of
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import Attribute, CartLine, Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

EVENT_TYPE = "recommendations.updated"
#: The specification's bound on a body ("less than 20kb"). Whole items are left out from the end until it holds.
MAX_BODY_BYTES = 20_000


def render_body(rendered: Rendered) -> tuple[bytes, int]:
    """``{type, timestamp, data}``, a function of the person's state alone, smaller than MAX_BODY_BYTES; and the digest of what it says."""
    update, profile = rendered.update, rendered.profile
    head: dict[str, Any] = {
        "user_id": update.user_id,
        "version": update.version,
        "current_to": _iso(update.current_to_ms),
        "ranked_at": _iso(update.ranked_at_ms),
    }
    recommendations, seen = list_json(update, rendered.catalog)
    cart = [orjson.dumps(_cart_line(line)) for line in profile.cart]
    attributes = [_attribute(a) for a in profile.attributes if a.WhichOneof("value")]
    consents = _consents(profile)
    # Of all that a reader would see; versions and times are not.
    digest = digest_of(seen, b",".join(cart), b",".join(attributes), orjson.dumps(consents))
    body = _body(update, head, recommendations, profile, cart, attributes, consents, omitted={})
    if len(body) >= MAX_BODY_BYTES:
        body = _cut_body(update, head, list_objects(update, rendered.catalog)[0], profile, cart, attributes, consents)
    return body, digest


def _consents(profile: Profile) -> dict[str, str]:
    return {c.purpose: "granted" if c.state == ConsentState.CONSENT_STATE_GRANTED else "denied" for c in profile.consents}


def _body(
    update: RecommendationUpdate, head: dict[str, Any], recommendations: bytes, profile: Profile, cart: Sequence[bytes],
    attributes: Sequence[bytes], consents: dict[str, str], omitted: dict[str, int],
) -> bytes:
    data = head | {
        "recommendations": orjson.Fragment(b"[%b]" % recommendations),
        "profile": {
            "last_event_at": _iso(profile.last_event_at_ms),
            "attributes": orjson.Fragment(b"{%b}" % b",".join(attributes)),
            "cart": orjson.Fragment(b"[%b]" % b",".join(cart)),
            "consents": consents,
        },
    }
    if omitted:
        # How many items the size limit left out, so that a receiver never takes a part for the whole.
        data["omitted"] = omitted
    return orjson.dumps({"type": EVENT_TYPE, "timestamp": _iso(update.ranked_at_ms), "data": data})


def _cut_body(
    update: RecommendationUpdate, head: dict[str, Any], recommendations: Sequence[bytes],
    profile: Profile, cart: Sequence[bytes], attributes: Sequence[bytes], consents: dict[str, str],
) -> bytes:
    """Recommendations take what room there is first, then the cart, then the attributes, each in its own order."""
    everything = {"recommendations": len(recommendations), "cart": len(cart), "attributes": len(attributes)}
    room = MAX_BODY_BYTES - 1 - len(_body(update, head, b"", profile, [], [], consents, everything))
    kept_recommendations, room = _fitting(recommendations, room)
    kept_cart, room = _fitting(cart, room)
    kept_attributes, room = _fitting(attributes, room)
    kept = {"recommendations": len(kept_recommendations), "cart": len(kept_cart), "attributes": len(kept_attributes)}
    omitted = {what: everything[what] - kept[what] for what in everything if everything[what] > kept[what]}
    return _body(update, head, b",".join(kept_recommendations), profile, kept_cart, kept_attributes, consents, omitted)


def _fitting(items: Sequence[bytes], room: int) -> tuple[Sequence[bytes], int]:
    """The items from the start that fit, each with its comma, and the room that is left."""
    for index, item in enumerate(items):
        size = len(item) + 1
        if size > room:
            return items[:index], room
        room -= size
    return items, room


def _cart_line(line: CartLine) -> dict[str, Any]:
    shown: dict[str, Any] = {"product_id": line.product_id, "quantity": line.quantity, "added_at": _iso(line.added_at_ms)}
    if line.HasField("unit_price"):
        shown["unit_price"] = {"minor_units": line.unit_price.minor_units, "currency_code": line.unit_price.currency_code or None}
    return shown


def _attribute(attribute: Attribute) -> bytes:
    return b"%b:%b" % (orjson.dumps(attribute.name), orjson.dumps(_attribute_value(attribute)))


def _attribute_value(attribute: Attribute) -> str | float | bool:
    match attribute.WhichOneof("value"):
        case "text":
            return attribute.text
        case "number":
            return attribute.number
        case _:
            return attribute.flag


_EPOCH = date(1970, 1, 1)


@lru_cache(maxsize=256)
def _iso(moment_ms: int) -> str | None:
    """RFC 3339 in UTC to the millisecond; None for a time that was never set."""
    if not moment_ms:
        return None
    day, ms = divmod(moment_ms, 86_400_000)
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{_day(day)}T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{ms:03}Z"


@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).isoformat()
