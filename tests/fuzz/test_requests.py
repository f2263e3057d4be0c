"""Some seconds of requests against every route, made from the served OpenAPI document; `make fuzz` goes on for as long as wanted."""

from __future__ import annotations

import pytest

from tests.fuzz.requests import fuzz_routes
from tests.unit.web.test_doors import SCOPE_OF

#: One round of each operation goes to its end, so it takes longer on a busy machine.
SECONDS = 4
#: What chance may leave out: an operation whose requests were all refused.
MAX_UNREACHED = 3


@pytest.mark.long
def test_no_request_gets_a_server_error_or_an_answer_that_the_document_does_not_give() -> None:
    found = fuzz_routes(SECONDS, chance_seed=20)
    assert not found.failures, "\n".join(found.failures)
    assert set(found.operations) == {f"{method} {path}" for method, path in SCOPE_OF}
    reached = {operation for operation, statuses in found.operations.items() if statuses.keys() & {200, 202}}
    assert len(found.operations) - len(reached) <= MAX_UNREACHED, f"what is always refused was not tried; only {reached} was"
