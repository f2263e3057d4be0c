"""A copy of a partition is as old as the table of it that is furthest behind, and stays for a minute once it is assigned elsewhere."""

from __future__ import annotations

from app.engine.copies import KEPT_SECONDS, Copies


def test_a_copy_is_whole_only_when_each_of_its_tables_reached_the_end_and_as_old_as_the_oldest() -> None:
    copies, offsets = Copies(), {"profiles": 10, "outbox": 7}
    copies.holds_all(3, "profiles", 10, 5000)
    assert copies.whole_at_ms(3, offsets) is None, "lists of which nothing is known yet would be answered as empty"
    copies.holds_all(3, "outbox", 7, 2000)
    assert copies.whole_at_ms(3, offsets) == 2000
    copies.holds_all(3, "outbox", 7, 6000)
    assert copies.whole_at_ms(3, offsets) == 5000
    assert copies.whole_at_ms(4, offsets) is None, "another partition"


def test_a_copy_that_went_on_since_is_still_whole_as_of_then_and_one_that_was_begun_anew_is_not() -> None:
    copies = Copies()
    copies.holds_all(0, "profiles", 10, 5000)
    assert copies.whole_at_ms(0, {"profiles": 12}) == 5000
    assert copies.whole_at_ms(0, {"profiles": 9}) is None
    assert copies.whole_at_ms(0, {"profiles": None}) is None
    copies.holds_all(0, "profiles", None, 6000)
    assert copies.whole_at_ms(0, {"profiles": None}) == 6000, "of an empty changelog all is here"


def test_what_is_assigned_elsewhere_stays_for_a_while_and_then_goes() -> None:
    copies = Copies()
    copies.holds_all(1, "profiles", 10, 5000)
    assert copies.stay({0, 2}, {0, 1}, 100.0) == {0, 1, 2}
    assert copies.stay({0, 2}, {0, 1, 2}, 100.0 + KEPT_SECONDS - 1) == {0, 1, 2}
    assert copies.whole_at_ms(1, {"profiles": 10}) == 5000
    assert copies.stay({0, 2}, {0, 1, 2}, 100.0 + KEPT_SECONDS) == {0, 2}
    assert copies.whole_at_ms(1, {"profiles": 10}) is None, "what is closed is followed by nobody"


def test_what_comes_back_begins_its_while_again_when_it_leaves() -> None:
    copies = Copies()
    copies.stay(set(), {1}, 100.0)
    copies.stay({1}, {1}, 150.0)
    assert copies.stay(set(), {1}, 155.0) == {1}
    assert copies.stay(set(), {1}, 155.0 + KEPT_SECONDS - 1) == {1}
    assert copies.stay(set(), {1}, 155.0 + KEPT_SECONDS) == set()


def test_of_what_somebody_else_closed_nothing_is_kept() -> None:
    copies = Copies()
    copies.stay(set(), {1}, 100.0)
    assert copies.stay(set(), set(), 101.0) == set()
