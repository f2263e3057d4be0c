"""`tidings resync` asks for current lists once more: for a person, for those whose profile fulfils a condition, for everybody."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile

from .conftest import Installation
from .outbox_worlds import commands_now, entry, fine, with_targets, write_outbox, write_profiles

DAY_MS = 86_400_000


def profile(user_id: str, plan: str | None = None, days_ago: float = 0, *cart: str) -> Profile:
    made = Profile(user_id=user_id, event_count=3, last_event_at_ms=int(time.time() * 1000 - days_ago * DAY_MS))
    if plan is not None:
        made.attributes.add(name="plan", text=plan)
    for product in cart:
        made.cart.add(product_id=product, quantity=1)
    return made


@pytest.fixture
def shop(installation: Installation, tmp_path: Path) -> Installation:
    shop = with_targets(installation, tmp_path, "crm", "hook")
    write_outbox(shop, *(entry(user, fine("crm")) for user in ("ann", "bob", "cat")), OutboxEntry(user_id="no-list"))
    write_profiles(
        shop, profile("ann", "silver"), profile("bob", "gold", 40, "mug"), profile("cat"), profile("ann", "gold", 1, "mug", "tea"),
    )  # fmt: skip
    return shop


def resync(shop: Installation, *arguments: str) -> list[tuple[str, str]]:
    """(user, target) of what is asked for after it."""
    result = shop.tidings("resync", *arguments, "--yes")
    assert result.exit_code == 0, result.output
    found = commands_now(shop)
    assert {action for action, _, _ in found} <= {"resync"}
    return [(user, target) for _, user, target in found]


def test_a_person_is_sent_to_every_destination_of_the_settings_or_those_that_are_named(shop: Installation) -> None:
    assert resync(shop, "--user", "ann", "--user", "ann") == [("ann", "crm"), ("ann", "hook")]
    assert ("zoe", "hook") in resync(shop, "--user", "zoe", "--destination", "hook")


def test_everybody_is_whoever_has_a_list(shop: Installation) -> None:
    assert resync(shop, "--all", "--destination", "hook") == [("ann", "hook"), ("bob", "hook"), ("cat", "hook")]


def test_a_segment_is_whoever_fulfils_the_condition_by_the_last_state_of_the_profile(shop: Installation) -> None:
    found = resync(shop, "--segment", 'attributes.plan == "gold" and "mug" in cart and days_since_last_event < 30', "--destination", "crm")
    assert found == [("ann", "crm")]


def test_it_says_who_is_left_out_and_that_resyncs_have_a_lane_of_their_own(shop: Installation) -> None:
    result = shop.tidings("resync", "--segment", "attributes.plan > 3 or cart_size == 0", "--destination", "crm", "--yes")
    assert result.exit_code == 0, result.output
    assert "people are left out" in result.stderr
    assert commands_now(shop) == []
    result = shop.tidings("resync", "--user", "ann")
    assert "lane of their own" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--segment"),
        (["--all", "--user", "ann"], "one of them"),
        (["--user", "__owner"], "__owner"),
        (["--user", ""], "is required"),
        (["--all", "--destination", "elsewhere"], "there are crm, hook"),
        (["--segment", "citty == 3"], "unknown name 'citty' at character 1"),
        (["--segment", "attributes.plan =="], "at character 19"),
        (["--segment", 'cart == "mug"'], 'write "text" in list'),
        (["--segment", "(" * 5000], "characters"),
    ],
)
def test_wrong_usage_names_the_part_that_is_wrong_and_sends_nothing(shop: Installation, arguments: list[str], words: str) -> None:
    result = shop.tidings("resync", *arguments, "--yes")
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_many_are_sent_only_when_it_is_said(shop: Installation) -> None:
    result = shop.tidings("resync", "--all")
    assert result.exit_code == 1
    assert "3 people" in result.output
    assert commands_now(shop) == []


def test_without_a_destination_it_says_whose_settings_are_wanted(installation: Installation) -> None:
    result = installation.tidings("resync", "--user", "ann")
    assert result.exit_code == 1
    assert "--settings" in result.output
