"""A worker's life: it starts by either command, ends when told, comes back warm, and refuses state that contradicts the log."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from app.streams.publisher import Publisher
from tests.brokers.apache_kafka import ApacheKafka
from tests.e2e.fleet import READY_SECONDS, Fleet, fleet_on
from tests.e2e.processes import Worker, tail
from tests.e2e.waiting import until
from tidings.events.v1.event_pb2 import Event, ProductViewed

#: SIGTERM to the end, with nothing in the way.
QUICK_STOP_SECONDS = 15
REFUSE_SECONDS = 40


def views(first: int, count: int) -> list[Event]:
    """A hundred people look at twenty products in turn, a second apart."""
    return [
        Event(
            event_id=f"v{n}", user_id=f"u{n % 100}", occurred_at_ms=1_700_000_000_000 + n * 1000,
            product_viewed=ProductViewed(product_id=f"p{n % 20}"),
        )
        for n in range(first, first + count)
    ]


async def publish(fleet: Fleet, events: list[Event]) -> None:
    async with Publisher.of_events(fleet.settings) as publisher:
        await publisher.publish(events)


async def refusal_of(worker: Worker, *words: str) -> None:
    """It ends by itself, with an exit code that is not 0 and these words in its log, and applies nothing."""
    code = await worker.ended(REFUSE_SECONDS)
    said = tail(worker.log)
    assert code != 0, said
    assert "Traceback" not in said, said
    for word in words:
        assert word in said, said


async def test_sigterm_ends_a_worker_soon_and_with_exit_code_0(fleet: Fleet) -> None:
    (worker,) = await fleet.start("a")
    await publish(fleet, views(0, 500))
    await fleet.until_applied(100)  # in full work
    began = time.monotonic()
    assert await worker.terminate() == 0
    assert time.monotonic() - began < QUICK_STOP_SECONDS
    await worker.start()
    assert (await fleet.exact(500)).applied == 500


async def test_the_faust_command_runs_a_worker_too(fleet: Fleet) -> None:
    """``faust -A app.worker worker``, with the settings in the environment."""
    worker = fleet.new_worker("a", ["-m", "faust", "-A", "app.worker", "worker"], with_options=False)
    await worker.start()
    await fleet.shared_among(worker)
    await publish(fleet, views(0, 200))
    assert (await fleet.exact(200)).applied == 200
    assert await worker.terminate() == 0


async def test_a_worker_that_kept_its_data_reads_only_what_it_missed(fleet: Fleet) -> None:
    fleet = fleet
    first, second = fleet.new_worker("a"), fleet.new_worker("b")
    await first.start()
    await publish(fleet, views(0, 1000))
    await fleet.settled(1000)
    assert await first.terminate() == 0
    await second.start()
    await publish(fleet, views(1000, 10))
    await fleet.settled(1010)
    from_nothing = await second.metric("tidings_recovered_records_total")
    assert await second.terminate() == 0

    await first.start()
    await fleet.shared_among(first)
    warm = await first.metric("tidings_recovered_records_total")
    assert 0 < warm < from_nothing / 2, f"{warm} of {from_nothing} records read"
    assert (await fleet.exact(1010)).applied == 1010


async def test_a_killed_worker_reads_what_it_missed_and_where_its_disk_was_damaged_all(fleet: Fleet) -> None:
    (worker,) = await fleet.start("a")
    await publish(fleet, views(0, 2000))
    await fleet.settled(2000)
    await worker.kill_for_good()
    (profiles, other, *_), (outbox, *_) = _copies(worker, "profiles"), _copies(worker, "outbox")
    for file in profiles.glob("*.log"):
        file.unlink()
    (other / "CURRENT").write_text("noise")
    next(outbox.glob("MANIFEST-*")).write_bytes(b"")
    await worker.start()
    await publish(fleet, views(2000, 500))
    assert (await fleet.exact(2500)).applied == 2500

    thrown_away = [line for line in worker.log.read_text().splitlines() if "is thrown away and made again from its changelog" in line]
    assert all(any(str(copy) in line for line in thrown_away) for copy in (other, outbox)), tail(worker.log)
    assert await worker.metric("tidings_recovered_records_total", table="items") <= 2 * fleet.settings.kafka.partitions, "markers"
    for table in ("profiles", "outbox"):
        assert await worker.metric("tidings_recovered_records_total", table=table) > 20


def _copies(worker: Worker, table: str) -> list[Path]:
    """What it has of a table's partitions on disk."""
    return sorted(worker.data_dir.rglob(f"{table}-*.db"))


