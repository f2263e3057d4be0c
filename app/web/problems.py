"""Problems: every answer that is not a success, as an RFC 9457 document that says what is wrong and what to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from app.errors import BrokerError, NotOwnedError

log = logging.getLogger(__name__)

#: How long a client should wait before it asks again; the time of a rebalance, roughly.
RETRY_AFTER_SECONDS = 2
#: Errors named in one document; the detail says how many there are.
MAX_ERRORS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong: in which event (None: the body as a whole), at which JSON path, and how."""

    index: int | None
    field: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal or failure as a value; ``kind`` names it for programs, stable over releases."""

    status: int
    kind: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        document: dict[str, object] = {
            "type": f"urn:tidings:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"index": e.index, "field": e.field, "detail": e.detail} for e in self.errors[:MAX_ERRORS_SHOWN]]
        # ASCII, for a detail may quote what is not valid Unicode.
        return web.Response(
            body=json.dumps(document).encode(), status=self.status, content_type="application/problem+json", headers=dict(self.headers)
        )


class Refusal(Exception):
    """Carries a problem from the depth of a handler to the middleware."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def try_again(kind: str, detail: str) -> Problem:
    """503: true now, likely to be over soon."""
    return Problem(503, kind, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


@web.middleware
async def problems(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Turns whatever a handler raises into a problem document; nothing of an unexpected error is shown to the client."""
    try:
        return await handler(request)
    except Refusal as exc:
        return exc.problem.response()
    except web.HTTPException as exc:
        return _of_http(exc, request).response()
    except NotOwnedError as exc:
        return try_again("partition-moving", str(exc) or "the partition has just moved to another worker").response()
    except BrokerError as exc:
        return try_again("kafka-unavailable", str(exc)).response()
    except (HttpProcessingError, web.RequestPayloadError) as exc:
        return _unreadable(request, exc)
    except ConnectionError:
        raise  # the client went away: nobody to answer
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return Problem(500, "internal-error", "an unexpected error, which the worker has logged").response()


def _unreadable(request: web.Request, exc: Exception) -> web.Response:
    """The body breaks its own encoding; where the next request would begin cannot be known, so the connection ends."""
    request.content.feed_eof()  # otherwise aiohttp reads on into the same error, logs it and drops the answer
    response = Problem(400, "malformed-request", f"the request body cannot be read: {_first_line(exc)}").response()
    response.force_close()
    return response


def _of_http(exc: web.HTTPException, request: web.Request) -> Problem:
    match exc:
        case web.HTTPNotFound():
            return Problem(404, "no-such-route", "there is no such route; GET / lists them")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exc.allowed_methods))
            return Problem(405, "method-not-allowed", f"this route takes {allowed}", headers={"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            return Problem(413, "too-large", f"the body is larger than {request.client_max_size:,} bytes; send it in parts")
        case _:
            return Problem(exc.status, "http-error", exc.reason)


def _first_line(exc: BaseException) -> str:
    text = str(getattr(exc, "message", "") or exc)
    return (text.splitlines() or [type(exc).__name__])[0][:200]
