"""``tidings catalog``: the shop's products, from a feed to the products topic."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.cli.feeds import ENDINGS, BadRow, Feed, Format, GoodRow
from app.cli.output import print_json, printable
from app.cli.settings_option import settings_options
from app.cli.topic_reader import read_topic
from app.domain.catalog import CatalogProduct
from app.domain.catalog_fold import catalog_product, fold_product, new_entry
from app.domain.product_validation import KEY_SEPARATOR, decode_product, product_id_of
from app.errors import BrokerError, CommandError
from app.settings import Settings
from app.streams.product_records import deletion_of, record_of
from app.streams.publisher import Publisher, Record, partition_of
from app.streams.topics import TopicNames
from app.web.products import product_json
from tidings.products.v1.product_pb2 import Product

EPILOG = """
\b
Examples:
  tidings catalog load products.csv
  tidings catalog load feed.xml.gz --replace         what is not in the feed is taken away
  tidings catalog load prices.csv --delta            id, price, in_stock: the other fields stay
  tidings catalog load products.jsonl --report bad.jsonl
  tidings catalog show 987
"""

LOAD_EPILOG = """
\b
Formats, by the ending of the name or --format; .gz may follow:
  csv, tsv   the first line names the columns; Google Merchant's TSV is one
  jsonl      one product per line, in the JSON form of PUT /v1/products
  xml        Google Merchant, RSS 2.0 or Atom

\b
Columns:
  id, title, link, image_link, brand, price ("299.99 EUR"), list_price, currency, availability or in_stock,
  product_type or category (levels parted by >, several by |), published_at, expiration_date, updated_at.
  With a sale_price, that is the price, and price the list price. Any other column is kept as an attribute
  (several values by |); descriptions, further images and shipping are left out.

\b
Examples:
  tidings catalog load products.csv
  tidings catalog load feed.xml.gz --replace
  tidings catalog load prices.csv --delta

A row that is wrong does not stop the others. Exit code 0: every row was written; 1: some were not. To load a feed again does no harm.
"""

#: Bad rows told on the terminal and in the summary; --report has all.
_MAX_SHOWN = 20


@click.group(epilog=EPILOG)
def catalog() -> None:
    """Load the shop's products, and show what is known of one."""


@dataclass
class Tally:
    """How far a load has come; kept apart so that it can be told after Ctrl-C and after a feed that breaks off."""

    rows: int = 0
    bad: int = 0
    written: int = 0
    deleted: int = 0
    first_bad: list[BadRow] = field(default_factory=list)
    #: Rows whose product cannot be told, so that a product which is not among the others may be among them.
    nameless: int = 0
    #: Why the feed could not be read to its end.
    broken: str = ""
    #: Why nothing was taken away although that was asked for.
    kept_all: str = ""

    @property
    def is_whole(self) -> bool:
        return not (self.bad or self.broken or self.kept_all)


