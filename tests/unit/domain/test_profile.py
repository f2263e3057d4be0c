"""The profile fold: sessions, history, cart, fields, consent and retries, one sentence each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cart import MAX_CART_LINES, MAX_LINE_QUANTITY
from app.domain.fields import MAX_ATTRIBUTES, MAX_CONSENTS
from app.domain.profile import (
    MAX_ANONYMOUS_IDS,
    MAX_EARLIER_PRODUCTS,
    MAX_HISTORY,
    MAX_RECENT_EVENT_IDS,
    MAX_SESSION_PRODUCTS,
    SESSION_GAP_MS,
    Applied,
    Denied,
    Duplicate,
    fold_event,
    new_profile,
)
from tests.unit.domain.event_worlds import MINUTE_MS, NOON_MS, added, changed, consent, event, histories, ordered, removed, viewed
from tidings.events.v1.event_pb2 import ConsentState, Event, FieldChange
from tidings.state.v1.profile_pb2 import InteractionKind, Profile

GRANTED = ConsentState.CONSENT_STATE_GRANTED
DENIED = ConsentState.CONSENT_STATE_DENIED


def folded(*events: Event) -> Profile:
    profile = new_profile("ada")
    for one in events:
        fold_event(profile, one)
    return profile


def interactions(profile: Profile, one: Event):
    outcome = fold_event(profile, one)
    assert isinstance(outcome, Applied)
    return outcome.interactions


# Retries and replays


@given(histories(), st.data())
def test_a_retry_of_a_recent_event_changes_nothing(events, data):
    profile = new_profile("ada")
    taken = [one for one in events if isinstance(fold_event(profile, one), Applied)]
    before = profile.SerializeToString()
    retry = data.draw(st.sampled_from(taken))
    assert isinstance(fold_event(profile, retry), Duplicate | Denied)
    assert profile.SerializeToString() == before


def test_a_retry_is_told_by_its_event_id_whatever_else_it_says():
    profile = folded(viewed("p1", "e1"))
    assert fold_event(profile, viewed("p2", "e1", NOON_MS + 5)) == Duplicate()
    assert profile.event_count == 1


def test_an_event_id_is_remembered_for_128_events():
    events = [viewed("p", f"e{n}", NOON_MS + n) for n in range(MAX_RECENT_EVENT_IDS)]
    profile = folded(*events)
    assert fold_event(profile, events[0]) == Duplicate()
    fold_event(profile, viewed("p", "one more"))
    assert fold_event(profile, events[1]) == Duplicate()
    assert isinstance(fold_event(profile, events[0]), Applied)
    assert len(profile.recent_event_ids) == 8 * MAX_RECENT_EVENT_IDS


def test_a_digest_across_the_border_of_two_others_is_no_retry():
    profile = folded(viewed("p", "a"), viewed("p", "b"))
    digest = folded(viewed("p", "c")).recent_event_ids
    profile.recent_event_ids = b"1234" + digest + b"5678"
    assert isinstance(fold_event(profile, viewed("p", "c")), Applied)


@given(histories(), st.data())
def test_encoding_and_decoding_in_the_middle_of_a_fold_changes_nothing(events, data):
    cut = data.draw(st.integers(0, len(events)))
    stored = Profile.FromString(folded(*events[:cut]).SerializeToString())
    for one in events[cut:]:
        fold_event(stored, one)
    assert stored.SerializeToString() == folded(*events).SerializeToString()


@given(histories(max_size=80))
def test_bounds_and_invariants_hold_after_any_events(events):
    profile = folded(*events)
    assert profile.event_count <= len(events)
    assert len(profile.session.product_ids) == min(profile.session.history_count, MAX_SESSION_PRODUCTS)
    history = profile.history
    assert len(history.product_ids) == len(history.occurred_at_ms) == len(history.kinds) <= MAX_HISTORY
    own = profile.session.history_count
    assert list(history.product_ids)[len(history.product_ids) - own :][-MAX_SESSION_PRODUCTS:] == list(profile.session.product_ids)
    assert profile.session.started_at_ms <= profile.session.last_event_at_ms
    assert profile.first_event_at_ms <= profile.last_event_at_ms
    assert [a.name for a in profile.attributes] == sorted({a.name for a in profile.attributes})
    assert [c.purpose for c in profile.consents] == sorted({c.purpose for c in profile.consents})
    assert len({line.product_id for line in profile.cart}) == len(profile.cart)
    assert all(line.quantity > 0 for line in profile.cart)


def test_lists_stay_at_their_bounds_and_the_oldest_goes_first():
    events = [
        event(f"e{n}", NOON_MS + n * 1000, anonymous_id=f"a{n}", added_to_cart={"product_id": f"p{n}"})
        for n in range(MAX_HISTORY + MAX_CART_LINES)
    ]
    profile = folded(*events)
    assert list(profile.history.product_ids) == [f"p{n}" for n in range(100, 300)]
    assert list(profile.session.product_ids) == [f"p{n}" for n in range(270, 300)]
    assert profile.session.history_count == MAX_HISTORY
    assert [line.product_id for line in profile.cart] == [f"p{n}" for n in range(200, 300)]
    assert list(profile.anonymous_ids) == [f"a{n}" for n in range(300 - MAX_ANONYMOUS_IDS, 300)]
    assert profile.event_count == 300


def test_an_interaction_carries_at_most_30_products_of_the_session_and_16_of_earlier_ones():
    profile = folded(*(viewed(f"a{n}", f"a{n}") for n in range(40)), *(viewed(f"b{n}", f"b{n}", NOON_MS + 10**8) for n in range(40)))
    (interaction,) = interactions(profile, viewed("c", "c", NOON_MS + 10**8))
    assert interaction.session == [f"b{n}" for n in range(40 - MAX_SESSION_PRODUCTS, 40)]
    assert interaction.earlier == [f"a{n}" for n in range(40 - MAX_EARLIER_PRODUCTS, 40)]


# Sessions


def test_half_an_hour_of_quiet_ends_a_session():
    profile = folded(viewed("p1", "e1", NOON_MS))
    (within,) = interactions(profile, viewed("p2", "e2", NOON_MS + SESSION_GAP_MS))
    assert (within.session, within.earlier) == (["p1"], [])
    (after,) = interactions(profile, viewed("p3", "e3", NOON_MS + 2 * SESSION_GAP_MS + 1))
    assert (after.session, after.earlier) == ([], ["p1", "p2"])
    assert (profile.session.started_at_ms, profile.session.event_count) == (after.occurred_at_ms, 1)


def test_the_clients_own_session_lasts_as_long_as_the_client_says():
    profile = folded(viewed("p1", "e1", session_id="s1"), viewed("p2", "e2", NOON_MS + 10 * SESSION_GAP_MS, session_id="s1"))
    assert list(profile.session.product_ids) == ["p1", "p2"]
    (other,) = interactions(profile, viewed("p3", "e3", NOON_MS + 10 * SESSION_GAP_MS + 1, session_id="s2"))
    assert (other.session, other.earlier) == ([], ["p1", "p2"])


def test_an_event_without_a_session_joins_the_clients_session_while_it_is_fresh():
    profile = folded(viewed("p1", "e1", session_id="s1"), ordered(["p1"], "e2", NOON_MS + MINUTE_MS))
    assert (profile.session.session_id, list(profile.session.product_ids)) == ("s1", ["p1", "p1"])


def test_a_session_cut_by_time_adopts_the_clients_id():
    profile = folded(viewed("p1", "e1"), viewed("p2", "e2", NOON_MS + MINUTE_MS, session_id="s1"))
    assert (profile.session.session_id, list(profile.session.product_ids)) == ("s1", ["p1", "p2"])


def test_an_event_a_little_late_joins_the_session_in_the_order_of_arrival():
    profile = folded(viewed("p1", "e1"), viewed("p2", "e2", NOON_MS - MINUTE_MS))
    assert list(profile.session.product_ids) == ["p1", "p2"]
    assert (profile.session.started_at_ms, profile.session.last_event_at_ms) == (NOON_MS - MINUTE_MS, NOON_MS)
    assert (profile.first_event_at_ms, profile.last_event_at_ms) == (NOON_MS - MINUTE_MS, NOON_MS)


@pytest.mark.parametrize("session_id", ["", "s0"])
def test_an_event_of_an_earlier_session_that_comes_late_stands_before_the_session_and_tells_no_sequence(session_id):
    profile = folded(viewed("p1", "e1", NOON_MS - 10**8), viewed("p2", "e2", session_id="s1"), viewed("p3", "e3", session_id="s1"))
    (late,) = interactions(profile, viewed("p9", "e4", NOON_MS - 10**7, session_id=session_id))
    assert (late.session, late.earlier) == ([], [])
    assert list(profile.history.product_ids) == ["p1", "p9", "p2", "p3"]
    assert list(profile.history.occurred_at_ms) == [NOON_MS - 10**8, NOON_MS - 10**7, NOON_MS, NOON_MS]
    assert (list(profile.session.product_ids), profile.session.last_event_at_ms) == (["p2", "p3"], NOON_MS)
    (now,) = interactions(profile, viewed("p4", "e5", NOON_MS + 1, session_id="s1"))
    assert (now.session, now.earlier) == (["p2", "p3"], ["p1", "p9"])


def test_a_late_event_before_a_session_that_fills_the_history_is_counted_and_forgotten():
    profile = folded(*(viewed(f"p{n}", f"e{n}", session_id="s1") for n in range(MAX_HISTORY)))
    interactions(profile, viewed("late", "late", NOON_MS - 10**8))
    assert list(profile.history.product_ids) == [f"p{n}" for n in range(MAX_HISTORY)]
    assert profile.event_count == MAX_HISTORY + 1


def test_opens_profile_and_consent_changes_belong_to_no_session():
    profile = folded(
        event("e1", email_opened={"message_id": "m"}), changed([FieldChange(name="n", text="x")], "e2"), consent("sms", GRANTED, "e3")
    )
    assert not profile.HasField("session")
    assert profile.event_count == 3


# What is touched


def test_an_order_touches_each_distinct_product_once_in_the_order_of_its_lines():
    profile = new_profile("ada")
    first, second = interactions(profile, ordered(["p2", "p1", "p2"], "e1"))
    assert (first.product_id, first.session) == ("p2", [])
    assert (second.product_id, second.session) == ("p1", ["p2"])
    assert list(profile.history.kinds) == [InteractionKind.INTERACTION_KIND_PURCHASE] * 2


def test_a_click_in_an_email_counts_as_a_view_if_it_names_a_product():
    profile = new_profile("ada")
    assert interactions(profile, event("e1", email_clicked={"message_id": "m"})) == ()
    (click,) = interactions(profile, event("e2", NOON_MS + 5, email_clicked={"message_id": "m", "product_id": "p1"}))
    assert (click.product_id, click.kind) == ("p1", InteractionKind.INTERACTION_KIND_EMAIL_CLICK)
    assert (profile.email.clicked_count, profile.email.last_clicked_at_ms) == (2, NOON_MS + 5)
    interactions(profile, event("e3", NOON_MS + 7, email_opened={"message_id": "m"}))
    assert (profile.email.opened_count, profile.email.last_opened_at_ms) == (1, NOON_MS + 7)


# The cart


def test_adding_raises_a_line_and_keeps_its_place_and_first_time():
    profile = folded(added("p1", "e1"), added("p2", "e2", quantity=2), added("p1", "e3", NOON_MS + 1, quantity=3))
    assert [(line.product_id, line.quantity, line.added_at_ms) for line in profile.cart] == [("p1", 4, NOON_MS), ("p2", 2, NOON_MS)]


def test_the_last_price_said_stays_with_the_line():
    price = {"minor_units": 500, "currency_code": "EUR"}
    profile = folded(event("e1", added_to_cart={"product_id": "p1", "unit_price": price}), added("p1", "e2"))
    assert (profile.cart[0].unit_price.minor_units, profile.cart[0].quantity) == (500, 2)


def test_a_lines_quantity_has_a_bound():
    profile = folded(*(added("p1", f"e{n}", quantity=10_000) for n in range(3)))
    assert profile.cart[0].quantity == MAX_LINE_QUANTITY


def test_removing_lowers_a_line_or_takes_it_out():
    profile = folded(added("p1", "e1", quantity=3), removed("p1", "e2", quantity=1))
    assert profile.cart[0].quantity == 2
    assert not folded(added("p1", "e1", quantity=3), removed("p1", "e2")).cart
    assert not folded(added("p1", "e1", quantity=3), removed("p1", "e2", quantity=9)).cart
    assert not folded(removed("p1", "e1")).cart


def test_an_order_takes_its_products_out_of_the_cart_and_leaves_the_others():
    profile = folded(added("p1", "e1"), added("p2", "e2"), added("p3", "e3"), ordered(["p3", "p1"], "e4"))
    assert [line.product_id for line in profile.cart] == ["p2"]


def test_a_late_order_or_removal_takes_no_line_that_was_added_after_it():
    late = NOON_MS - 1
    assert len(folded(added("p1", "e1"), ordered(["p1"], "e2", late)).cart) == 1
    assert len(folded(added("p1", "e1"), removed("p1", "e2", late)).cart) == 1


# Fields


@given(st.permutations(range(6)))
def test_the_latest_change_of_a_field_wins_in_any_order(order):
    changes = [
        changed([FieldChange(name="city", text="Oslo")], "e1", NOON_MS),
        changed([FieldChange(name="city", text="Rome")], "e2", NOON_MS + 2),
        changed([FieldChange(name="city")], "e3", NOON_MS + 1),
        changed([FieldChange(name="age", number=30)], "e4", NOON_MS + 3),
        changed([FieldChange(name="age")], "e5", NOON_MS + 3),
        changed([FieldChange(name="vip", flag=True)], "e0", NOON_MS),
    ]
    profile = folded(*(changes[place] for place in order))
    assert [(a.name, a.WhichOneof("value"), a.changed_at_ms, a.event_id) for a in profile.attributes] == [
        ("age", None, NOON_MS + 3, "e5"),
        ("city", "text", NOON_MS + 2, "e2"),
        ("vip", "flag", NOON_MS, "e0"),
    ]
    assert profile.attributes[1].text == "Rome"


def test_past_the_bound_cleared_fields_go_first_and_then_the_one_changed_longest_ago():
    profile = folded(
        changed([FieldChange(name="zz")], "cleared", NOON_MS + 10**6),
        *(changed([FieldChange(name=f"n{n:03}", text="x")], f"e{n}", NOON_MS + n) for n in range(MAX_ATTRIBUTES)),
    )
    assert [a.name for a in profile.attributes] == [f"n{n:03}" for n in range(MAX_ATTRIBUTES)]
    fold_event(profile, changed([FieldChange(name="a", text="x")], "more", NOON_MS + 10**6))
    assert [a.name for a in profile.attributes] == ["a", *(f"n{n:03}" for n in range(1, MAX_ATTRIBUTES))]


# Consent


def test_without_consent_to_profiling_nothing_but_consent_is_folded():
    profile = folded(viewed("p1", "e1"), consent("profiling", DENIED, "e2"))
    before = profile.SerializeToString()
    for one in (
        viewed("p2", "e3"),
        added("p2", "e4"),
        changed([FieldChange(name="n", text="x")], "e5"),
        event("e6", email_opened={"message_id": "m"}),
    ):
        assert fold_event(profile, one) == Denied()
    assert profile.SerializeToString() == before
    assert isinstance(fold_event(profile, consent("profiling", GRANTED, "e7", NOON_MS + 1)), Applied)
    assert isinstance(fold_event(profile, viewed("p2", "e3")), Applied)


def test_another_purpose_that_is_denied_denies_no_event():
    assert isinstance(fold_event(folded(consent("sms", DENIED, "e1")), viewed("p1", "e2")), Applied)


@given(st.permutations(range(3)))
def test_the_latest_word_on_consent_wins_in_any_order(order):
    words = [consent("profiling", DENIED, "e1"), consent("profiling", GRANTED, "e2"), consent("profiling", DENIED, "e0", NOON_MS - 1)]
    profile = folded(*(words[place] for place in order))
    assert [(c.purpose, c.state, c.event_id) for c in profile.consents] == [("profiling", GRANTED, "e2")]


def test_past_the_bound_a_grant_goes_before_a_denial_and_profiling_stays():
    profile = folded(
        consent("profiling", GRANTED, "e-", NOON_MS - 5),
        consent("a", DENIED, "e0", NOON_MS - 4),
        *(consent(f"b{n:02}", GRANTED, f"e{n}", NOON_MS + n) for n in range(1, MAX_CONSENTS)),
    )
    assert [c.purpose for c in profile.consents] == ["a", *(f"b{n:02}" for n in range(2, MAX_CONSENTS)), "profiling"]
