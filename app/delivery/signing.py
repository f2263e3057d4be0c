"""The signature that lets a receiver know that a webhook is ours: Standard Webhooks, version 1 (HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from app.destinations.requests import Request


def signed_headers(request: Request, now_ms: int) -> Mapping[str, str]:
    """The request's headers with ``webhook-timestamp`` (of this attempt) and ``webhook-signature`` added, if it is to be signed."""
    if request.sign_with is None:
        return request.headers
    timestamp = now_ms // 1000
    signature = sign(request.sign_with, request.headers["webhook-id"], timestamp, request.body)
    return {**request.headers, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the HMAC of "id.timestamp.body" in base64; the timestamp is in seconds since 1970."""
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
