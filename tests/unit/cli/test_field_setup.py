"""Setting up a destination's fields: patience where it is asked for, words where something is refused."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from app.cli.destination_setup import FieldSetup
from app.delivery.client import Missing, NoResponse
from app.destinations.hubspot import HubSpot
from app.destinations.requests import Request, Response
from app.errors import CommandError

NO_FIELDS = Response(200, {}, orjson.dumps({"results": []}), 0)


class Script:
    """A client that gives these answers in turn."""

    def __init__(self, *answers: Response | NoResponse) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
        self.asked.append(request)
        return self.answers.pop(0)

    async def close(self) -> None: ...


def setup(client: Script, waits: list[float] | None = None) -> FieldSetup:
    async def sleep(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    return FieldSetup(HubSpot("crm", "pat-1234567890"), client, sleep)


async def test_a_throttled_request_is_made_again_after_the_wait_that_was_asked_for_within_bounds() -> None:
    waits: list[float] = []
    slower = [Response(429, {"retry-after": seconds}, b"", 0) for seconds in ("7", "86400")]
    client = Script(*slower, Response(429, {}, b"", 0), NO_FIELDS)
    found = await setup(client, waits).look()
    assert waits == [7, 60, 2]
    assert len(found.missing) == len(found.wanted) > 0


async def test_patience_has_an_end() -> None:
    client = Script(*[Response(429, {}, b"", 0)] * 5)
    with pytest.raises(CommandError, match="could not be read"):
        await setup(client).look()
    assert client.answers == []


async def test_a_field_that_is_there_already_is_no_error() -> None:
    field = setup(Script())._fields.fields()[0]
    await setup(Script(Response(409, {}, b'{"message":"exists"}', 0))).make(field)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response(401, {}, b"", 0), "credentials refused"),
        (Response(400, {}, b'{"message":"no such type"}', 0), "no such type"),
        (Response(500, {}, b"<html>" + b"x" * 100_000, 0), "500"),
        (NoResponse(Missing.UNRESOLVED, "cannot connect"), "DNS knows no address"),
    ],
)
async def test_a_field_that_cannot_be_made_is_named_with_the_reason(answer: Response | NoResponse, words: str) -> None:
    field = setup(Script())._fields.fields()[0]
    with pytest.raises(CommandError) as told:
        await setup(Script(answer)).make(field)
    assert words in str(told.value)
    assert len(str(told.value)) < 1_000
