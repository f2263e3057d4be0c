"""What the views answer over real HTTP, and that every answer is as the OpenAPI document says."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from yarl import URL

from app.domain.items import apply_visit, new_item
from app.domain.profile import fold_event, new_profile
from app.domain.visits import Visit
from app.streams.location import Moving, WorkerStatus
from app.web.openapi import openapi_document
from app.web.openapi_schemas import EVENT_EXAMPLES
from app.web.representations import iso_time, profile_json
from tidings.state.v1.neighbours_pb2 import NeighbourList
from tidings.state.v1.outbox_pb2 import OutboxEntry
from tidings.state.v1.profile_pb2 import Profile
from tidings.updates.v1.update_pb2 import Reason, ReasonKind, Recommendation, RecommendationUpdate

from .worlds import AT, INGEST, FakeViews, is_problem, view, world


def conforms(document: Any, schema: str) -> bool:
    components = {"components": openapi_document()["components"]}
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **components}).validate(document)
    return True


async def folded(*objects: dict[str, Any]) -> Profile:
    """A profile after these JSON events."""
    async with world() as w:
        assert (await w.post(list(objects)))[0] == 202
    profile = new_profile(w.log.events[0].user_id)
    for event in w.log.events:
        fold_event(profile, event)
    return profile


def list_of(*recommendations: Recommendation) -> OutboxEntry:
    update = RecommendationUpdate(
        user_id="u1", version=3, ranked_at_ms=1_714_228_522_100, caused_at_ms=1_714_228_522_050, current_to_ms=1_714_228_522_000
    )
    update.recommendations.extend(recommendations)
    return OutboxEntry(user_id="u1", update=update)


async def test_a_profile_is_shown_with_all_that_its_events_made():
    examples = [{**example, "user_id": "12345"} for name, example in EVENT_EXAMPLES.items() if name != "consent_changed"]
    profile = await folded(
        *examples, {"user_id": "12345", "event": "consent_changed", "purpose": "ads", "state": "denied", "timestamp": AT}
    )
    async with world(views=FakeViews(profiles={"12345": profile})) as w:
        status, document, _ = await w.get("/v1/users/12345")
    assert status == 200
    assert conforms(document, "Profile")
    assert document["event_count"] == len(examples) + 1
    assert document["last_event_at"] == "2024-04-27T14:35:22.000Z"
    assert document["attributes"]["city"] == {"value": "Bonn", "changed_at": "2024-04-27T14:35:22.000Z"}
    assert document["consents"]["ads"]["state"] == "denied"
    assert "neighbours" not in document


async def test_neighbours_are_shown_on_request_only():
    answer = NeighbourList(product_id="p1", visit_count=4, neighbour_ids=["p2"], scores=[0.5])
    async with world(views=FakeViews(profiles={"u1": new_profile("u1")}, answers={"u1": [answer]})) as w:
        _, document, _ = await w.get("/v1/users/u1?include=neighbours")
        wrong, problem, _ = await w.get("/v1/users/u1?include=everything")
    assert document["neighbours"] == [{"product_id": "p1", "visit_count": 4, "neighbours": [{"product_id": "p2", "score": 0.5}]}]
    assert conforms(document, "Profile")
    assert (wrong, problem["errors"][0]["field"]) == (400, "include")


async def test_recommendations_come_from_the_list_that_the_user_would_see_with_a_reason_in_words():
    entry = list_of(
        Recommendation(product_id="p2", score=0.9, reason=Reason(kind=ReasonKind.REASON_KIND_ALSO_VIEWED, because_of="p1")),
        Recommendation(product_id="p1", score=0.5, reason=Reason(kind=ReasonKind.REASON_KIND_SEEN_NOW, times_seen=3)),
    )
    async with world(views=FakeViews(entries={"u1": entry})) as w:
        status, document, _ = await w.get("/v1/users/u1/recommendations")
        _, limited, _ = await w.get("/v1/users/u1/recommendations?limit=1")
    assert status == 200
    assert conforms(document, "Recommendations")
    assert (document["version"], document["current_to"], document["caused_at"]) == (
        3,
        "2024-04-27T14:35:22.000Z",
        "2024-04-27T14:35:22.050Z",
    )
    assert [r["product_id"] for r in document["recommendations"]] == ["p2", "p1"]
    assert document["recommendations"][0]["reason"] == {
        "kind": "also_viewed",
        "because_of": "p1",
        "times_seen": 0,
        "text": "You viewed p1; others who did also viewed this.",
    }
    assert document["recommendations"][1]["reason"]["text"] == "You looked at this just now, 3 times in all."
    assert [r["product_id"] for r in limited["recommendations"]] == ["p2"]


async def test_a_user_whose_first_list_is_not_made_yet_has_version_0():
    async with world(views=FakeViews(profiles={"u1": new_profile("u1")})) as w:
        status, document, _ = await w.get("/v1/users/u1/recommendations")
    assert (status, document["version"], document["recommendations"]) == (200, 0, [])
    assert conforms(document, "Recommendations")


async def test_the_neighbours_of_an_item_stand_best_first():
    item = new_item("p1")
    apply_visit(
        item,
        Visit(
            source_offset=0,
            product_id="p1",
            occurred_at_ms=1_714_228_522_000,
            weight=1 << 20,
            neighbour_ids=("p2", "p3"),
            neighbour_weights=(5, 9),
        ),
    )
    async with world(views=FakeViews(items={"p1": item})) as w:
        status, document, _ = await w.get("/v1/items/p1/neighbours")
        _, limited, _ = await w.get("/v1/items/p1/neighbours?limit=1")
    assert status == 200
    assert conforms(document, "Neighbours")
    assert document["visit_count"] == 1
    assert [n["product_id"] for n in document["neighbours"]] == ["p3", "p2"]
    assert len(limited["neighbours"]) == 1


@pytest.mark.parametrize("path", ["/v1/users/nobody", "/v1/users/nobody/recommendations", "/v1/items/nothing/neighbours"])
async def test_what_is_unknown_gets_a_404_problem(path):
    async with world() as w:
        status, document, answer = await w.get(path)
    assert status == 404
    assert is_problem(answer, document)


@pytest.mark.parametrize("user_id", ["a/b", "a b", "ü€😀", "a%b", "%2F", "..", "a?b#c", "x" * 256])
async def test_any_user_id_can_be_asked_for_when_it_is_percent_encoded(user_id):
    encoded = "".join(f"%{byte:02X}" for byte in user_id.encode())
    views = FakeViews(profiles={user_id: new_profile(user_id)})
    async with world(views=views) as w, w.client.get(URL(f"{w.url}/v1/users/{encoded}", encoded=True)) as answer:
        document = await answer.json()
    assert answer.status == 200
    assert document["user_id"] == user_id


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/" + "x" * 257,
        "/v1/users/__tidings",
        "/v1/items/__tidings/neighbours",
        "/v1/items/" + "x" * 129 + "/neighbours",
        "/v1/users/u1/recommendations?limit=0",
        "/v1/users/u1/recommendations?limit=51",
        "/v1/users/u1/recommendations?limit=x",
        "/v1/users/u1/recommendations?limit=%C2%B2",
        "/v1/items/p/neighbours?limit=101",
    ],
)
async def test_a_wrong_parameter_gets_a_400_that_names_it(path):
    async with world() as w:
        status, document, answer = await w.get(path)
    assert status == 400
    assert is_problem(answer, document)
    assert document["errors"][0]["field"] in ("user_id", "product_id", "limit")


@pytest.mark.parametrize(
    "path",
    ["/v1/users/%FF%FE", "/v1/users/%00", "/v1/users/%zz", "/v1/users/", "/v1/users/%ED%A0%80", "/v2", "/v1/users/a/b/c", "//", "/%2e%2e"],
)
async def test_a_strange_path_gets_a_4xx_and_never_a_5xx(path):
    async with world() as w, w.client.get(URL(w.url + path, encoded=True)) as answer:
        assert 400 <= answer.status < 500
        assert answer.content_type == "application/problem+json"


async def test_a_wrong_method_gets_405_and_is_told_the_right_one():
    async with world() as w, w.client.delete(w.url + "/v1/events") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert is_problem(answer, await answer.json(content_type=None))


async def test_reading_needs_the_scope_read():
    async with world(token=INGEST) as w:
        assert (await w.get("/v1/users/u1"))[0] == 403
        assert (await w.get("/v1/users/u1/recommendations"))[0] == 403
        assert (await w.get("/v1/items/p1/neighbours"))[0] == 403


async def test_a_partition_that_is_moving_or_has_just_left_gets_503_with_retry_after():
    for views in (FakeViews(copy=None, location=Moving("a rebalance is under way")), FakeViews(left=True)):
        async with world(views=views) as w:
            status, document, answer = await w.get("/v1/users/u1")
            assert status == 503
            assert is_problem(answer, document)
            assert int(answer.headers["Retry-After"]) > 0


async def test_health_and_readiness_follow_the_status_of_the_worker():
    async with world() as w:
        assert (await w.get("/healthz"))[0] == 200
        w.views.state = WorkerStatus(
            ready=False,
            reason="recovering profiles/3",
            active_partitions=(1, 3),
            standby_partitions=(2,),
            lag={("tidings.events.v1", 3): 17},
            recovering=True,
        )
        status, document, _ = await w.get("/readyz")
        assert status == 503
        assert conforms(document, "Ready")
        assert document["lag"] == [{"topic": "tidings.events.v1", "partition": 3, "records": 17}]
        assert (await w.get("/healthz"))[0] == 200
        w.views.state = WorkerStatus(ready=False, reason="a produce error", alive=False)
        status, document, _ = await w.get("/healthz")
        assert status == 503
        assert conforms(document, "Alive")


async def test_metrics_are_served_with_each_route_by_its_template():
    async with world(views=FakeViews(profiles={"secret-user": new_profile("secret-user")})) as w:
        await w.get("/v1/users/secret-user")
        await w.get("/v1/users/nobody")
        await w.get("/nowhere/secret-user")
        await w.post(view())
        async with w.client.get(w.url + "/metrics") as answer:
            text = await answer.text()
    assert answer.content_type == "text/plain"
    assert 'tidings_read_seconds_count{route="/v1/users/{user_id}",status="200"}' in text
    assert 'tidings_read_seconds_count{route="unmatched",status="404"}' in text
    assert 'tidings_ingested_total{outcome="accepted"}' in text
    assert "secret-user" not in text


async def test_an_unexpected_error_is_a_500_problem_that_tells_nothing_of_the_inside():
    class Broken(FakeViews):
        def profile(self, user_id: str) -> Profile | None:
            raise RuntimeError("secret")

    async with world(views=Broken()) as w:
        status, document, answer = await w.get("/v1/users/u1")
    assert status == 500
    assert is_problem(answer, document)
    assert "secret" not in str(document)


def test_times_are_in_utc_with_milliseconds_and_never_is_none():
    assert iso_time(1_714_228_522_007) == "2024-04-27T14:35:22.007Z"
    assert iso_time(-1) == "1969-12-31T23:59:59.999Z"
    assert iso_time(0) is None
    assert (iso_time(-(2**63)), iso_time(2**63 - 1)) == ("0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")


def test_a_profile_with_nothing_in_it_can_be_shown():
    assert conforms(profile_json(Profile(user_id="u")), "Profile")
