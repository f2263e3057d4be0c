"""What no answer can do, whatever is in it: raise, or confirm somebody whom it does not speak of."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, assert_never

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.destinations import JobBased
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    JobReading,
    PerPerson,
    Rejected,
    Retry,
    Running,
    Split,
    Throttled,
    Unavailable,
)
from app.destinations.requests import Part, Response
from tests.contract.destinations import EXAMPLES
from tests.contract.people import many

#: Answers as the platforms give them, with what is read at each place in them.
ANSWERS: dict[str, list[Any]] = {
    "klaviyo": [
        {"data": {"id": "j", "attributes": {"status": "complete", "failed_count": 1, "total_count": 3}}},
        {"data": [{"attributes": {"code": "invalid", "detail": "bad", "source": {"pointer": "/data/attributes/email"},
                                  "original_payload": {"external_id": "user-1"}}}], "links": {"next": None}},
        {"errors": [{"code": "invalid", "detail": "bad", "source": {"pointer": "/data/attributes/profiles/data/1/attributes/email"}}]},
    ],
    "braze": [
        {"message": "success", "attributes_processed": 2, "errors": [{"type": "bad", "input_array": "attributes", "index": 1}]},
        {"message": "queued"},
    ],
    "customerio": [{"errors": [{"batch_index": 1, "reason": "invalid", "field": "attributes.recs", "message": "attribute too large"}]}],
    "iterable": [
        {"successCount": 2, "failCount": 1, "failedUpdates": {"forgottenUserIds": ["user-1"]}, "filteredOutFields": ["other"]},
        {"code": "BatchTooLarge", "msg": "too large", "params": {}},
    ],
}  # fmt: skip
_STATUSES = (200, 201, 202, 207, 400, 404, 409, 413, 422, 429, 500, 503)
_JOBS = ("job-1", "job-1#errors:1")
_PARTS = {
    kind: [part for person in many(3) if isinstance(part := destination.encode(person), Part)][: destination.limits.people]
    for kind, destination in EXAMPLES.items()
}

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _readings(kind: str, response: Response) -> Iterator[JobReading]:
    destination, parts = EXAMPLES[kind], _PARTS[kind]
    yield destination.read(parts, response)
    destination.quota(response)
    if isinstance(destination, JobBased):
        for job in _JOBS:
            yield destination.read_poll(job, parts, response)


def _check(kind: str, reading: JobReading, *, may_confirm: bool) -> None:
    match reading:
        case PerPerson(outcomes):
            assert len(outcomes) == len(_PARTS[kind])
            for outcome in outcomes:
                match outcome:
                    case Confirmed() | Accepted():
                        assert may_confirm
                    case Retry(reason, _) | Rejected(_, reason):
                        assert reason.isprintable()
                        assert len(reason) < 200
                    case _:
                        assert_never(outcome)
        case Unavailable(reason, _) | Throttled(reason, _) | Down(_, reason) | Split(reason):
            assert reason.isprintable()
            assert len(reason) < 200
        case Running(after_ms, job):
            assert after_ms >= 0
            assert len(job) < 300
        case _:
            assert_never(reading)


@pytest.mark.parametrize("kind", sorted(EXAMPLES.keys() - {"webhook"}))
def test_a_megabyte_of_random_bytes_confirms_nobody(kind: str) -> None:
    source = random.Random(7)
    for body in (source.randbytes(1_000_000), b"[" * 1_000_000, b'{"data":' * 10_000, b'"' + b"\\u0000" * 100_000 + b'"'):
        for status in _STATUSES:
            for reading in _readings(kind, Response(status, {}, body, 0)):
                _check(kind, reading, may_confirm=False)


@pytest.mark.parametrize("kind", ANSWERS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_wrong_type_at_any_place_of_an_answer_is_read_without_an_error(kind: str, data: st.DataObject) -> None:
    answer = data.draw(st.sampled_from(ANSWERS[kind]))
    place = data.draw(st.sampled_from(sorted(_places(answer), key=str)))
    body = orjson.dumps(_replaced(answer, place, data.draw(_json)))
    status = data.draw(st.sampled_from(_STATUSES))
    for reading in _readings(kind, Response(status, {}, body, 0)):
        _check(kind, reading, may_confirm=200 <= status <= 299)


@pytest.mark.parametrize("kind", ANSWERS)
@settings(max_examples=60)
@given(answer=_json, status=st.sampled_from(_STATUSES), header=st.text(max_size=12))
def test_any_json_is_read_without_an_error(kind: str, answer: Any, status: int, header: str) -> None:
    headers = dict.fromkeys(("retry-after", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset"), header)
    for reading in _readings(kind, Response(status, headers, orjson.dumps(answer), 0)):
        _check(kind, reading, may_confirm=200 <= status <= 299)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield from _places(inner, (*path, name))


def _replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], new)
    return copy
