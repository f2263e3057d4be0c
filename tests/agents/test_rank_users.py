"""The ranking of dirty users, run on a dict and a list."""

from __future__ import annotations

import pytest

from app.domain.held_neighbours import HeldNeighbours
from app.domain.models import GlobalModels
from app.domain.profile import fold_event, new_profile
from app.domain.ranking import rank
from app.domain.recommendations import Recommendation
from app.engine.commit import Unit
from app.streams.rank_users import OUTBOX, Ranked, rank_slice
from tests.agents.worlds import NAMES, NOW_MS, DictState, consent, viewed
from tidings.events.v1.event_pb2 import CONSENT_STATE_DENIED, Event
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import RecommendationUpdate

MODELS = GlobalModels.of([])


def ranked_for_anyone(profile: Profile, held: HeldNeighbours | None, now_ms: int) -> list[Recommendation]:
    return rank(profile, held or HeldNeighbours(), MODELS, now_ms, 20)


class RankBench:
    """Profiles and an outbox in dicts; every update ever published in a list."""

    def __init__(self) -> None:
        self.profiles: dict[bytes, Profile] = {}
        self.state = DictState(OUTBOX)
        self.updates: list[RecommendationUpdate] = []
        self.targets = ["shop"]

    def fold(self, *events: Event) -> None:
        for event in events:
            fold_event(self.profiles.setdefault(event.user_id.encode(), new_profile(event.user_id)), event)

    def rank(self, *users: str, least_version: int = 1, caused_at_ms: int = NOW_MS, now_ms: int = NOW_MS) -> Ranked:
        unit: Unit[OutboxEntry] = Unit(self.state)  # type: ignore[arg-type]  # DictState stands in
        ranked = rank_slice(
            unit, [(user.encode(), caused_at_ms) for user in users], self.profiles.get, lambda _: None, ranked_for_anyone,
            now_ms=now_ms, targets=self.targets, updates_topic=NAMES.updates, least_version=least_version,
        )  # fmt: skip
        self.state.end_unit()
        for (topic, _), sent in unit.outputs.items():
            assert topic == NAMES.updates
            for key, value in sent:
                update = RecommendationUpdate.FromString(value)
                assert key == update.user_id.encode()
                self.updates.append(update)
        return ranked

    def entry(self, user: str) -> OutboxEntry:
        return self.state.get(user.encode())


async def test_a_first_list_is_published_and_due_at_every_target() -> None:
    bench = RankBench()
    bench.targets = ["crm", "shop"]
    bench.fold(viewed("anna", "shoe", 1))
    ranked = bench.rank("anna", caused_at_ms=NOW_MS + 5, now_ms=NOW_MS + 9)

    assert ranked == Ranked(1, [("anna", NOW_MS + 5)])
    [update] = bench.updates
    assert bench.entry("anna").update == update
    assert (update.caused_at_ms, update.ranked_at_ms, update.current_to_ms) == (NOW_MS + 5, NOW_MS + 9, NOW_MS + 1000)
    assert [r.product_id for r in update.recommendations] == ["shoe"]
    assert [(d.target, d.desired_version) for d in bench.entry("anna").deliveries] == [("crm", update.version), ("shop", update.version)]


async def test_an_unchanged_list_is_not_published_again() -> None:
    bench = RankBench()
    bench.fold(viewed("anna", "shoe", 1))
    bench.rank("anna")
    before = dict(bench.state.bytes_by_key)

    ranked = bench.rank("anna", now_ms=NOW_MS + 60_000)

    assert ranked == Ranked(1, [])
    assert len(bench.updates) == 1
    assert bench.state.bytes_by_key == before


async def test_versions_grow_with_each_list() -> None:
    bench = RankBench()
    for n, product in enumerate(["shoe", "hat", "sock"]):
        bench.fold(viewed("anna", product, n))
        bench.rank("anna", least_version=100)

    assert [update.version for update in bench.updates] == [100, 101, 102]


async def test_versions_grow_over_a_change_of_owner_even_above_what_the_old_one_may_still_send() -> None:
    bench = RankBench()
    bench.fold(viewed("anna", "shoe", 1))
    bench.rank("anna", least_version=100)
    bench.fold(viewed("anna", "hat", 2))
    bench.rank("anna", least_version=250)

    assert [update.version for update in bench.updates] == [100, 250]


async def test_a_new_owner_publishes_an_unchanged_list_once_and_makes_nobody_due() -> None:
    """The former one may have published another list and died before its outbox said so."""
    bench = RankBench()
    bench.fold(viewed("anna", "shoe", 1))
    bench.rank("anna", least_version=100)
    deliveries = list(bench.entry("anna").deliveries)
    assert bench.rank("anna", least_version=250) == Ranked(1, [])
    bench.rank("anna", least_version=250)

    assert [update.version for update in bench.updates] == [100, 250]
    assert bench.updates[0].recommendations == bench.updates[1].recommendations
    assert bench.entry("anna").update.version == 250
    assert list(bench.entry("anna").deliveries) == deliveries


async def test_versions_never_fall_when_the_least_one_is_lower() -> None:
    """A changelog that was deleted and made anew starts its offsets at zero."""
    bench = RankBench()
    bench.fold(viewed("anna", "shoe", 1))
    bench.rank("anna", least_version=100)
    bench.fold(viewed("anna", "hat", 2))
    bench.rank("anna", least_version=1)

    assert [update.version for update in bench.updates] == [100, 101]


async def test_the_key_of_a_dead_letter_is_ranked_as_nobody() -> None:
    bench = RankBench()
    ranked = bench.rank("nobody", "\x00noise")

    assert ranked == Ranked(0, [])
    assert bench.updates == []
    assert bench.state.bytes_by_key == {}


async def test_a_person_who_withdraws_consent_gets_an_empty_list_once() -> None:
    bench = RankBench()
    bench.fold(viewed("anna", "shoe", 1))
    bench.rank("anna")
    bench.fold(consent("anna", CONSENT_STATE_DENIED, 2))
    bench.rank("anna")
    bench.rank("anna")

    assert [[r.product_id for r in update.recommendations] for update in bench.updates] == [["shoe"], []]


async def test_a_person_without_products_gets_a_list_only_when_there_is_something_in_it() -> None:
    """An empty list is a list: it is published once, and not again."""
    bench = RankBench()
    bench.fold(consent("anna", CONSENT_STATE_DENIED, 1))
    bench.rank("anna")
    bench.rank("anna")

    assert len(bench.updates) == 1


async def test_no_targets_still_means_updates() -> None:
    bench = RankBench()
    bench.targets = []
    bench.fold(viewed("anna", "shoe", 1))
    bench.rank("anna")

    assert len(bench.updates) == 1
    assert not bench.entry("anna").deliveries


@pytest.mark.parametrize("order", [("anna", "ben"), ("ben", "anna")])
async def test_the_order_of_users_in_a_tick_does_not_matter_to_their_lists(order: tuple[str, str]) -> None:
    bench = RankBench()
    bench.fold(viewed("anna", "shoe", 1), viewed("ben", "hat", 2))
    bench.rank(*order)

    assert {u.user_id: [r.product_id for r in u.recommendations] for u in bench.updates} == {"anna": ["shoe"], "ben": ["hat"]}
