"""A webhook target gets each changed list as a signed POST, by the Standard Webhooks specification (standardwebhooks.com)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from app.destinations.limits import Limits
from app.destinations.outcomes import CONFIRMED, Down, DownCause, PerPerson, Reading, Retry, Throttled, Unavailable
from app.destinations.requests import Part, Rendered, Request, Response, SigningKey, digest_of
from app.destinations.retry_after import retry_after_ms
from app.domain.catalog import Catalog
from app.domain.reasons import OTHER_REASON, REASON_NAMES, reason_text
from app.domain.recommendations import Reason
from app.domain.shown_product import shown_product
from app.settings import WebhookSettings
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import Attribute, CartLine, Profile
from tidings.updates.v1 import update_pb2
from tidings.updates.v1.update_pb2 import RecommendationUpdate

EVENT_TYPE = "recommendations.updated"
#: The specification's bound on a body ("less than 20kb"). Whole items are left out from the end until it holds.
MAX_BODY_BYTES = 20_000
#: How much of an error's body is kept in the reason.
MAX_REASON_BODY_CHARS = 120


@dataclass(frozen=True, slots=True)
class Webhook:
    """One target; its fields are its settings."""

    name: str
    url: str
    #: Each request is signed with all of them.
    keys: tuple[SigningKey, ...] = field(repr=False)
    timeout_seconds: float = 15.0
    #: Requests on the wire at once, from one worker.
    concurrency: int = 32

    @classmethod
    def of(cls, settings: WebhookSettings) -> Webhook:
        """The target that a section of the settings file describes."""
        keys = tuple(_signing_key(secret.get_secret_value()) for secret in settings.secrets)
        return cls(settings.name, settings.url, keys, settings.timeout_seconds, settings.concurrency)

    @property
    def limits(self) -> Limits:
        return Limits(concurrency=self.concurrency, people=1, body_bytes=MAX_BODY_BYTES)

    def encode(self, rendered: Rendered) -> Part:
        """One person's body, smaller than MAX_BODY_BYTES."""
        update = rendered.update
        body, digest = render_body(rendered)
        return Part(update.user_id, update.version, digest, body, update.user_id)

    def request(self, parts: Sequence[Part]) -> Request:
        """The POST that tells the target about one person."""
        (part,) = parts
        headers = {"content-type": "application/json", "webhook-id": message_id(self.name, part.user_id, part.version)}
        return Request("POST", self.url, headers, part.body, sign_with=self.keys)

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """2xx is a success, 410 an unsubscription; 429, and 503 with Retry-After, ask for fewer requests; all else is tried again."""
        if 200 <= response.status <= 299:
            return CONFIRMED
        after_ms = retry_after_ms(response)
        match response.status:
            case 410:
                return Down(DownCause.GONE, "410 Gone: the target wants no more requests")
            case 429:
                return Throttled(_said(response), after_ms)
            case 503 if after_ms is not None:
                return Throttled(_said(response), after_ms)
            case status if 300 <= status <= 399:
                reason = f"{status}: redirects are not followed; put the final address into the settings"
                return PerPerson((Retry(reason, after_ms or 0),))
            case status if status >= 500:
                return Unavailable(_said(response), after_ms or 0)
            case _:
                return PerPerson((Retry(_said(response), after_ms or 0),))

    def quota(self, response: Response) -> None:
        """Webhooks have no word for it."""


def _signing_key(secret: str) -> SigningKey:
    """``whsec_...`` or ``whsk_...``, which the settings have checked. A private key may have its public key behind it."""
    prefix, _, encoded = secret.rpartition("_")
    key = base64.b64decode(encoded, validate=True)
    return SigningKey("v1a", key[:32]) if prefix == "whsk" else SigningKey("v1", key)


def message_id(target: str, user_id: str, version: int) -> str:
    """One id over all attempts at one version of one person's list. A newer version has another: receivers use it as idempotency key."""
    named, told = target.encode(), user_id.encode()
    # Each part behind its length, so that no two triples read the same.
    parts = b"%b%b%b%b%b%b" % (_U32(len(named)), named, _U32(len(told)), told, _U32(8), version.to_bytes(8, "big"))
    digest = blake2b(parts, digest_size=18, person=b"tidings-msg-id").digest()
    return "msg_" + base64.b64encode(digest, b"AB").decode()


_U32 = struct.Struct(">I").pack


def render_body(rendered: Rendered) -> tuple[bytes, int]:
    """The JSON body: ``{type, timestamp, data}``, a function of the person's state alone; and the digest of what it says."""
    update, profile = rendered.update, rendered.profile
    head: dict[str, Any] = {
        "user_id": update.user_id,
        "version": update.version,
        "current_to": _iso(update.current_to_ms),
        "ranked_at": _iso(update.ranked_at_ms),
    }
    recommendations = _recommendations(update, rendered.catalog)
    cart = [_cart_line(line) for line in profile.cart]
    attributes = {a.name: _attribute_value(a) for a in profile.attributes if a.WhichOneof("value")}
    digest = _digest(recommendations, profile, cart, attributes)
    body = _body(update, head, recommendations, profile, cart, attributes, omitted={})
    if len(body) >= MAX_BODY_BYTES:
        body = _cut_body(update, head, recommendations, profile, cart, attributes)
    return body, digest


