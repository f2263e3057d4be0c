"""A segment is a condition on a profile: who fulfils it, for whom it cannot be said, and what is told of one that is wrong."""

from __future__ import annotations

import pytest

from app.domain.segment import SEGMENT_NAMES, Segment
from app.expressions import MAX_EXPRESSION_CHARS, WrongExpressionError
from tidings.events.v1.event_pb2 import ConsentState
from tidings.state.v1.profile_pb2 import Profile

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS


def ada() -> Profile:
    profile = Profile(user_id="ada", event_count=7, first_event_at_ms=NOW_MS - 30 * DAY_MS, last_event_at_ms=NOW_MS - DAY_MS // 2)
    profile.attributes.add(name="plan", text="gold")
    profile.attributes.add(name="age", number=31.5)
    profile.attributes.add(name="vip", flag=True)
    profile.attributes.add(name="left", flag=False)
    profile.attributes.add(name="cleared")
    profile.attributes.add(name="e-mail", text="ada@example.com")
    profile.cart.add(product_id="mug", quantity=3)
    profile.history.product_ids.extend(["mug", "tea"])
    profile.purchases.product_ids.append("tea")
    profile.email.opened_count = 2
    profile.consents.add(purpose="profiling", state=ConsentState.CONSENT_STATE_GRANTED)
    profile.consents.add(purpose="personalised_email", state=ConsentState.CONSENT_STATE_DENIED)
    return profile


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('attributes.plan == "gold"', True),
        ('attributes.plan != "gold"', False),
        ('attributes.plan =~ "go.*" and attributes.age > 30', True),
        ("attributes.age > 31.5", False),
        ("attributes.vip", True),
        ("attributes.left", False),
        ("not attributes.nothing", True),
        ("attributes.cleared == null", True),
        ('attributes.nothing == "gold"', False),
        ('attributes.e_mail == "ada@example.com"', True),
        ('"mug" in cart and cart_size == 1', True),
        ('"tea" in cart', False),
        ('"tea" in seen and "tea" in bought', True),
        ('"mug" in bought', False),
        ("days_since_last_event < 1 and days_since_last_event > 0.4", True),
        ("days_since_first_event == 30", True),
        ("event_count == 7 and emails_opened == 2 and emails_clicked == 0", True),
        ('"personalised_email" in denied', True),
        ('"profiling" in denied', False),
        ('user_id in ["ada", "bob"]', True),
    ],
)
def test_a_condition_speaks_of_what_the_profile_holds(text: str, holds: bool) -> None:
    assert Segment(text, NOW_MS).holds(ada()) is holds


@pytest.mark.parametrize("text", ["attributes.plan > 3", "attributes.nothing > 3", "attributes.cleared < 3", "attributes.plan.x == 3"])
def test_a_person_for_whom_it_cannot_be_said_is_neither_in_nor_out(text: str) -> None:
    assert Segment(text, NOW_MS).holds(ada()) is None


@pytest.mark.parametrize("text", [f"{name} == {name}" for name in SEGMENT_NAMES])
def test_every_name_can_be_asked_of_a_person_of_whom_nothing_is_known(text: str) -> None:
    assert Segment(text, NOW_MS).holds(Profile()) is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('attributes.plan == "gold" and citty == 3', "'citty' at character 31; there are user_id"),
        ("price > 3", "'price'"),
        ("attributes.plan ==", "character 19"),
        ('cart == "mug"', '"text" in list'),
        ("cart_size + 1", "true or false"),
        ("$now() > 3", "$now at character 1"),
        ('"a" == "' + "x" * MAX_EXPRESSION_CHARS + '"', "characters"),
        ("(" * 900, "character"),
    ],
)
def test_a_wrong_condition_is_told_with_the_part_that_is_wrong(text: str, words: str) -> None:
    with pytest.raises(WrongExpressionError) as told:
        Segment(text, NOW_MS)
    assert words in str(told.value)
