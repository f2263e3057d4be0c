"""The benchmark runs, finds every result right, and writes what it says it writes. How fast anything is, is not tested."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import ranking
from tests.bench.broker import create_topic, fill
from tests.bench.harness import BenchError, Cores, Harness, Measured
from tests.bench.proto.bench_pb2 import UserState
from tests.bench.protocol import Assignment, Report, read_state, write_state
from tests.bench.results import Key, Ratio, Results
from tests.bench.schedule import Schedule
from tests.bench.sizes import Sizes
from tests.bench.systems import PEERS, SYSTEMS, Kept, System
from tests.bench.workload import BareEvents, Record, ShopEvents, positions_of
from tests.brokers.apache_kafka import ROOT, ApacheKafka

#: All but those that take minutes, however little they measure: latency, stages, the catalog, growth, two workers, the recovery of peers.
_JOBS = "state_per_user,profile_fold,full_path,deliveries,ranking"


@pytest.mark.kafka
def test_a_quick_run_measures_what_is_asked_and_writes_it_down(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--systems", "tidings,naive_faust", "--jobs", _JOBS, "--output", str(output)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = json.loads(output.read_text())
    assert output.with_suffix(".png").stat().st_size > 10_000
    assert (written["failed"], written["not_begun"]) == ({}, [])
    runs = {(run["job"], run["users"], run["system"]): run for run in written["runs"]}
    assert set(runs) == {
        ("state_per_user", 200, "tidings"), ("state_per_user", 200, "naive_faust"), ("state_per_user", 2_000, "tidings"),
        ("state_per_user", 2_000, "naive_faust"), ("profile_fold", 200, "tidings"), ("full_path", 200, "tidings"),
    }
    assert all(run["events_per_second"] > 0 and run["cpu_us_per_event"] > 0 for run in runs.values())
    deliveries = written["deliveries"]
    assert deliveries["ratios"][0] > 0
    assert deliveries["healthy_p99_moved"] == deliveries["recovered_seconds"] == []
    ranked = written["ranking"]
    assert ranked is None or (ranked["ratio"] > 0 and ranked["products_in_common"] > 0.9)
    ours = {(job, users) for job, users, system in runs if system == "tidings"}
    assert {(ratio["job"], ratio["users"]) for ratio in written["ratios"]} == ours


@pytest.mark.skipif(bool(ranking.why_not()), reason="the reference and its log are not beside the checkout")
def test_the_ranking_and_the_reference_give_nearly_the_same_lists() -> None:
    run = ranking.measure_ranking(ranking.RankingPlan(learn_events=10_000, queries=300, rounds=1))
    assert run.queries == 300
    assert run.products_in_common > 0.99
    assert min(run.ours_us, run.in_python_us, run.reference_us) > 0


def test_the_generated_code_of_the_benchmarks_messages_is_fresh(tmp_path: Path) -> None:
    proto = "tests/bench/proto/bench.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", proto]
    subprocess.run(command, cwd=ROOT, check=True)
    names = ["bench_pb2.py", "bench_pb2.pyi"]
    assert filecmp.cmpfiles(tmp_path / "tests/bench/proto", ROOT / "tests/bench/proto", names, shallow=False)[0] == names


@pytest.mark.parametrize("workload", [BareEvents(20, 300, 4), ShopEvents(20, 300, 4)], ids=["bare", "shop"])
def test_the_same_events_come_every_time_and_the_fold_counts_each_once(workload: BareEvents | ShopEvents) -> None:
    records = list(workload.records())
    assert records == list(workload.records())
    assert workload.expected(positions_of(records)).events == 300


def test_the_fold_stops_where_the_system_stopped() -> None:
    workload = BareEvents(20, 300, 4)
    ends = positions_of(workload.records())
    fewer = ends | {0: ends[0] - 1}
    assert workload.expected(fewer).events == 299
    assert workload.expected(fewer).checksum != workload.expected(ends).checksum


@pytest.mark.kafka
@pytest.mark.parametrize("name", [peer.name for peer in PEERS])
async def test_every_peer_comes_to_the_same_state(name: str, apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    system, workload = SYSTEMS[name], BareEvents(200, 2_000, 4)
    if reason := system.why_not():
        pytest.skip(reason)
    harness = Harness(apache_kafka.bootstrap_servers, Cores(frozenset(), frozenset(), False), tmp_path)
    topic = f"bench-events-of-{name}"
    await harness.prepare(topic, workload)
    measured = await harness.run_bare(system, "state_per_user", topic, workload, workload.users)
    assert measured.events == 2_000


@pytest.mark.kafka
async def test_a_state_that_counts_an_event_twice_is_refused(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    workload = BareEvents(1, 10, 4)
    partition, key, _ = next(workload.records())
    wrong = UserState(count=11, last_occurred_at_ms=1, score=1.0).SerializeToString()
    await create_topic(apache_kafka.bootstrap_servers, "bench-wrong-state", 4)
    await fill(apache_kafka.bootstrap_servers, "bench-wrong-state", [Record(partition, key, wrong)])
    harness = Harness(apache_kafka.bootstrap_servers, Cores(frozenset(), frozenset(), False), tmp_path)
    with pytest.raises(BenchError, match="the plain fold gives"):
        await harness.check("bench-wrong-state", "any", workload, 10, Report(10, 1.0, 1.0, 1, {str(partition): 10}))


async def test_a_system_that_ends_without_a_result_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    harness = Harness("127.0.0.1:1", Cores(frozenset(), frozenset(), False), tmp_path)
    command = (sys.executable, "-c", "import sys; sys.exit('the topic is gone')")
    with pytest.raises(BenchError, match=r"code 1[\s\S]*the topic is gone"):
        await harness.run(command, Assignment("run", "state_per_user", "127.0.0.1:1", "topic", 4, 10, str(tmp_path / "run")))


def test_a_run_is_held_against_those_right_before_and_after_it_with_as_many_users() -> None:
    results = Results(Cores(frozenset(), frozenset(), False))
    sequence = [
        (5, "naive_faust", 8.0), (5, "tidings", 100.0), (5, "naive_faust", 12.0), (9, "naive_faust", 1.0), (5, "naive_faust", 50.0),
        (5, "tidings", 300.0),
    ]
    results.runs += [Measured("state_per_user", users, system, 100, rate, 1.0, 1, {}) for users, system, rate in sequence]
    (ratio,) = results.ratios()
    assert (ratio.one.users, ratio.other.users, ratio.pairs) == (5, 5, [10.0, 6.0])


def test_a_run_is_not_held_against_one_that_was_made_at_another_time() -> None:
    results = Results(Cores(frozenset(), frozenset(), False))
    sequence = [("bytewax", 25.0), ("tidings", 100.0), ("pathway", 50.0), ("tidings", 150.0)]
    results.runs += [Measured("state_per_user", 10_000, system, 100, rate, 1.0, 1, {}) for system, rate in sequence]
    found = {ratio.other.system: (ratio.pairs, ratio.at_least) for ratio in results.ratios()}
    assert found == {"bytewax": ([4.0], 2.5), "pathway": ([2.0, 3.0], 1.8)}


@pytest.mark.parametrize(
    ("job", "users", "system", "at_least"),
    [("state_per_user", 10_000, "naive_faust", 60), ("full_path", 10_000, "naive_faust", 8), ("state_per_user", 5, "naive_faust", None)],
)
def test_a_bar_is_of_its_job_its_users_and_the_other_system(job: str, users: int, system: str, at_least: float | None) -> None:
    assert Ratio(Key(job, users, "tidings"), Key("state_per_user", users, system), [1.0]).at_least == at_least


def test_the_systems_are_those_that_are_promised() -> None:
    assert list(SYSTEMS) == [
        "tidings", "naive_faust", "bare_aiokafka", "bare_confluent_rocksdb", "quix_streams_at_least_once", "quix_streams_exactly_once",
        "bytewax", "pathway", "kafka_streams_at_least_once", "kafka_streams_at_least_once_cached", "kafka_streams_exactly_once",
    ]


def _schedule(tmp_path: Path, names: list[str], jobs: list[str], rounds: int, extra: tuple[System, ...] = ()) -> Schedule:
    harness = Harness("127.0.0.1:1", Cores(frozenset(), frozenset(), False), tmp_path)
    chosen = [*(replace(SYSTEMS[name], why_not=str) for name in names), *extra]
    results, sizes = Results(harness.cores), Sizes(bare=((10_000, 20), (1_000_000, 20)))
    return Schedule(harness, sizes, results, jobs=jobs, rounds=rounds, systems=chosen, say=print)


def test_a_round_has_a_run_of_ours_on_both_sides_of_every_peer_and_leaves_out_what_cannot_run(tmp_path: Path) -> None:
    cannot = System("absent", (), frozenset({"state_per_user"}), why_not=lambda: "it is not installed")
    names = ["tidings", "naive_faust", "bare_aiokafka", "quix_streams_at_least_once"]
    schedule = _schedule(tmp_path, names, ["state_per_user"], 1, (cannot,))
    assert [step.what.split(", ")[1:] for step in schedule.steps()] == [
        *(["10,000 users", name] for name in (
            "naive_faust", "tidings", "bare_aiokafka", "tidings", "quix_streams_at_least_once", "tidings", "naive_faust",
        )),
        # Only those for which a bar is set.
        *(["1,000,000 users", name] for name in ("naive_faust", "tidings", "quix_streams_at_least_once", "tidings", "naive_faust")),
    ]  # fmt: skip
    assert schedule._results.left_out == {"absent": "it is not installed"}


def test_a_further_round_is_for_those_systems_alone_that_a_bar_is_set_for(tmp_path: Path) -> None:
    names = ["tidings", "naive_faust", "kafka_streams_at_least_once", "bytewax"]
    said = [step.what for step in _schedule(tmp_path, names, ["state_per_user"], 2).steps()]
    assert "round 1: state_per_user, 10,000 users, kafka_streams_at_least_once" in said
    assert [what.rpartition(" ")[2] for what in said if what.startswith("round 2")] == [
        "naive_faust", "tidings", "bytewax", "tidings", "naive_faust",
    ]  # fmt: skip


def test_our_own_jobs_have_naive_fausts_bare_one_on_both_sides_and_further_rounds_come_after_what_is_measured_once(tmp_path: Path) -> None:
    jobs = ["state_per_user", "profile_fold", "full_path", "growth", "latency", "two_workers", "stages"]
    said = [step.what for step in _schedule(tmp_path, ["tidings", "naive_faust"], jobs, 2).steps()]
    bare = "state_per_user, 10,000 users"
    first = [
        f"round 1: {bare}, naive_faust", f"round 1: {bare}, tidings", f"round 1: {bare}, naive_faust",
        "round 1: profile_fold, 10,000 users", f"round 1: {bare}, naive_faust",
        "round 1: full_path, 10,000 users", f"round 1: {bare}, naive_faust",
        "latency", "two workers against one", "growth: cost per event by users",
    ]  # fmt: skip
    assert said[: len(first)] == first
    assert said[len(first)].startswith("round 1: state_per_user, 1,000,000 users")
    assert said.index("round 2: full_path, 10,000 users") < said.index("stage decode, turn 1")


def test_a_state_that_was_written_to_a_file_is_read_back(tmp_path: Path) -> None:
    state = {b"": b"empty key", b"user-1": b"", b"user-2": b"\x00" * 300}
    write_state(str(tmp_path / "state"), state.items())
    assert read_state(tmp_path / "state") == state


@pytest.mark.kafka
async def test_a_system_that_keeps_nothing_must_have_seen_every_event(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    workload = BareEvents(5, 10, 4)
    harness = Harness(apache_kafka.bootstrap_servers, Cores(frozenset(), frozenset(), False), tmp_path)
    await harness.prepare("bench-unseen", workload)
    blind = "print('RESULT {\"events\": 10, \"seconds\": 1, \"cpu_seconds\": 1, \"peak_rss_bytes\": 1, \"positions\": {}}')"
    system = System("blind", (sys.executable, "-c", blind), frozenset({"state_per_user"}), Kept.NOTHING)
    with pytest.raises(BenchError, match="saw 10 of 10 events, their times sum up to None"):
        await harness.run_bare(system, "state_per_user", "bench-unseen", workload, 5)