@catalog.command(epilog=LOAD_EPILOG)
@settings_options
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--format", "format_", type=click.Choice(sorted(set(ENDINGS.values()))), help="If the name does not tell it.")
@click.option("--delta", is_flag=True, help="Rows say some fields of a product; the others stay as they are.")
@click.option("--replace", is_flag=True, help="Take away the products that the feed does not name.")
@click.option("--yes", is_flag=True, help="With --replace: also if more than half of the products go.")
@click.option("--report", "report_file", type=click.Path(path_type=Path, dir_okay=False), help="Write each bad row there, as JSON Lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def load(
    settings: Settings, file: Path, format_: Format | None, delta: bool, replace: bool, yes: bool, report_file: Path | None, as_json: bool
) -> None:
    """Write the products of a feed to Kafka. Ctrl-C stops it cleanly and says how far it came."""
    if delta and replace:
        raise click.UsageError("--replace needs whole products: it does not go with --delta")
    feed = Feed(file, format_, time.time_ns() // 1_000_000, is_change=delta)
    tally, began, interrupted = Tally(), time.monotonic(), False
    report = _opened(report_file)
    try:
        with _Progress(Console(stderr=True), feed, tally) as advance, _rare_collections():
            asyncio.run(_load(settings, feed, tally, report, advance, replace=replace, yes=yes))
    except KeyboardInterrupt:
        interrupted = True
    except BrokerError as exc:
        raise BrokerError(f"{exc} ({tally.written:,} products were written)") from exc
    finally:
        if report is not None:
            report.close()
    _tell(feed, tally, time.monotonic() - began, report_file, as_json)
    raise SystemExit(130 if interrupted else 0 if tally.is_whole else 1)


async def _load(
    settings: Settings, feed: Feed, tally: Tally, report: TextIO | None, advance: Callable[[], None], *, replace: bool, yes: bool
) -> None:
    def acknowledged(count: int) -> None:
        tally.written += count
        advance()

    def deleted(count: int) -> None:
        tally.deleted += count

    async with Publisher.of_products(settings) as publisher:
        # Before the first is written: what is added meanwhile by others is not taken away.
        surplus = await _listed_ids(settings) if replace else set()
        listed = len(surplus)
        await publisher.publish_all(_records(feed, tally, surplus, report, publisher.partitions), acknowledged=acknowledged)
        if replace:
            tally.kept_all = _why_not_replaced(tally, len(surplus), listed, yes)
        if replace and not tally.kept_all:
            await publisher.publish_all((deletion_of(name, publisher.partitions) for name in sorted(surplus)), acknowledged=deleted)


def _records(feed: Feed, tally: Tally, surplus: set[str], report: TextIO | None, partitions: int) -> Iterator[Record]:
    """The good rows; what they, and the bad ones, name is no surplus."""
    try:
        for row in feed:
            tally.rows += 1
            match row:
                case GoodRow(product=product):
                    surplus.discard(product.product_id)
                    yield record_of(product, partitions)
                case BadRow():
                    tally.bad += 1
                    tally.nameless += not row.product_id
                    surplus.discard(row.product_id)
                    if len(tally.first_bad) < _MAX_SHOWN:
                        tally.first_bad.append(row)
                    if report is not None:
                        report.write(orjson.dumps(_bad_row_json(row)).decode() + "\n")
    except CommandError as exc:
        if not tally.rows:
            raise
        tally.broken = str(exc)  # what came before it is good, and is written


def _why_not_replaced(tally: Tally, surplus: int, listed: int, yes: bool) -> str:
    """A feed that may be incomplete, or is likely to be, takes nothing away; "" if it is none."""
    if tally.broken:
        return "the feed could not be read to its end"
    if tally.nameless:
        return f"the product of {tally.nameless:,} bad row(s) cannot be told"
    if not tally.written:
        return "the feed has no good row"
    if surplus * 2 > listed and not yes:
        return f"that would be {surplus:,} of the {listed:,} products there were: say --yes if it is meant"
    return ""


async def _listed_ids(settings: Settings) -> set[str]:
    """The products that the topic lists; changes alone list none."""
    ids: set[str] = set()
    async with aclosing(read_topic(settings.kafka, TopicNames.of(settings.kafka).products)) as records:
        async for record in records:
            if record.key is None or KEY_SEPARATOR in record.key:
                continue
            product_id = record.key.decode(errors="replace")
            if record.value is None:
                ids.discard(product_id)
            else:
                ids.add(product_id)
    return ids


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A feed makes millions of objects that reference counting takes away again: to look for more costs a tenth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@catalog.command()
@settings_options
@click.argument("product_id")
def show(settings: Settings, product_id: str) -> None:
    """Print what the products topic says of a product, as GET /v1/products answers, without asking a worker."""
    product = asyncio.run(_product_of(settings, product_id))
    if product is None:
        raise CommandError(f"the products topic lists no {product_id!r}")
    print_json(product_json(product))


async def _product_of(settings: Settings, product_id: str) -> CatalogProduct | None:
    kafka, key, entry = settings.kafka, product_id.encode(errors="replace"), new_entry(product_id)
    async with aclosing(read_topic(kafka, TopicNames.of(kafka).products, partition_of(key, kafka.partitions))) as records:
        async for record in records:
            if record.key is None or product_id_of(record.key) != key:
                continue
            if record.value is None:
                entry = new_entry(product_id) if record.key == key else entry
            elif isinstance(found := decode_product(record.value, record.key, record.timestamp), Product):
                fold_product(entry, found, record.timestamp)
    return catalog_product(entry)


class _Progress:
    """A bar on standard error, where that is a terminal: how much of the file is read, and how many products Kafka has."""

    def __init__(self, console: Console, feed: Feed, tally: Tally) -> None:
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[count]}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("loaded", total=feed.size or 1, count="")
        self._feed = feed
        self._tally = tally

    def __enter__(self) -> Callable[[], None]:
        self._bar.__enter__()
        return self._advance

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def _advance(self) -> None:
        bad = f", {self._tally.bad:,} bad rows" if self._tally.bad else ""
        self._bar.update(self._task, completed=self._feed.position, count=f"{self._tally.written:,} products{bad}")


def _opened(report_file: Path | None) -> TextIO | None:
    try:
        return report_file.open("w", encoding="utf-8") if report_file is not None else None
    except OSError as exc:
        raise CommandError(f"{report_file}: cannot be written: {exc.strerror}") from None


def _tell(feed: Feed, tally: Tally, seconds: float, report_file: Path | None, as_json: bool) -> None:
    rate = tally.written / seconds if seconds else 0.0
    if as_json:
        counts = {"rows": tally.rows, "written": tally.written, "bad": tally.bad, "deleted": tally.deleted}
        columns = {"attributes": sorted(feed.kept), "left_out": sorted(feed.left_out)}
        problems = {"broken": tally.broken or None, "kept_all": tally.kept_all or None}
        pace = {"seconds": round(seconds, 3), "products_per_second": round(rate, 1)}
        errors = [_bad_row_json(row) for row in tally.first_bad]
        print_json({"file": str(feed.path), **counts, **pace, **columns, **problems, "errors": errors})
        return
    for row in tally.first_bad:
        product = f", product {printable(row.product_id)}" if row.product_id else ""
        click.echo(f"line {row.line}{product}: {printable(row.reason)}", err=True)
    if tally.bad > len(tally.first_bad):
        where = f"all of them are in {report_file}" if report_file else "--report FILE writes all of them"
        click.echo(f"... and {tally.bad - len(tally.first_bad):,} more bad rows: {where}", err=True)
    for names, what in ((feed.kept, "kept as attributes"), (feed.left_out, "left out")):
        if names:
            click.echo(f"columns {what}: {', '.join(printable(name) for name in sorted(names)[:40])}", err=True)
    if tally.broken:
        click.echo(f"Error: {printable(tally.broken)}", err=True)
    if tally.kept_all:
        click.echo(f"nothing was taken away: {tally.kept_all}", err=True)
    gone = f", {tally.deleted:,} taken away" if tally.deleted else ""
    bad = f", {tally.bad:,} bad" if tally.bad else ""
    click.echo(f"{tally.rows:,} rows: {tally.written:,} products written{bad}{gone} in {seconds:.1f} s, {rate:,.0f} products/s")


def _bad_row_json(row: BadRow) -> dict[str, Any]:
    """Half surrogates, which stand for bytes that are no UTF-8, are shown as what they are not."""
    texts = {"product_id": row.product_id, "field": row.field, "reason": row.reason}
    return {"line": row.line, **{name: text.encode(errors="replace").decode() for name, text in texts.items()}}
