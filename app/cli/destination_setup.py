"""Makes the fields at a destination that must exist before anything can be written into them, and sees that they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.cli.destination_words import Explanation, explain
from app.delivery.client import Client, NoResponse
from app.delivery.scrubbing import scrubbed
from app.destinations import Destination, HasFields
from app.destinations.answers import read_status, reason_of
from app.destinations.outcomes import Down, Throttled
from app.destinations.requests import Request, Response
from app.errors import CommandError

#: A request that is throttled is made again so often, after the wait that was asked for, within these bounds.
_TRIES = 5
_WAIT_SECONDS, _MAX_WAIT_SECONDS = 2.0, 60.0
#: It is there already: somebody else made it, or it did not show in the list (HubSpot's empty groups).
_CONFLICT = 409

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Fields:
    """How the fields of a destination stand. ``hint``: lines for the settings file."""

    wanted: Sequence[Any]
    missing: Sequence[Any]
    hint: str


class FieldSetup:
    """The fields of one destination."""

    def __init__(self, target: Destination, client: Client, sleep: Sleep = asyncio.sleep) -> None:
        """Raises CommandError for a destination without fields."""
        if not isinstance(target, HasFields):
            raise CommandError(f"{target.name} has no fields that must exist: there is nothing to set up")
        self._fields: HasFields = target
        self._target: Destination = target
        self._client = client
        self._sleep = sleep

    async def look(self) -> Fields:
        """Which fields there are. Raises CommandError, in words, if they cannot be read."""
        answer = await self._ask(self._fields.fields_request())
        missing = self._fields.missing_fields(answer)
        if isinstance(missing, Down):
            raise refused(f"the fields of {self._target.name} could not be read", explain(self._target, missing))
        return Fields(self._fields.fields(), missing, self._fields.settings_hint(answer))

    async def make(self, field: Any) -> None:
        """Make one field; that it is there already is no error. Raises CommandError, in words, if it cannot be made."""
        answer = await self._ask(self._fields.create_field(field))
        if 200 <= answer.status <= 299 or answer.status == _CONFLICT:
            return
        reading = read_status(answer)
        if isinstance(reading, Down):
            raise refused(f"{field.name} was not made", explain(self._target, reading))
        raise CommandError(f"{field.name} was not made: {self._target.name} answered {reason_of(answer)}")

    async def _ask(self, request: Request) -> Response:
        """The answer, once it is none that asks for patience."""
        for tries_left in range(_TRIES - 1, -1, -1):
            answer = await self._client.send(request, lambda: True)
            if isinstance(answer, NoResponse):
                raise refused(f"{self._target.name} did not answer", explain(self._target, answer))
            answer = scrubbed(answer, request)
            reading = read_status(answer) if answer.status >= 400 else None
            if not isinstance(reading, Throttled) or not tries_left:
                return answer
            wait = _WAIT_SECONDS if reading.after_ms is None else reading.after_ms / 1000
            await self._sleep(min(max(wait, _WAIT_SECONDS), _MAX_WAIT_SECONDS))
        raise AssertionError("the last try returns")


def refused(what: str, why: Explanation) -> CommandError:
    """In a message what was tried, why it failed, and what to do."""
    said = f" ({why.said})" if why.said else ""
    return CommandError(f"{what}: {why.outcome}{said}: {why.meaning}. What to do: {why.to_do}")
