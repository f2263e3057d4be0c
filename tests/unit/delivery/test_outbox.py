"""The outbox entry: what is due, in flight, confirmed, failed, given up."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.delivery import outbox
from app.delivery.outbox import MAX_JOB_MS, AskJob, NotDue, Send, WaitUntil, next_step
from app.delivery.retry import SCHEDULE_MS, GiveUp
from tidings.state.v1.outbox_pb2 import DeadReason, Delivery, OutboxEntry

_NOW = 1_700_000_000_000


def _entry(version: int = 1, caused_at_ms: int = 100) -> OutboxEntry:
    entry = OutboxEntry(user_id="ann")
    _list(entry, version, caused_at_ms)
    return entry


def _list(entry: OutboxEntry, version: int, caused_at_ms: int) -> None:
    entry.update.version = version
    entry.update.caused_at_ms = caused_at_ms
    outbox.mark_due(entry, ["inbox"])


def _inbox(entry: OutboxEntry) -> Delivery:
    found = outbox.delivery_of(entry, "inbox")
    assert found is not None
    return found


def test_nothing_is_due_for_an_unknown_user_or_target() -> None:
    assert next_step(None, "inbox", _NOW) == NotDue()
    assert next_step(_entry(), "other", _NOW) == NotDue()


def test_a_marked_user_is_due_at_once_until_the_version_is_confirmed() -> None:
    entry = _entry()
    assert next_step(entry, "inbox", _NOW) == Send()
    outbox.confirm(entry, "inbox", 1, _NOW)
    assert next_step(entry, "inbox", _NOW) == NotDue()
    assert _inbox(entry).confirmed_at_ms == _NOW


def test_marking_the_same_version_again_changes_nothing() -> None:
    entry = _entry()
    outbox.fail(entry, "inbox", 1, "500", _NOW)
    before = entry.SerializeToString(deterministic=True)
    assert not outbox.mark_due(entry, ["inbox"])
    assert entry.SerializeToString(deterministic=True) == before


def test_deliveries_stay_sorted_by_target() -> None:
    entry = _entry()
    outbox.mark_due(entry, ["zeta", "alpha", "inbox"])
    assert [d.target for d in entry.deliveries] == ["alpha", "inbox", "zeta"]


def test_nobody_sends_while_a_request_may_be_on_the_wire_not_even_a_newer_version() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 20_000)
    _list(entry, 2, 200)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 20_000)
    assert next_step(entry, "inbox", _NOW + 20_000) == Send()


def test_ten_failures_walk_the_schedule_and_then_give_the_version_up() -> None:
    entry, now_ms = _entry(), _NOW
    for attempt in range(1, 11):
        outbox.begin(entry, "inbox", 1, now_ms + 20_000)
        outbox.fail(entry, "inbox", 1, f"500 at {attempt}", now_ms)
        step = next_step(entry, "inbox", now_ms)
        if attempt == 10:
            assert step == NotDue()
        else:
            assert isinstance(step, WaitUntil)
            assert SCHEDULE_MS[attempt] <= step.at_ms - now_ms <= SCHEDULE_MS[attempt] * 1.2 + 1
            now_ms = step.at_ms
            assert next_step(entry, "inbox", now_ms) == Send()
    assert (_inbox(entry).abandoned_version, _inbox(entry).last_error, _inbox(entry).due_since_ms) == (1, "500 at 10", 0)


def test_a_newer_version_is_due_again_after_giving_up_with_fresh_attempts() -> None:
    entry = _entry()
    for _ in range(10):
        last = outbox.fail(entry, "inbox", 1, "500", _NOW)
    assert last == GiveUp()
    _list(entry, 2, 777)
    assert next_step(entry, "inbox", _NOW) == Send()
    assert (_inbox(entry).attempts, _inbox(entry).due_since_ms) == (0, 777)


def test_a_newer_version_does_not_wait_for_the_retry_of_an_older_one() -> None:
    entry = _entry()
    for _ in range(5):
        outbox.fail(entry, "inbox", 1, "500", _NOW)
    _list(entry, 2, 200)
    assert next_step(entry, "inbox", _NOW) == Send()


def test_a_newer_version_waits_as_long_as_the_target_asked() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.postpone(entry, "inbox", 1, "429", _NOW + 60_000)
    _list(entry, 2, 200)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 60_000)
    assert _inbox(entry).attempts == 0
    _list(entry, 3, 300)
    assert next_step(entry, "inbox", _NOW + 59_999) == WaitUntil(_NOW + 60_000)


def test_retry_after_on_a_failure_holds_a_newer_version_too() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    _list(entry, 2, 200)
    outbox.fail(entry, "inbox", 1, "500", _NOW, after_ms=30_000)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 30_000)


def test_the_failure_of_an_overtaken_version_is_no_attempt_at_the_newer_one() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    _list(entry, 2, 200)
    outbox.fail(entry, "inbox", 1, "timed out", _NOW)
    assert next_step(entry, "inbox", _NOW) == Send()
    assert _inbox(entry).attempts == 0


def test_a_confirmed_older_version_leaves_the_newer_one_due() -> None:
    entry = _entry(caused_at_ms=100)
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    _list(entry, 2, 200)
    _list(entry, 3, 300)
    assert outbox.confirm(entry, "inbox", 1, _NOW) == 100
    assert next_step(entry, "inbox", _NOW) == Send()
    assert _inbox(entry).due_since_ms == 200, "the first event that is not delivered yet is version 2's"


def test_latency_counts_from_the_first_undelivered_event_whatever_failed_between() -> None:
    entry = _entry(caused_at_ms=100)
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.fail(entry, "inbox", 1, "500", _NOW)
    _list(entry, 2, 200)
    outbox.begin(entry, "inbox", 2, _NOW + 20_000)
    assert outbox.confirm(entry, "inbox", 2, _NOW) == 100
    assert _inbox(entry).due_since_ms == 0


def test_an_older_confirmation_never_lowers_a_newer_one() -> None:
    entry = _entry(version=5)
    outbox.confirm(entry, "inbox", 5, _NOW)
    outbox.confirm(entry, "inbox", 3, _NOW + 1)
    assert (_inbox(entry).confirmed_version, _inbox(entry).confirmed_at_ms) == (5, _NOW)


def test_the_outcome_of_an_older_request_does_not_lift_the_mark_of_a_newer_one() -> None:
    entry = _entry(version=2)
    outbox.begin(entry, "inbox", 2, _NOW + 20_000)
    outbox.fail(entry, "inbox", 1, "late", _NOW)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 20_000)


def test_a_released_user_is_due_as_if_nothing_had_been_sent() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.release(entry, "inbox", 1, "410")
    assert next_step(entry, "inbox", _NOW) == Send()
    assert (_inbox(entry).attempts, _inbox(entry).last_error) == (0, "410")


def test_an_unmarked_user_is_due_as_before_and_keeps_what_was_known() -> None:
    entry = _entry()
    outbox.fail(entry, "inbox", 1, "500", _NOW)
    before = entry.SerializeToString(deterministic=True)
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.unmark(entry, "inbox", 1, _NOW + 20_000)
    assert entry.SerializeToString(deterministic=True) == before


def test_a_mark_that_is_not_ones_own_is_not_lifted() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.unmark(entry, "inbox", 1, _NOW + 19_999)
    outbox.unmark(entry, "inbox", 2, _NOW + 20_000)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 20_000)


def test_a_withheld_user_is_due_again_at_a_newer_version_or_when_reopened() -> None:
    entry = _entry()
    outbox.withhold(entry, "inbox", 1)
    assert next_step(entry, "inbox", _NOW) == NotDue()
    assert outbox.reopen(entry, ["inbox", "other"])
    assert next_step(entry, "inbox", _NOW) == Send()
    assert not outbox.reopen(entry, ["inbox"])
    outbox.withhold(entry, "inbox", 1)
    _list(entry, 2, 200)
    assert next_step(entry, "inbox", _NOW) == Send()


def test_withholding_an_older_version_leaves_a_newer_one_due() -> None:
    entry = _entry(version=2, caused_at_ms=200)
    outbox.withhold(entry, "inbox", 1)
    assert next_step(entry, "inbox", _NOW) == Send()
    assert _inbox(entry).due_since_ms == 200


def test_a_refused_version_is_dead_for_a_reason_and_a_newer_one_is_tried() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.reject(entry, "inbox", 1, DeadReason.DEAD_REASON_INVALID_IDENTITY, "no such address", _NOW)
    inbox = _inbox(entry)
    assert next_step(entry, "inbox", _NOW) == NotDue()
    assert (inbox.abandoned_version, inbox.abandoned_at_ms, inbox.dead_reason) == (1, _NOW, DeadReason.DEAD_REASON_INVALID_IDENTITY)
    assert (inbox.last_error, inbox.in_flight_version, inbox.blocked) == ("no such address", 0, False)
    _list(entry, 2, 200)
    assert next_step(entry, "inbox", _NOW) == Send()


def test_who_is_blocked_is_due_at_no_version_and_at_no_wish_until_reopened() -> None:
    entry = _entry()
    outbox.reject(entry, "inbox", 1, DeadReason.DEAD_REASON_SUPPRESSED, "unsubscribed", _NOW, blocks=True)
    assert not outbox.mark_due(entry, ["inbox"])
    _list(entry, 2, 200)
    _inbox(entry).resync_since_ms = _NOW
    assert next_step(entry, "inbox", _NOW) == NotDue()
    assert (_inbox(entry).desired_version, _inbox(entry).due_since_ms) == (2, 0)
    assert outbox.reopen(entry, ["inbox"])
    assert next_step(entry, "inbox", _NOW) == Send()
    assert (_inbox(entry).blocked, _inbox(entry).dead_reason, _inbox(entry).due_since_ms) == (False, 0, 200)


def test_the_end_of_the_schedule_is_a_reason() -> None:
    entry = _entry()
    for _ in range(10):
        outbox.fail(entry, "inbox", 1, "500", _NOW)
    assert (_inbox(entry).dead_reason, _inbox(entry).abandoned_at_ms) == (DeadReason.DEAD_REASON_EXHAUSTED, _NOW)


def test_who_was_withheld_is_known_by_the_reason_or_in_old_entries_by_the_words() -> None:
    entry = _entry()
    outbox.withhold(entry, "inbox", 1, _NOW)
    assert _inbox(entry).dead_reason == DeadReason.DEAD_REASON_WITHHELD
    assert outbox.withheld_targets(entry) == ["inbox"]
    _inbox(entry).dead_reason = DeadReason.DEAD_REASON_UNSPECIFIED
    assert outbox.withheld_targets(entry) == ["inbox"]
    _inbox(entry).dead_reason = DeadReason.DEAD_REASON_REFUSED
    assert outbox.withheld_targets(entry) == []
    outbox.withhold(entry, "inbox", 1, _NOW)
    _inbox(entry).blocked = True
    assert outbox.withheld_targets(entry) == [], "consent does not lift a block"


def test_what_says_the_same_counts_as_sent_and_keeps_since_when_the_target_has_it() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.confirm(entry, "inbox", 1, _NOW, 77)
    _list(entry, 2, 200)
    outbox.begin(entry, "inbox", 2, _NOW + 50_000)
    assert outbox.says_nothing_new(_inbox(entry), 77, _NOW + 1_000, 0)
    assert not outbox.says_nothing_new(_inbox(entry), 78, _NOW + 1_000, 0)
    assert outbox.says_nothing_new(_inbox(entry), 77, _NOW + 999, 1_000)
    assert not outbox.says_nothing_new(_inbox(entry), 77, _NOW + 1_000, 1_000)
    outbox.suppress(entry, "inbox", 2)
    assert next_step(entry, "inbox", _NOW) == NotDue()
    assert (_inbox(entry).confirmed_version, _inbox(entry).confirmed_at_ms, _inbox(entry).confirmed_digest) == (2, _NOW, 77)
    assert (_inbox(entry).in_flight_version, _inbox(entry).due_since_ms) == (0, 0)


@pytest.mark.parametrize("what", ["fail", "reject", "a mark that nobody lifted"])
def test_what_the_target_has_is_not_known_after_an_attempt_without_an_end(what: str) -> None:
    entry = _entry()
    outbox.confirm(entry, "inbox", 1, _NOW, 77)
    _list(entry, 2, 200)
    outbox.begin(entry, "inbox", 2, _NOW + 20_000)
    assert _inbox(entry).confirmed_digest == 77
    match what:
        case "fail":
            outbox.fail(entry, "inbox", 2, "timed out", _NOW)
        case "reject":
            outbox.reject(entry, "inbox", 2, DeadReason.DEAD_REASON_REFUSED, "no", _NOW)
        case _:
            outbox.begin(entry, "inbox", 2, _NOW + 60_000)
    assert _inbox(entry).confirmed_digest == 0


def test_a_mark_in_the_place_of_ones_own_leaves_what_is_known() -> None:
    entry = _entry()
    outbox.confirm(entry, "inbox", 1, _NOW, 77)
    _list(entry, 2, 200)
    outbox.begin(entry, "inbox", 2, _NOW + 20_000)
    outbox.begin(entry, "inbox", 2, _NOW + 30_000, instead_of_ms=_NOW + 20_000)
    assert _inbox(entry).confirmed_digest == 77


def test_an_older_confirmation_does_not_say_what_the_target_has() -> None:
    entry = _entry(version=5)
    outbox.confirm(entry, "inbox", 5, _NOW, 55)
    outbox.confirm(entry, "inbox", 3, _NOW, 33)
    assert _inbox(entry).confirmed_digest == 55


def test_whom_a_job_has_is_asked_for_until_it_ends_or_its_time_is_over() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.accept(entry, "inbox", 1, "j1", 77, _NOW)
    asked = AskJob("j1", 1, 77, _NOW + MAX_JOB_MS)
    assert next_step(entry, "inbox", _NOW) == asked
    _list(entry, 2, 200)
    assert next_step(entry, "inbox", _NOW + 60_000) == asked
    assert next_step(entry, "inbox", _NOW + MAX_JOB_MS) == Send()
    outbox.begin(entry, "inbox", 2, _NOW + MAX_JOB_MS + 20_000)
    assert (_inbox(entry).job, _inbox(entry).in_flight_digest) == ("", 0)


def test_a_job_that_did_not_take_the_version_in_flight_takes_nobody() -> None:
    entry = _entry(version=2)
    outbox.begin(entry, "inbox", 2, _NOW + 20_000)
    outbox.accept(entry, "inbox", 1, "j1", 77, _NOW)
    assert next_step(entry, "inbox", _NOW) == WaitUntil(_NOW + 20_000)


def test_the_end_of_a_job_leaves_nothing_of_it_behind() -> None:
    entry = _entry()
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.accept(entry, "inbox", 1, "j1", 77, _NOW)
    assert outbox.confirm(entry, "inbox", 1, _NOW + 5_000, 77) == 100
    inbox = _inbox(entry)
    assert (inbox.job, inbox.in_flight_digest, inbox.in_flight_version, inbox.in_flight_until_ms) == ("", 0, 0, 0)


def test_a_wish_to_send_once_more_makes_due_and_is_no_news() -> None:
    entry = _entry()
    outbox.confirm(entry, "inbox", 1, _NOW, 77)
    _inbox(entry).resync_since_ms = _NOW
    assert next_step(entry, "inbox", _NOW) == Send(is_resync=True)
    assert not outbox.says_nothing_new(_inbox(entry), 77, _NOW, 0)
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    _list(entry, 2, 200)
    assert outbox.confirm(entry, "inbox", 1, _NOW + 1, 77) == 0, "no event was answered by it"
    assert next_step(entry, "inbox", _NOW) == Send()
    assert (_inbox(entry).resync_since_ms, _inbox(entry).due_since_ms, _inbox(entry).confirmed_at_ms) == (0, 200, _NOW + 1)


def test_a_long_reason_is_cut() -> None:
    entry = _entry()
    outbox.fail(entry, "inbox", 1, "x" * 10_000, _NOW)
    assert len(_inbox(entry).last_error) == outbox.MAX_ERROR_CHARS


_steps = st.lists(
    st.sampled_from([
        "list", "begin", "confirm", "fail", "postpone", "release", "unmark", "withhold", "reopen", "wait", "reject", "block", "accept",
        "suppress", "resync",
    ]),
    max_size=40,
)


@example(["list", "withhold", "list", "block"])
@given(_steps)
def test_whatever_happens_the_last_list_ends_confirmed_once_the_target_works(steps: list[str]) -> None:
    entry, now_ms, sent = _entry(), _NOW, 1
    for step in steps:
        match step:
            case "list":
                _list(entry, entry.update.version + 1, now_ms)
            case "begin" if next_step(entry, "inbox", now_ms) == Send():
                sent = entry.update.version
                outbox.begin(entry, "inbox", sent, now_ms + 20_000)
            case "confirm":
                outbox.confirm(entry, "inbox", sent, now_ms)
            case "fail":
                outbox.fail(entry, "inbox", sent, "500", now_ms)
            case "postpone":
                outbox.postpone(entry, "inbox", sent, "429", now_ms + 60_000)
            case "release":
                outbox.release(entry, "inbox", sent, "410")
            case "unmark":
                outbox.unmark(entry, "inbox", sent, _inbox(entry).in_flight_until_ms)
            case "withhold":
                outbox.withhold(entry, "inbox", _inbox(entry).desired_version)
            case "reopen":
                outbox.reopen(entry, ["inbox"])
            case "reject" | "block":
                outbox.reject(entry, "inbox", sent, DeadReason.DEAD_REASON_REFUSED, "no", now_ms, blocks=step == "block")
            case "accept":
                outbox.accept(entry, "inbox", sent, "job", 7, now_ms)
            case "suppress":
                outbox.suppress(entry, "inbox", sent)
            case "resync":
                _inbox(entry).resync_since_ms = now_ms
            case _:
                now_ms += 5_000
        # Encode and decode in the middle: nothing lives outside the entry.
        entry = OutboxEntry.FromString(entry.SerializeToString())
        assert outbox.is_live(_inbox(entry)) == bool(_inbox(entry).due_since_ms), "who is due knows since when, and nobody else does"
        assert bool(_inbox(entry).job) <= bool(_inbox(entry).in_flight_version), "a job has somebody"
    outbox.reopen(entry, ["inbox"])
    _list(entry, entry.update.version + 1, now_ms)
    for _ in range(3):
        match next_step(entry, "inbox", now_ms):
            case WaitUntil(at_ms):
                assert at_ms <= now_ms + 24 * 3_600_000 * 1.2 + 1, "no wait is longer than the schedule's longest"
                now_ms = at_ms
            case AskJob(until_ms=until_ms):
                assert until_ms <= now_ms + MAX_JOB_MS
                now_ms = until_ms
            case Send():
                outbox.begin(entry, "inbox", entry.update.version, now_ms + 20_000)
                outbox.confirm(entry, "inbox", entry.update.version, now_ms)
            case NotDue():
                break
    assert _inbox(entry).confirmed_version == entry.update.version


@pytest.mark.parametrize("field", ["in_flight_until_ms", "in_flight_version", "next_attempt_at_ms", "attempts"])
def test_confirmation_leaves_nothing_of_the_attempts_behind(field: str) -> None:
    entry = _entry()
    outbox.fail(entry, "inbox", 1, "500", _NOW)
    outbox.begin(entry, "inbox", 1, _NOW + 20_000)
    outbox.confirm(entry, "inbox", 1, _NOW)
    assert getattr(_inbox(entry), field) == 0
