"""The signature that lets a receiver know that a webhook is ours: Standard Webhooks, v1 (HMAC-SHA256) and v1a (ed25519).

A request is signed with every key that is active, so that a receiver may change from one to the next whenever it likes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.destinations.requests import Request, SigningKey


def signed_headers(request: Request, now_ms: int) -> Mapping[str, str]:
    """The request's headers with ``webhook-timestamp`` (of this attempt) and ``webhook-signature`` added, if it is to be signed."""
    if not request.sign_with:
        return request.headers
    timestamp = now_ms // 1000
    signature = sign(request.sign_with, request.headers["webhook-id"], timestamp, request.body)
    return {**request.headers, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def sign(keys: tuple[SigningKey, ...], message_id: str, timestamp: int, body: bytes) -> str:
    """For each key its scheme, a comma and the signature of "id.timestamp.body" in base64; the timestamp is in seconds since 1970."""
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return " ".join([f"{key.scheme},{base64.b64encode(_signature(key, content)).decode()}" for key in keys])


def _signature(key: SigningKey, content: bytes) -> bytes:
    if key.scheme == "v1":
        return hmac.digest(key.key, content, hashlib.sha256)
    return _private_key(key.key).sign(content)


@lru_cache(maxsize=64)
def _private_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)
