"""What workers tell one another of a destination's breaker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.breaker import MAX_OPEN_MS, MAX_PARKED_MS, PROBES, Breaker, BreakerState, Cause
from app.delivery.destination_states import MAX_AHEAD_MS, OPERATOR, apply, record_of, state_of, to_tell
from app.destinations.outcomes import DownCause
from tidings.internal.v1 import destination_state_pb2 as pb
from tidings.internal.v1.destination_state_pb2 import DestinationState

_NOW = 1_700_000_000_000


class Topic:
    """A compacted topic of one destination, and workers that read all of it, each at its own pace."""

    def __init__(self, workers: int) -> None:
        self.now_ms = _NOW
        self.log: list[DestinationState] = []
        self.breakers = [Breaker(lambda: self.now_ms) for _ in range(workers)]
        self.read = [0] * workers
        self.known = [BreakerState()] * workers

    def follow(self, worker: int) -> None:
        """Read what is new, and tell what is better known."""
        for record in self.log[self.read[worker] :]:
            self.known[worker] = state_of(record, self.now_ms) or BreakerState()
            apply({"crm": self.breakers[worker]}, record, self.now_ms)
        self.read[worker] = len(self.log)
        self.tell(worker)

    def tell(self, worker: int) -> None:
        state = self.breakers[worker].state
        if to_tell(state, self.known[worker]):
            self.log.append(record_of("crm", state, f"w{worker}"))
            self.known[worker] = state

    def operator(self, breaker: pb.Breaker, at_ms: int | None = None) -> None:
        at_ms = self.now_ms if at_ms is None else at_ms
        self.log.append(DestinationState(target="crm", at_ms=at_ms, by=OPERATOR, breaker=breaker, reason="an operator's"))

    def settle(self) -> None:
        """Everyone reads and tells until nobody has anything to tell."""
        for _ in range(20):
            before = len(self.log)
            for worker in range(len(self.breakers)):
                self.follow(worker)
            if len(self.log) == before:
                return
        raise AssertionError(f"they talk for ever: {self.log[-4:]}")

    def restarted(self) -> Breaker:
        """The breaker of a worker that begins now: it reads what compaction left, the last state."""
        breaker = Breaker(lambda: self.now_ms)
        apply({"crm": breaker}, self.log[-1], self.now_ms)
        return breaker


def test_what_one_worker_finds_all_know_and_nobody_echoes_it() -> None:
    topic = Topic(3)
    topic.breakers[0].opened(DownCause.AUTH, "401: the key is refused")
    topic.settle()
    assert [breaker.state for breaker in topic.breakers] == [topic.breakers[0].state] * 3
    assert [record.by for record in topic.log] == ["w0"]
    assert not any(breaker.allows() for breaker in topic.breakers)


def test_it_is_still_open_after_a_restart() -> None:
    topic = Topic(1)
    topic.breakers[0].opened(DownCause.CONFIGURATION, "no field recs")
    topic.settle()
    topic.now_ms += 10**9
    breaker = topic.restarted()
    assert (breaker.state.kind, breaker.state.cause, breaker.state.reason) == ("open", Cause.CONFIGURATION, "no field recs")
    assert not breaker.allows()


def test_an_operators_resume_closes_it_everywhere_and_for_whoever_begins_later() -> None:
    topic = Topic(2)
    topic.breakers[0].opened(DownCause.GONE, "410")
    topic.settle()
    topic.now_ms += 60_000
    topic.operator(pb.BREAKER_CLOSED)
    topic.settle()
    assert all(breaker.allows() for breaker in [*topic.breakers, topic.restarted()])
    assert len(topic.log) == 2


def test_a_state_of_a_former_incident_that_is_written_late_does_not_open_it_again_and_is_covered_up() -> None:
    topic = Topic(3)
    frozen = topic.breakers[2]
    frozen.opened(DownCause.AUTH, "401")  # and then this worker sleeps
    topic.now_ms += 1_000
    topic.breakers[0].opened(DownCause.AUTH, "401")
    for worker in (0, 1):
        topic.follow(worker)
    topic.now_ms += 60_000
    topic.operator(pb.BREAKER_CLOSED)
    for worker in (0, 1):
        topic.follow(worker)
    topic.tell(2)  # it wakes up, and tells before it reads
    for worker in (0, 1):
        topic.follow(worker)
        assert topic.breakers[worker].allows()
    topic.settle()
    assert frozen.allows()
    assert topic.restarted().allows()


def test_an_operators_pause_holds_over_whatever_workers_find() -> None:
    topic = Topic(2)
    topic.operator(pb.BREAKER_OPEN_OPERATOR)
    topic.follow(0)
    topic.now_ms += 10
    topic.breakers[1].opened(DownCause.AUTH, "401")  # it had not read of the pause
    topic.tell(1)
    topic.settle()
    assert {breaker.state.cause for breaker in topic.breakers} == {Cause.OPERATOR}
    assert topic.restarted().state.cause is Cause.OPERATOR


def test_refused_credentials_hold_over_another_workers_it_works_again() -> None:
    topic = Topic(2)
    for breaker in topic.breakers:
        breaker.restore(_errors(topic))
    topic.breakers[0].opened(DownCause.AUTH, "401")
    topic.now_ms += 10_000
    _close_by_probes(topic.breakers[1])
    topic.tell(0)
    topic.tell(1)  # later, and without having read
    topic.settle()
    assert {breaker.state.cause for breaker in [*topic.breakers, topic.restarted()]} == {Cause.AUTH}


def test_what_an_operator_says_counts_although_the_operators_clock_is_behind_the_workers() -> None:
    topic = Topic(2)
    topic.breakers[0].opened(DownCause.AUTH, "401")
    topic.settle()
    topic.operator(pb.BREAKER_CLOSED, at_ms=topic.now_ms - 5_000)
    topic.settle()
    assert all(breaker.allows() for breaker in [*topic.breakers, topic.restarted()])


def test_what_is_found_after_a_resume_counts_although_the_workers_clock_is_behind() -> None:
    topic = Topic(2)
    topic.operator(pb.BREAKER_CLOSED, at_ms=topic.now_ms + 30_000)
    topic.settle()
    topic.breakers[1].opened(DownCause.AUTH, "401")
    topic.settle()
    assert {breaker.state.cause for breaker in [*topic.breakers, topic.restarted()]} == {Cause.AUTH}


def test_errors_that_another_worker_sees_stop_only_whom_nothing_tells_that_it_works() -> None:
    topic = Topic(3)
    for _ in range(20):
        topic.breakers[1].succeeded()
    for _ in range(10):
        topic.breakers[0].failed("no route from here")
    topic.settle()
    assert [breaker.state.kind for breaker in topic.breakers] == ["open", "closed", "open"]


def test_when_it_works_again_for_one_worker_errors_are_over_for_all() -> None:
    topic = Topic(2)
    for _ in range(10):
        topic.breakers[0].failed("500")
    topic.settle()
    assert topic.breakers[1].state.cause is Cause.ERRORS
    topic.now_ms += 5_000
    _close_by_probes(topic.breakers[1])
    topic.settle()
    assert [breaker.state.kind for breaker in topic.breakers] == ["closed", "closed"]


def test_half_open_is_told_to_nobody() -> None:
    topic = Topic(1)
    topic.breakers[0].parked(topic.now_ms + 1_000, "Retry-After: 4000")
    topic.settle()
    topic.now_ms += 1_000
    assert topic.breakers[0].allows()
    assert topic.breakers[0].state.kind == "half_open"
    topic.settle()
    assert len(topic.log) == 1


@pytest.mark.parametrize(
    "record",
    [
        DestinationState(target="crm"),
        DestinationState(target="crm", at_ms=_NOW),
        DestinationState(target="crm", at_ms=_NOW, breaker=99),
        DestinationState(target="crm", at_ms=-5, breaker=pb.BREAKER_OPEN_AUTH),
        DestinationState(target="crm", at_ms=_NOW + MAX_AHEAD_MS + 1, breaker=pb.BREAKER_OPEN_AUTH),
        DestinationState(target="another", at_ms=_NOW, breaker=pb.BREAKER_OPEN_AUTH),
    ],
)
def test_what_says_nothing_that_can_be_used_changes_nothing(record: DestinationState) -> None:
    breaker = Breaker(lambda: _NOW)
    assert not apply({"crm": breaker}, record, _NOW)
    assert breaker.allows()


def test_nobody_is_parked_or_kept_open_for_longer_than_the_bound_by_a_message() -> None:
    for breaker, most_ms in ((pb.BREAKER_PARKED, MAX_PARKED_MS), (pb.BREAKER_OPEN_ERRORS, MAX_OPEN_MS)):
        state = state_of(DestinationState(target="crm", at_ms=_NOW, breaker=breaker, until_ms=2**62), _NOW)
        assert state is not None
        assert state.until_ms == _NOW + most_ms


@given(st.text(), st.sampled_from(list(DownCause)))
def test_a_state_is_the_same_after_its_way_through_the_topic(reason: str, cause: DownCause) -> None:
    breaker = Breaker(lambda: _NOW)
    breaker.opened(cause, reason)
    assert state_of(DestinationState.FromString(record_of("crm", breaker.state, "w").SerializeToString()), _NOW) == breaker.state


_STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["auth", "gone", "errors", "parked", "probe", "pause", "resume", "tell", "follow", "wait"]),
        st.integers(0, 20_000),
    ),
    max_size=40,
)


@given(_STEPS)
def test_whatever_happens_in_whatever_order_everyone_agrees_in_the_end(steps: list[tuple[int, str, int]]) -> None:
    """On what stops everyone until an operator acts; errors are each worker's own to judge."""
    topic = Topic(3)
    for worker, what, ms in steps:
        breaker = topic.breakers[worker]
        match what:
            case "auth" | "gone":
                breaker.opened(DownCause(what), what)
            case "errors":
                for _ in range(10):
                    breaker.failed("500")
            case "parked":
                breaker.parked(topic.now_ms + ms, "later")
            case "probe":
                _close_by_probes(breaker)
            case "pause":
                topic.operator(pb.BREAKER_OPEN_OPERATOR)
            case "resume":
                topic.operator(pb.BREAKER_CLOSED)
            case "tell":
                topic.tell(worker)
            case "follow":
                topic.follow(worker)
            case "wait":
                topic.now_ms += ms
    topic.settle()
    needing = {breaker.state.cause for breaker in topic.breakers if breaker.state.kind == "open" and breaker.state.cause.needs_operator}
    assert len(needing) <= 1
    if needing:
        assert all(breaker.state.kind == "open" for breaker in topic.breakers)
        assert topic.restarted().state.cause in needing


def _errors(topic: Topic) -> BreakerState:
    return BreakerState("open", Cause.ERRORS, "500", topic.now_ms - 5_000, topic.now_ms)


def _close_by_probes(breaker: Breaker) -> None:
    for _ in range(PROBES):
        if breaker.allows():
            breaker.succeeded(breaker.begin())
