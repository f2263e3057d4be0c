"""Takes our own credentials out of an answer before anybody reads it: some servers repeat in an error what they were sent, and the words of
an error go into the outbox, its changelog, logs and commands.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

from app.destinations.requests import Request, Response

_TAKEN_OUT = "[removed]"
#: What is shorter is a word that may stand in any answer ("Bearer", "Basic").
_MIN_CHARS = 8


def scrubbed(response: Response, request: Request) -> Response:
    """The response without the values of the request's ``secret_headers``, in any of the forms that they are likely to be repeated in."""
    if not request.secret_headers:
        return response
    secrets = _forms(tuple(request.secret_headers.values()))
    body, headers = response.body, response.headers
    for secret in secrets:
        body = body.replace(secret.encode(), _TAKEN_OUT.encode())
    if any(secret in value for value in headers.values() for secret in secrets):
        headers = {name: _without(value, secrets) for name, value in headers.items()}
    return response if body is response.body and headers is response.headers else response._replace(body=body, headers=headers)


def _without(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, _TAKEN_OUT)
    return text


@lru_cache(maxsize=256)
def _forms(values: tuple[str, ...]) -> tuple[str, ...]:
    """The longest first: the whole header, each word of it, and for Basic authentication user and password."""
    forms: set[str] = set()
    for value in values:
        words = [value, *value.split(" ")]
        if value.lower().startswith("basic "):
            pair = _decoded(words[-1])
            words += [pair, *pair.split(":", 1)]
        forms.update(word for word in words if len(word) >= _MIN_CHARS)
    return tuple(sorted(forms, key=len, reverse=True))


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""

