"""`tidings catalog load` puts every good row of a feed on the products topic, names each bad one, and does no harm when run again."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from app.cli.topic_reader import read_topic
from app.streams.topics import TopicNames
from tidings.products.v1.product_pb2 import Product

from .conftest import Installation

#: id, title, price, availability: two of the rows are wrong.
ROWS = [
    ("shoe", "Trail shoe", "299.99 EUR", "in stock"),
    ("boot", "Winter boot", "12 apples", "in stock"),
    ("sock", "Wool sock", "9.50 EUR", "out of stock"),
    ("", "Nameless", "1 EUR", "in stock"),
    ("hat", "Straw hat", "0.1 EUR", "preorder"),
]
GOOD = {"shoe": (29_999, True), "sock": (950, False), "hat": (10, True)}


def as_csv(delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["id", "title", "price", "availability"])
    writer.writerows(ROWS)
    return text.getvalue()


def as_jsonl() -> str:
    return "".join(json.dumps(dict(zip(("id", "title", "price", "availability"), row, strict=True))) + "\n" for row in ROWS)


def as_rss() -> str:
    items = "".join(
        f"<item>\n<g:id>{i}</g:id><title>{t}</title>\n<g:price>{p}</g:price><g:availability>{a}</g:availability></item>\n"
        for i, t, p, a in ROWS
    )
    return f'<?xml version="1.0"?>\n<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel>\n{items}</channel></rss>'


FORMS: dict[str, tuple[str, Callable[[], str], list[int]]] = {
    "csv": ("feed.csv", as_csv, [3, 5]),
    "csv with semicolons": ("feed.CSV", lambda: as_csv(";"), [3, 5]),
    "tsv": ("feed.tsv", lambda: as_csv("\t"), [3, 5]),
    "jsonl": ("feed.jsonl", as_jsonl, [2, 4]),
    "xml": ("feed.xml", as_rss, [6, 12]),
}


def listed(installation: Installation) -> dict[str, Product]:
    """What a plain reading of the topic leaves of whole products, changes aside."""

    async def read() -> dict[str, Product]:
        found: dict[str, Product] = {}
        kafka = installation.settings.kafka
        async with aclosing(read_topic(kafka, TopicNames.of(kafka).products)) as records:
            async for record in records:
                if record.value is None:
                    found.pop(record.key.decode(), None)
                elif b"\x1f" not in record.key:
                    product = Product.FromString(record.value)
                    assert record.key == product.product_id.encode()
                    found[product.product_id] = product
        return found

    return asyncio.run(read())


def changes(installation: Installation) -> list[tuple[bytes, Product, int]]:
    async def read() -> list[tuple[bytes, Product, int]]:
        kafka = installation.settings.kafka
        async with aclosing(read_topic(kafka, TopicNames.of(kafka).products)) as records:
            return [(r.key, Product.FromString(r.value), r.partition) async for r in records if b"\x1f" in r.key]

    return asyncio.run(read())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzipped"])
def test_each_format_leads_to_the_same_products_and_names_the_same_bad_rows(
    installation: Installation, tmp_path: Path, form: str, is_packed: bool
) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    name, text, lines = FORMS[form]
    file = tmp_path / (name + ".gz" * is_packed)
    file.write_bytes(gzip.compress(text().encode()) if is_packed else text().encode())
    report = tmp_path / "bad.jsonl"
    result = installation.tidings("catalog", "load", str(file), "--json", "--report", str(report))
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert (document["rows"], document["written"], document["bad"]) == (5, 3, 2)
    bad = [json.loads(line) for line in report.read_text().splitlines()]
    assert bad == document["errors"]
    assert [(row["line"], row["product_id"]) for row in bad] == list(zip(lines, ["boot", ""], strict=True))
    assert [row["field"] for row in bad] in (["price", "product_id"], ["price", "id"])
    assert all(row["field"] in row["reason"] for row in bad)
    assert {i: (p.price.minor_units, p.in_stock) for i, p in listed(installation).items()} == GOOD


def test_a_second_run_changes_nothing_and_a_good_file_ends_with_zero(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    file = tmp_path / "feed.jsonl"
    file.write_text("".join(json.dumps({"id": f"p{n}", "title": f"Product {n}", "price": n}) + "\n" for n in range(3_000)))
    for _ in range(2):
        result = installation.tidings("catalog", "load", str(file))
        assert result.exit_code == 0, result.output
        assert "3,000 products written" in result.stdout
        found = listed(installation)
        assert {i: p.price.minor_units for i, p in found.items()} == {f"p{n}": n * 100 for n in range(3_000)}


def test_bad_rows_are_told_and_the_rest_counted(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    file = tmp_path / "feed.csv"
    file.write_text("id,price,colour\n" + "".join(f"p{n},cheap,red\n" for n in range(30)) + "good,1,red\n")
    result = installation.tidings("catalog", "load", str(file))
    assert result.exit_code == 1
    assert "line 2, product p0: price must be" in result.output
    assert "line 21, product p19:" in result.output
    assert "line 22" not in result.output
    assert "10 more bad rows" in result.output
    assert "kept as attributes: colour" in result.output
    assert set(listed(installation)) == {"good"}


def test_a_delta_changes_the_fields_of_its_columns_on_the_partition_of_the_id(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    whole, prices = tmp_path / "whole.csv", tmp_path / "prices.csv"
    whole.write_text("id,title,price\n" + "".join(f"p{n},Product {n},{n}\n" for n in range(50)))
    prices.write_text("id,price,in_stock\n" + "".join(f"p{n},{n + 1},{'yes' if n % 2 else ''}\n" for n in range(50)))
    assert installation.tidings("catalog", "load", str(whole)).exit_code == 0
    result = installation.tidings("catalog", "load", str(prices), "--delta")
    assert result.exit_code == 0, result.output
    found = {product.product_id: (key, product) for key, product, _ in changes(installation)}
    assert len(found) == 50
    assert found["p1"][0] == b"p1\x1fin_stock,price"
    assert found["p2"][0] == b"p2\x1fprice"
    assert found["p2"][1].price.minor_units == 300
    assert listed(installation)["p2"].price.minor_units == 200


def test_replace_takes_away_what_the_feed_does_not_name_and_nothing_else(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("id,title\n" + "".join(f"p{n},Product {n}\n" for n in range(100)))
    # What is wrong with p99 keeps it as it is: the shop has it still.
    second.write_text("id,title,price\n" + "".join(f"p{n},New {n},1\n" for n in range(50, 99)) + "p99,x,cheap\nq,New,1\n")
    assert installation.tidings("catalog", "load", str(first)).exit_code == 0
    result = installation.tidings("catalog", "load", str(second), "--replace", "--json")
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["deleted"] == 50
    found = listed(installation)
    assert set(found) == {f"p{n}" for n in range(50, 100)} | {"q"}
    assert (found["p50"].title, found["p99"].title) == ("New 50", "Product 99")
    assert json.loads(installation.tidings("catalog", "load", str(second), "--replace", "--json").stdout)["deleted"] == 0


def test_show_prints_what_the_topic_says_after_every_change(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    whole, prices = tmp_path / "whole.jsonl", tmp_path / "prices.csv"
    products = [{"id": f"p{n}", "title": f"Product {n}", "price": "5 EUR", "brand": "Acme"} for n in range(9)]
    whole.write_text("\n".join(map(json.dumps, products)))
    prices.write_text("id,price,in_stock\np3,4 EUR,no\n")
    assert installation.tidings("catalog", "load", str(whole)).exit_code == 0
    assert installation.tidings("catalog", "load", str(prices), "--delta").exit_code == 0
    shown = json.loads(installation.tidings("catalog", "show", "p3").stdout)
    assert (shown["product"]["title"], shown["product"]["brand"], shown["product"]["in_stock"]) == ("Product 3", "Acme", False)
    assert [entry["price"]["minor_units"] for entry in shown["prices"]] == [500, 400]
    unknown = installation.tidings("catalog", "show", "p9")
    assert unknown.exit_code == 1
    assert "'p9'" in unknown.output


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("feed.csv", "id,title\np1,x\n,nameless\n", "cannot be told"),
        ("feed.csv", "id,price\np1,cheap\n", "no good row"),
        ("feed.xml", "<rss><channel><item><id>p1</id></item><item>", "read to its end"),
        ("feed.csv", "id,title\nq,New\n", "2 of the 2 products there were: say --yes"),
    ],
)
def test_a_feed_that_may_be_incomplete_takes_nothing_away(
    installation: Installation, tmp_path: Path, name: str, text: str, why: str
) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    first, second = tmp_path / "first.csv", tmp_path / name
    first.write_text("id,title\np1,One\np2,Two\n")
    assert installation.tidings("catalog", "load", str(first)).exit_code == 0
    second.write_text(text)
    result = installation.tidings("catalog", "load", str(second), "--replace")
    assert result.exit_code == 1
    assert "nothing was taken away" in result.output
    assert why in result.output
    assert set(listed(installation)) >= {"p1", "p2"}


def test_most_products_are_taken_away_only_if_that_is_said_to_be_meant(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("id,title\n" + "".join(f"p{n},Product {n}\n" for n in range(10)))
    second.write_text("id,title\np1,New\n")
    assert installation.tidings("catalog", "load", str(first), "--replace").exit_code == 0
    assert installation.tidings("catalog", "load", str(second), "--replace").exit_code == 1
    assert len(listed(installation)) == 10
    assert installation.tidings("catalog", "load", str(second), "--replace", "--yes").exit_code == 0
    assert set(listed(installation)) == {"p1"}


def test_what_came_before_a_feed_broke_off_is_written(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    file = tmp_path / "feed.xml"
    file.write_text("<rss><channel>\n<item><id>p1</id></item>\n<item><id>p2</id></item>\n<item><id>p3</oops>")
    result = installation.tidings("catalog", "load", str(file))
    assert result.exit_code == 1
    assert "line 4: mismatched tag" in result.output
    assert "2 products written" in result.output
    assert set(listed(installation)) == {"p1", "p2"}


@pytest.mark.parametrize("name", ["noise.csv", "noise.tsv", "noise.jsonl", "noise.xml", "noise.csv.gz"])
@pytest.mark.parametrize("kind", ["bytes", "letters"])
def test_a_megabyte_of_noise_is_refused_in_words(installation: Installation, tmp_path: Path, name: str, kind: str) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    noise = random.Random(3).randbytes(1_000_000)
    file = tmp_path / name
    file.write_bytes(noise if kind == "bytes" else noise.hex()[:1_000_000].encode())
    result = installation.tidings("catalog", "load", str(file))
    assert result.exit_code == 1
    assert "noise" in result.output or "line 1:" in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
    assert len(result.output) < 3_000
    assert listed(installation) == {}


def test_ctrl_c_ends_it_with_what_was_written(installation: Installation, tmp_path: Path) -> None:
    assert installation.tidings("topics", "create").exit_code == 0
    file = tmp_path / "feed.csv"
    with file.open("w") as out:
        out.write("id,title\n")
        out.writelines(f"p{n},Product {n}\n" for n in range(600_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "catalog", "load", str(file), "--json"],
        env={**os.environ, **installation.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not listed(installation) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert 0 < json.loads(printed)["written"] < 600_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["feed.csv", "--delta", "--replace"], "--replace"),
        (["feed.dat"], "--format"),
        (["feed.csv"], "127.0.0.1:1"),
    ],
)
def test_wrong_usage_and_a_broker_that_is_not_there_are_told_in_a_message(
    installation: Installation, tmp_path: Path, arguments: list[str], says: str
) -> None:
    for name in ("feed.csv", "feed.dat"):
        (tmp_path / name).write_text("id\np1\n")
    file, *options = arguments
    result = installation.tidings("catalog", "load", str(tmp_path / file), *options, "--broker", "127.0.0.1:1")
    assert result.exit_code in (1, 2)
    assert says in result.output
    assert "Traceback" not in result.output
