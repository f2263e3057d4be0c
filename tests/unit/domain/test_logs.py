"""Event logs: every format gives the same rows, and what cannot be read is named by file, row and column."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest

from app.cli.logs import read_log
from app.domain.log_rows import ROW_KINDS, LogRow, event_of
from app.domain.validation import validate_event
from app.errors import MalformedLogError

T_MS = 1_590_884_413_000
ROWS = [
    LogRow(T_MS, "u1", "s1", "p1", "view"),
    LogRow(T_MS + 7_000, "u1", "s1", "p2", "add_to_cart"),
    LogRow(T_MS + 7_000, "u2", "s2", "p1", "purchase"),
]
CSV = "ts,user,session,item,event,price\n" + "".join(
    f"{row.ts_ms / 1000},{row.user},{row.session},{row.item},{row.event},1\n" for row in ROWS
)
JSONL = b"\n".join(orjson.dumps({"ts": row.ts_ms, **row._asdict(), "extra": [1]}) for row in ROWS) + b"\n\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", CSV.encode()),
        ("log.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("log.jsonl", JSONL),
        ("log.ndjson", JSONL),
        ("log.jsonl.gz", gzip.compress(JSONL, mtime=0)),
    ],
)
def test_text_logs_give_their_rows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    log = read_log(tmp_path / name)
    assert list(log) == log[:] == ROWS
    assert (len(log), log[-1], log.name) == (3, ROWS[-1], "log")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_with_a_timestamp_type_gives_its_rows(tmp_path, unit):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    times = [datetime.fromtimestamp(row.ts_ms / 1000, UTC).replace(tzinfo=None) for row in ROWS]
    table = pyarrow.table(
        {"ts": pyarrow.array(times, pyarrow.timestamp(unit)), **{c: [getattr(r, c) for r in ROWS] for c in LogRow._fields[1:]}}
    )
    parquet.write_table(table, tmp_path / "log.parquet")
    assert list(read_log(tmp_path / "log.parquet")) == ROWS


def test_parquet_with_numbers_for_times_and_ids_gives_text_ids(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"ts": [T_MS / 1000], "user": [7.0], "item": [12]}), tmp_path / "log.parquet")
    assert list(read_log(tmp_path / "log.parquet")) == [LogRow(T_MS, "7", "", "12", "view")]


@pytest.mark.parametrize(
    "ts",
    [
        str(T_MS),
        str(T_MS // 1000),
        f"{T_MS / 1000:.3f}",
        "2020-05-31T00:20:13Z",
        "2020-05-31 00:20:13",
        datetime.fromtimestamp(T_MS / 1000, timezone(timedelta(hours=2))).isoformat(),
    ],
)
def test_a_time_is_iso_or_seconds_or_milliseconds(tmp_path, ts):
    (tmp_path / "log.csv").write_text(f"ts,user,item\n{ts},u,i\n")
    assert read_log(tmp_path / "log.csv")[0].ts_ms == T_MS


def test_rows_are_sorted_by_time_and_rows_of_one_time_stay_in_order(tmp_path):
    (tmp_path / "log.csv").write_text(
        "ts,user,item\n" + "".join(f"{1_600_000_000 + at},u,{item}\n" for at, item in ((9, "c"), (1, "a"), (9, "d"), (1, "b")))
    )
    assert [row.item for row in read_log(tmp_path / "log.csv")] == ["a", "b", "c", "d"]
    assert [row.item for row in read_log(tmp_path / "log.csv", limit=3)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.txt", b"", "ends in .parquet"),
        ("log.parquet.gz", b"", "ends in .parquet"),
        ("log.parquet", b"PAR1 not really", "Parquet"),
        ("log.csv", b"", "lacks the column 'ts'"),
        ("log.csv", b"ts,user,item\n", "no rows"),
        ("log.csv", b"Time,user,item\n1,u,i\n", "lacks the column 'ts' (has 'Time', 'user', 'item')"),
        ("log.csv", b"ts,user,item\n1600000000,u,i\nyesterday,u,i\n", "line 3, column 'ts': 'yesterday' is neither"),
        ("log.csv", b"ts,user,item\n5,u,i\n", "line 2, column 'ts'"),
        ("log.csv", b"ts,user,item\nnan,u,i\n", "line 2, column 'ts'"),
        ("log.csv", b"ts,user,item\n1e400,u,i\n", "line 2, column 'ts'"),
        ("log.csv", b"ts,user,item\n1600000000,,i\n", "line 2, column 'user': is empty"),
        ("log.csv", b"ts,user,item\n1600000000,u\n", "line 2, column 'item': is empty"),
        ("log.csv", b"ts,user,item,event\n1600000000,u,i,wink\n", "line 2, column 'event': 'wink' is not one of view"),
        ("log.csv", b"ts,user,item\n1600000000,\xff,i\n", "not UTF-8"),
        ("log.csv", b"ts,user,item\n" + b"x" * 200_000 + b"\n", "line"),
        ("log.csv.gz", b"not packed", "cannot be read"),
        ("log.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-12], "cannot be read"),
        ("log.jsonl", b'{"ts":1600000000,"user":"u","item":"i"}\n{"ts":\n', "line 2: not JSON"),
        ("log.jsonl", b"[1]\n", "line 1: not a JSON object"),
        ("log.jsonl", b'{"ts":1600000000,"user":"u"}\n', "line 1: lacks 'item'"),
        ("log.jsonl", b'{"ts":null,"user":"u","item":"i"}\n', "line 1, column 'ts': is empty"),
        ("log.jsonl", b'{"ts":true,"user":"u","item":"i"}\n', "line 1, column 'ts': True is not a time"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MalformedLogError) as raised:
        read_log(tmp_path / name)
    assert said in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_every_row_kind_becomes_a_valid_event_with_an_id_of_its_row(kind):
    row = LogRow(T_MS, "u1", "s1", "p1", kind)
    event = event_of(row, 7, "clicks")
    assert validate_event(event, 0) is None
    assert (event.event_id, event.user_id, event.session_id, event.occurred_at_ms) == ("clicks-7", "u1", "s1", T_MS)
    assert event == event_of(row, 7, "clicks")


def test_a_log_gives_its_rows_as_events(tmp_path):
    (tmp_path / "log.csv").write_text(CSV)
    events = list(read_log(tmp_path / "log.csv").events())
    assert [e.event_id for e in events] == ["log-0", "log-1", "log-2"]
    assert [e.WhichOneof("payload") for e in events] == ["product_viewed", "added_to_cart", "order_placed"]
