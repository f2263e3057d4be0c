"""A webhook target gets each changed list as a signed POST, by the Standard Webhooks specification (standardwebhooks.com)."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from app.destinations.limits import Limits
from app.destinations.outcomes import CONFIRMED, Down, DownCause, PerPerson, Reading, Retry, Throttled, Unavailable
from app.destinations.requests import Part, Rendered, Request, Response, SigningKey
from app.destinations.retry_after import retry_after_ms
from app.destinations.webhook_body import MAX_BODY_BYTES, render_body
from app.settings import WebhookSettings

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
    told = user_id.encode()
    # Each part behind its length, so that no two triples read the same.
    parts = b"%b%b%b\0\0\0\x08%b" % (_told_by(target), _U32(len(told)), told, _U64(version))
    digest = blake2b(parts, digest_size=18, person=b"tidings-msg-id").digest()
    return "msg_" + base64.b64encode(digest, b"AB").decode()


@lru_cache(maxsize=256)
def _told_by(target: str) -> bytes:
    named = target.encode()
    return _U32(len(named)) + named


_U32 = struct.Struct(">I").pack
_U64 = struct.Struct(">Q").pack


def _said(response: Response) -> str:
    printable = "".join(c if c.isprintable() else " " for c in response.body.decode("utf-8", "replace")[:1000])
    said = " ".join(printable.split())[:MAX_REASON_BODY_CHARS]
    return f"{response.status}: {said}" if said else str(response.status)
