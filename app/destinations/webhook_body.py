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
    recommendations, seen = list_json(update, rendered.catalog)
    cart = [_cart_line(line) for line in profile.cart]
    attributes = [_attribute(a) for a in profile.attributes if a.WhichOneof("value")]
    consents = _consents(profile)
    # Of all that a reader would see; versions and times are not.
    all_of_cart, all_attributes = b",".join(cart), b",".join(attributes)
    digest = digest_of(seen, all_of_cart, all_attributes, consents)
    body = _body(update, profile, recommendations, all_of_cart, all_attributes, consents)
    if len(body) >= MAX_BODY_BYTES:
        body = _cut_body(update, profile, list_objects(update, rendered.catalog)[0], cart, attributes, consents)
    return body, digest


def _consents(profile: Profile) -> bytes:
    consents = profile.consents
    if not consents:
        return b"{}"
    return orjson.dumps({c.purpose: "granted" if c.state == ConsentState.CONSENT_STATE_GRANTED else "denied" for c in consents})


def _body(
    update: RecommendationUpdate, profile: Profile, recommendations: bytes, cart: bytes, attributes: bytes, consents: bytes,
    omitted: dict[str, int] | None = None,
) -> bytes:
    """Of JSON in pieces. ``omitted``: how many items the size limit left out, so that a receiver never takes a part for the whole."""
    ranked_at = _iso(update.ranked_at_ms)
    return _BODY % (
        ranked_at, orjson.dumps(update.user_id), update.version, _iso(update.current_to_ms), ranked_at, recommendations,
        _iso(profile.last_event_at_ms), attributes, cart, consents, b',"omitted":%b' % orjson.dumps(omitted) if omitted else b"",
    )  # fmt: skip


_BODY = (
    b'{"type":"%b","timestamp":%%b,"data":{"user_id":%%b,"version":%%d,"current_to":%%b,"ranked_at":%%b,"recommendations":[%%b],'
    b'"profile":{"last_event_at":%%b,"attributes":{%%b},"cart":[%%b],"consents":%%b}%%b}}'
) % EVENT_TYPE.encode()


def _cut_body(
    update: RecommendationUpdate, profile: Profile, recommendations: Sequence[bytes], cart: Sequence[bytes], attributes: Sequence[bytes],
    consents: bytes,
) -> bytes:
    """Recommendations take what room there is first, then the cart, then the attributes, each in its own order."""
    everything = {"recommendations": len(recommendations), "cart": len(cart), "attributes": len(attributes)}
    room = MAX_BODY_BYTES - 1 - len(_body(update, profile, b"", b"", b"", consents, everything))
    kept_recommendations, room = _fitting(recommendations, room)
    kept_cart, room = _fitting(cart, room)
    kept_attributes, room = _fitting(attributes, room)
    kept = {"recommendations": len(kept_recommendations), "cart": len(kept_cart), "attributes": len(kept_attributes)}
    omitted = {what: everything[what] - kept[what] for what in everything if everything[what] > kept[what]}
    listed, in_cart, known = b",".join(kept_recommendations), b",".join(kept_cart), b",".join(kept_attributes)
    return _body(update, profile, listed, in_cart, known, consents, omitted)


def _fitting(items: Sequence[bytes], room: int) -> tuple[Sequence[bytes], int]:
    """The items from the start that fit, each with its comma, and the room that is left."""
    for index, item in enumerate(items):
        size = len(item) + 1
        if size > room:
            return items[:index], room
        room -= size
    return items, room


def _cart_line(line: CartLine) -> bytes:
    shown: dict[str, Any] = {"product_id": line.product_id, "quantity": line.quantity, "added_at": orjson.Fragment(_iso(line.added_at_ms))}
    if line.HasField("unit_price"):
        shown["unit_price"] = {"minor_units": line.unit_price.minor_units, "currency_code": line.unit_price.currency_code or None}
    return orjson.dumps(shown)


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


def _iso(moment_ms: int) -> bytes:
    """RFC 3339 in UTC to the millisecond, in quotes; null for a time that was never set."""
    if not moment_ms:
        return b"null"
    second, ms = divmod(moment_ms, 1000)
    return b'"%b.%03dZ"' % (_second(second), ms)


@lru_cache(maxsize=1024)
def _second(number: int) -> bytes:
    """Most times that are told are of the last seconds."""
    day, second = divmod(number, 86_400)
    minutes, second = divmod(second, 60)
    return f"{_EPOCH + timedelta(days=day)}T{minutes // 60:02}:{minutes % 60:02}:{second:02}".encode()
