"""A consumer is closed whatever its library raises: the error that led there must not be lost."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from app.engine.changelog_reader import close_consumer
from app.errors import StateError


class Consumer:
    """Its ``stop`` ends as it is told to."""

    def __init__(self, end: BaseException) -> None:
        self._end = end

    async def stop(self) -> None:
        raise self._end


@pytest.mark.parametrize("end", [asyncio.CancelledError(), KafkaConnectionError(), OSError()], ids=lambda end: type(end).__name__)
async def test_the_error_that_led_to_closing_is_the_one_that_comes_out(end: BaseException) -> None:
    """aiokafka lets the cancellation of its own fetches out of ``stop`` while the broker is away."""

    async def read() -> None:
        try:
            raise StateError("why")
        finally:
            await close_consumer(Consumer(end))

    with pytest.raises(StateError):
        await read()


async def test_a_cancellation_from_outside_still_ends_the_caller() -> None:
    class Slow:
        async def stop(self) -> None:
            await asyncio.Event().wait()

    closing = asyncio.create_task(close_consumer(Slow()))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
