"""Requests against every route of a real server, made from the OpenAPI document that it serves: as it says, and as it does not.

What must hold: no answer is a server error, each is of a status, a type and a shape that the document gives, and what the document does not
allow is refused.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from app.delivery.breaker import BreakerState, Cause
from app.delivery.status import LineStatus
from app.domain.items import ItemState, apply_visit, new_item
from tests.agents.worlds import visit
from tests.unit.web.test_deliveries import an_entry
from tests.unit.web.test_slots import a_shop, a_visitor, views
from tests.unit.web.worlds import ALL, NOW_MS, world


def no_server_error(context: Any, response: Any, case: Any) -> bool | None:
    """A 503 that says when to come again is an answer: what was asked for (``after``, ``max_staleness_ms``) is not there yet."""
    if response.status_code == 503 and "retry-after" in {name.lower() for name in response.headers}:
        return None
    return not_a_server_error(context, response, case)


CHECKS = [
    no_server_error, status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance,
    unsupported_method,
]  # fmt: skip
#: Cases of one operation before the next has its turn.
ROUND = 20
#: Of one answer.
ANSWER_SECONDS = 10
#: Ids that something is known of; the document cannot say which those are.
KNOWN = {"user_id": ("u1", "ann"), "product_id": ("mug", "tea", "shoe")}


@dataclass
class Found:
    """What a run came to. A failure is told once for each operation and kind."""

    requests: int = 0
    operations: dict[str, dict[int, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def fuzz_routes(seconds: float, chance_seed: int) -> Found:
    """All operations in turn, for so long and at least one round each; stops early at the first failure of each."""
    found, deadline, turn = Found(), time.monotonic() + seconds, 0
    with a_server() as url:
        document = requests.get(f"{url}/openapi.json", timeout=ANSWER_SECONDS).json()
        operations = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {ALL}"
            failed: set[str] = set()
            while time.monotonic() < deadline or turn == 0:
                for operation in operations:
                    if operation.label not in failed and not _round(operation, url, session, found, chance_seed + turn):
                        failed.add(operation.label)
                turn += 1
    return found


def _round(operation: Any, url: str, session: requests.Session, found: Found, chance_seed: int) -> bool:
    chance, statuses = random.Random(chance_seed), found.operations.setdefault(operation.label, {})
    valid, invalid = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)
    # What takes no parameters cannot be asked wrongly.
    cases = valid | invalid if operation.body or any(True for _ in operation.iter_parameters()) else valid

    @seed(chance_seed)
    @settings(
        max_examples=ROUND, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases)
    def ask(case: Any) -> None:
        checks = [*CHECKS, negative_data_rejection]
        for name in set(KNOWN) & set(case.path_parameters or {}):
            if chance.random() < 0.5:
                case.path_parameters[name] = chance.choice(KNOWN[name])
                checks = CHECKS  # what was to be refused may have been this id
        response = case.call(base_url=url, session=session, timeout=ANSWER_SECONDS)
        found.requests += 1
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        case.validate_response(response, checks=checks)

    try:
        ask()
    except (FailureGroup, requests.RequestException) as error:
        problems = error.exceptions if isinstance(error, FailureGroup) else [error]
        found.failures += [f"{operation.label}: {type(problem).__name__}: {problem}" for problem in problems]
        return False
    return True


@contextmanager
def a_server() -> Iterator[str]:
    """The worker's own application over tables of dicts, on a loop in a thread; gives its URL."""
    loop, up, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    url = ""

    async def serve() -> None:
        nonlocal url
        catalog = a_shop()
        tables = views(catalog, profiles={"u1": a_visitor()}, entries={"ann": an_entry()}, items={"shoe": an_item()})
        tables.lines = [LineStatus("inbox", 3, 1, 2, 0, BreakerState("open", Cause.AUTH, "401", NOW_MS), 1_500, 0)]
        async with world(views=tables, catalog=catalog, body_timeout_seconds=2) as served:
            url = served.url
            up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    if not up.wait(20):
        raise RuntimeError("the server did not come up")
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def an_item() -> ItemState:
    item = new_item("shoe")
    for number in range(3):
        apply_visit(item, visit("shoe", number, "hat"))
    return item