@pytest.mark.parametrize("table", ["profiles", "items"])
async def test_a_changelog_that_lost_its_records_is_refused(fleet: Fleet, table: str) -> None:
    """The events are committed, the table that they made is gone: going on would lose all of them in silence."""
    worker = await _with_a_changelog_deleted(fleet, table)
    shutil.rmtree(worker.data_dir)
    committed = await fleet.applied()
    await worker.start()
    await refusal_of(worker, f"table {table}", "lost records")
    assert await fleet.applied() == committed


async def test_a_data_directory_ahead_of_its_changelog_is_refused(fleet: Fleet) -> None:
    worker = await _with_a_changelog_deleted(fleet, "items")
    await worker.start()
    await refusal_of(worker, fleet.names.changelogs["items"], str(worker.data_dir))


@pytest.mark.kafka
async def test_the_data_directory_of_another_cluster_is_made_again(
    apache_kafka: ApacheKafka, own_apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """A deployment that was set up anew, but for a worker's volume. Its offsets exist here too, and mean other records."""
    same = {"application_id": f"e2e-{secrets.token_hex(4)}", "topic_prefix": "e2e-same"}
    async with fleet_on(own_apache_kafka.bootstrap_servers, tmp_path / "before", kafka=same) as before:
        (old,) = await before.start("a")
        await publish(before, views(0, 50))
        await before.settled(50)
        assert await old.terminate() == 0
    async with fleet_on(apache_kafka.bootstrap_servers, tmp_path / "now", kafka=same) as now:
        (worker,) = await now.start("a")
        await publish(now, views(5000, 1000))
        await now.settled(1000)
        assert await worker.terminate() == 0
        shutil.rmtree(worker.data_dir)
        shutil.copytree(old.data_dir, worker.data_dir)
        await worker.start()
        await now.shared_among(worker)
        await publish(now, views(6000, 100))
        assert (await now.exact(1100)).applied == 1100
        assert "another cluster's" in worker.log.read_text()


async def _with_a_changelog_deleted(fleet: Fleet, table: str) -> Worker:
    """A worker that has worked and was stopped, and one of its changelogs deleted since."""
    (worker,) = await fleet.start("a")
    await publish(fleet, views(0, 500))
    await fleet.settled(500)
    assert await worker.terminate() == 0
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        topic = fleet.names.changelogs[table]
        await admin.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await admin.list_topics()

        await until(is_gone, READY_SECONDS, f"{topic} deleted")
    finally:
        await admin.close()
    return worker


async def test_whichever_worker_is_asked_answers_for_every_user_and_product(fleet: Fleet) -> None:
    fleet = fleet
    workers = await fleet.start("a", "b")
    await publish(fleet, views(0, 1000))
    await fleet.settled(1000)
    paths = [f"/v1/users/u{n}" for n in range(100)] + [f"/v1/users/u{n}/recommendations" for n in range(100)]
    paths += [f"/v1/items/p{n}/neighbours" for n in range(20)]
    for path in paths:
        (status, answer), (other_status, other_answer) = [await worker.get(path) for worker in workers]
        assert (status, other_status) == (200, 200), f"{path}: {answer} and {other_answer}"
        assert answer == other_answer
    assert [(await worker.get("/v1/users/nobody"))[0] for worker in workers] == [404, 404]
    profile = (await workers[0].get("/v1/users/u7"))[1]
    assert (profile["user_id"], profile["event_count"]) == ("u7", 10)
    read = [await worker.metric("tidings_read_seconds_count", route="/v1/users/{user_id}", status="200") for worker in workers]
    assert all(count > 100 for count in read), "each was asked for all, and by the other for its own"
