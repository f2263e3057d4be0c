"""Access: bearer tokens and what each may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from app.settings import Scope, TokenSettings
from app.web.problems import Problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REALM = 'Bearer realm="tidings"'


class Access:
    """The configured tokens, kept as SHA-256 digests of equal length, so that a comparison tells nothing by its time."""

    def __init__(self, tokens: Sequence[TokenSettings]) -> None:
        self._tokens = [(_digest(token.token.get_secret_value()), frozenset(token.scopes)) for token in tokens]

    def refusal(self, authorization: str | None, scope: Scope) -> Problem | None:
        """None if the header's token has the scope; otherwise 401 or 403 with WWW-Authenticate."""
        if not self._tokens:
            return _unauthorized(
                "no tokens are configured, so every protected route is closed: add [[tokens]] with a name, "
                f'token = "env:NAME" and scopes = ["{scope}"] to the settings',
                _REALM,
            )
        if authorization is None:
            return _unauthorized("send a token: Authorization: Bearer <token>", _REALM)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return _unauthorized("the Authorization header must be: Bearer <token>", f'{_REALM}, error="invalid_request"')
        digest, scopes = _digest(token.strip()), None
        for known, its_scopes in self._tokens:  # all of them, whichever fits
            if hmac.compare_digest(digest, known):
                scopes = its_scopes
        if scopes is None:
            return _unauthorized("the token is not known here", f'{_REALM}, error="invalid_token"')
        if scope not in scopes:
            return Problem(
                403,
                "forbidden",
                f"the token lacks the scope {scope}",
                headers={"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
            )
        return None

    def protect(self, scope: Scope | None, handler: Handler) -> Handler:
        """The handler behind its scope; None leaves it open."""
        if scope is None:
            return handler

        async def protected(request: web.Request) -> web.StreamResponse:
            problem = self.refusal(request.headers.get("Authorization"), scope)
            return await handler(request) if problem is None else problem.response()

        return protected


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


def _digest(token: str) -> bytes:
    # surrogateescape, for aiohttp decodes headers so: bytes that are no UTF-8 are just a wrong token
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