def _digest(recommendations: list[dict[str, Any]], profile: Profile, cart: list[dict[str, Any]], attributes: dict[str, Any]) -> int:
    """Of all that a reader would see; versions and times are not, nor are scores, which move with time."""
    seen = []
    for one in recommendations:
        values = list(one.values())
        del values[1]
        seen.append(values)
    return digest_of(orjson.dumps((seen, cart, attributes, _consents(profile))))


def _consents(profile: Profile) -> dict[str, str]:
    return {c.purpose: "granted" if c.state == ConsentState.CONSENT_STATE_GRANTED else "denied" for c in profile.consents}


def _body(
    update: RecommendationUpdate, head: dict[str, Any], recommendations: list[dict[str, Any]],
    profile: Profile, cart: list[dict[str, Any]], attributes: dict[str, Any], omitted: dict[str, int],
) -> bytes:
    data = head | {
        "recommendations": recommendations,
        "profile": {
            "last_event_at": _iso(profile.last_event_at_ms),
            "attributes": attributes,
            "cart": cart,
            "consents": _consents(profile),
        },
    }
    if omitted:
        # How many items the size limit left out, so that a receiver never takes a part for the whole.
        data["omitted"] = omitted
    return orjson.dumps({"type": EVENT_TYPE, "timestamp": _iso(update.ranked_at_ms), "data": data})


def _cut_body(
    update: RecommendationUpdate, head: dict[str, Any], recommendations: list[dict[str, Any]],
    profile: Profile, cart: list[dict[str, Any]], attributes: dict[str, Any],
) -> bytes:
    """Recommendations take what room there is first, then the cart, then the attributes, each in its own order."""
    everything = {"recommendations": len(recommendations), "cart": len(cart), "attributes": len(attributes)}
    room = MAX_BODY_BYTES - 1 - len(_body(update, head, [], profile, [], {}, omitted=everything))
    kept_recommendations, room = _fitting(recommendations, room)
    kept_cart, room = _fitting(cart, room)
    kept_attributes, room = _fitting([{name: value} for name, value in attributes.items()], room)
    kept = {"recommendations": len(kept_recommendations), "cart": len(kept_cart), "attributes": len(kept_attributes)}
    omitted = {what: everything[what] - kept[what] for what in everything if everything[what] > kept[what]}
    merged = {name: value for one in kept_attributes for name, value in one.items()}
    return _body(update, head, kept_recommendations, profile, kept_cart, merged, omitted)


def _fitting(items: list[dict[str, Any]], room: int) -> tuple[list[dict[str, Any]], int]:
    """The items from the start that fit, each with its comma, and the room that is left."""
    for index, item in enumerate(items):
        size = len(orjson.dumps(item)) + 1
        if size > room:
            return items[:index], room
        room -= size
    return items, room


def _recommendations(update: RecommendationUpdate, catalog: Catalog) -> list[dict[str, Any]]:
    """In one loop that reads each field once: half of what a delivery costs was here. With what the catalog says of each product."""
    shown = []
    has_catalog = not catalog.is_empty
    for recommendation in update.recommendations:
        reason = recommendation.reason
        kind, because_of, times_seen = reason.kind, reason.because_of, reason.times_seen
        cause = because_of
        if has_catalog and because_of and (product := catalog.product(because_of)) is not None and product.title:
            cause = product.title
        text = _plain_text(kind, cause, times_seen) if kind in _PLAIN_KINDS else _full_text(reason, cause)
        product_id, name = recommendation.product_id, REASON_NAMES.get(kind, OTHER_REASON)
        one = {  # the score comes second: _digest leaves it out
            "product_id": product_id,
            "score": recommendation.score,
            "reason": {"kind": name, "because_of": because_of or None, "times_seen": times_seen, "text": text},
        }
        if has_catalog and (product := catalog.product(product_id)) is not None:
            one |= shown_product(product)
        shown.append(one)
    return shown


#: Kinds of reasons whose text depends on no more than cause and times.
_PLAIN_KINDS = frozenset((
    update_pb2.REASON_KIND_ALSO_VIEWED,
    update_pb2.REASON_KIND_SEEN_NOW,
    update_pb2.REASON_KIND_SEEN_BEFORE,
    update_pb2.REASON_KIND_TRENDING,
))


@lru_cache(maxsize=4096)
def _plain_text(kind: update_pb2.ReasonKind, cause: str, times_seen: int) -> str:
    return reason_text(Reason(kind, cause, times_seen), lambda _: cause)


def _full_text(reason: update_pb2.Reason, cause: str) -> str:
    return reason_text(reason, lambda _: cause)


def _cart_line(line: CartLine) -> dict[str, Any]:
    shown: dict[str, Any] = {"product_id": line.product_id, "quantity": line.quantity, "added_at": _iso(line.added_at_ms)}
    if line.HasField("unit_price"):
        shown["unit_price"] = {"minor_units": line.unit_price.minor_units, "currency_code": line.unit_price.currency_code or None}
    return shown


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


def _said(response: Response) -> str:
    printable = "".join(c if c.isprintable() else " " for c in response.body.decode("utf-8", "replace")[:1000])
    said = " ".join(printable.split())[:MAX_REASON_BODY_CHARS]
    return f"{response.status}: {said}" if said else str(response.status)
