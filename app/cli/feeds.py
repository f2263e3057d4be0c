"""Product feeds on disk: CSV, TSV, JSON Lines and Google Merchant XML, plain or gzipped, read row by row in bounded memory.

A row that is wrong is a BadRow and the reading goes on; a file that is no such feed, or breaks off, is a CommandError.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from app.cli.xml_feed import XmlRows
from app.domain.feed_row import Cell, FeedRows, column_name
from app.domain.json_product import FIELD_OF, product_change_from_json, product_from_json
from app.domain.strict_json import NotJson, parse_json
from app.domain.validation import Violation
from app.errors import CommandError
from tidings.products.v1.product_pb2 import Product

Format = Literal["csv", "tsv", "jsonl", "xml"]

#: The ending of a file's name to its format; ``.gz`` may follow.
ENDINGS: dict[str, Format] = {
    ".csv": "csv", ".tsv": "tsv", ".txt": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".xml": "xml", ".rss": "xml",
    ".atom": "xml",
}  # fmt: skip
#: Of a line, and of an XML item; a product is at most 30 kB, and a feed's description of it a few more.
MAX_LINE_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_SNIFFED_BYTES = 4096
#: Shown of an id that breaks a rule.
_MAX_SHOWN_ID = 128


class GoodRow(NamedTuple):
    line: int
    product: Product


class BadRow(NamedTuple):
    """Why a row is not taken: its first line, its product id ("" if none could be read), the column or JSON path, and a sentence."""

    line: int
    product_id: str
    field: str
    reason: str


class Feed:
    """One file. Iterating reads it once; ``position`` of ``size`` bytes of the file are read so far.

    ``kept`` and ``left_out`` name the columns that became attributes, and those that have no place in a product.
    Raises CommandError, also in the middle, when the file cannot be read any further.
    """

    def __init__(self, path: Path, format_: Format | None, now_ms: int, *, is_change: bool = False) -> None:
        self.path = path
        self.format: Format = format_ or _format_of(path)
        self.size = path.stat().st_size
        self._rows = FeedRows(is_change=is_change)
        self._of_json = product_change_from_json if is_change else product_from_json
        self._now_ms = now_ms
        self._raw: IO[bytes] | None = None
        self.kept, self.left_out = self._rows.kept, self._rows.left_out

    @property
    def position(self) -> int:
        return self._raw.tell() if self._raw is not None and not self._raw.closed else self.size

    def __iter__(self) -> Iterator[GoodRow | BadRow]:
        try:
            with self.path.open("rb") as self._raw:
                start = self._raw.read(_SNIFFED_BYTES)
                self._raw.seek(0)
                with gzip.GzipFile(fileobj=self._raw) if start.startswith(b"\x1f\x8b") else self._raw as data:
                    yield from self._read(io.BufferedReader(data, _CHUNK_BYTES))  # type: ignore[type-var] # both are raw enough
        except (OSError, EOFError, zlib.error) as exc:
            raise CommandError(f"{self.path}: cannot be read any further: {getattr(exc, 'strerror', None) or exc}") from None

    def _read(self, data: io.BufferedReader) -> Iterator[GoodRow | BadRow]:
        start = data.peek(_SNIFFED_BYTES)[:_SNIFFED_BYTES]
        encoding = _encoding_of(start)
        if not start.strip():
            raise CommandError(f"{self.path}: is empty")
        if start.startswith(b"PK\x03\x04"):
            raise CommandError(f"{self.path}: is a zip archive or a spreadsheet: save it as CSV (UTF-8)")
        if b"\x00" in start and encoding != "utf-16":
            raise CommandError(f"{self.path}: is no text, so no {self.format.upper()} feed")
        match self.format:
            case "xml":
                yield from self._xml(data)
            case "jsonl":
                yield from self._jsonl(_lines(data, encoding, self.path))
            case "csv" | "tsv":
                yield from self._table(_lines(data, encoding, self.path))

    def _jsonl(self, lines: Iterator[str]) -> Iterator[GoodRow | BadRow]:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text:
                continue
            if number == 1 and text.startswith("["):
                raise CommandError(f"{self.path}: is a JSON array: write one product per line (`jq -c '.[]'` does it)")
            obj = parse_json(text)
            if isinstance(obj, NotJson):
                yield BadRow(number, "", "", f"is not JSON: {obj.detail}")
            else:
                yield _row(number, self._of_json(obj, self._now_ms), obj)

    def _table(self, lines: Iterator[str]) -> Iterator[GoodRow | BadRow]:
        heading = next(lines, "")
        counted = _Counted(heading, lines)
        # Strict, for otherwise a quotation mark that is never closed can swallow the rows up to the next one without a word.
        reader = csv.reader(counted, delimiter=_delimiter(heading, self.format), strict=True)
        names = self._columns(reader)
        while True:
            line = counted.number + 1
            try:
                cells = next(reader, None)
            except csv.Error as exc:
                yield BadRow(line, "", "", f"cannot be read: {exc}: inside quotation marks, a quotation mark is written twice")
                continue
            if cells is None:
                return
            if not any(cells):
                continue
            if len(cells) > len(names) and not any(cells[len(names) :]):
                cells = cells[: len(names)]
            # A row may lack its last cells, as spreadsheets write it; but one over many lines that does has lost a quotation mark.
            if len(cells) > len(names) or (len(cells) < len(names) and counted.number > line):
                wrong = f"has {len(cells)} cells where the heading has {len(names)}: is a quotation mark or a separator amiss?"
                yield BadRow(line, _id_of(dict(zip(names, cells, strict=False))), "", wrong)
                continue
            row: dict[str, Cell] = dict(zip(names, cells, strict=False))
            row.pop("", None)
            yield _row(line, self._rows.product(row, self._now_ms), row)

    def _columns(self, reader: Any) -> list[str]:
        try:
            headings = next(reader)
        except csv.Error as exc:
            raise CommandError(f"{self.path}: its first line cannot be read: {exc}") from None
        if any("\udc80" <= char <= "\udcff" for heading in headings for char in heading):
            raise CommandError(f"{self.path}: is not UTF-8: save it as UTF-8")
        names = [column_name(heading) for heading in headings]
        if problems := self._rows.problems_of(names):
            shown = ", ".join(repr(name[:40]) for name in names[:20] if name) or "none"
            raise CommandError(f"{self.path}: its first line must name the columns of a product\n  - " + "\n  - ".join(
                [*(problem[:300] for problem in problems[:20]), f"the columns are {shown}"]
            ))  # fmt: skip
        return names

    def _xml(self, data: IO[bytes]) -> Iterator[GoodRow | BadRow]:
        rows = XmlRows(self.path, MAX_LINE_BYTES)
        while chunk := data.read(_CHUNK_BYTES):
            for line, row in rows.feed(chunk):
                yield _row(line, self._rows.product(row, self._now_ms), row)
        rows.close()


def _format_of(path: Path) -> Format:
    endings = [ending.lower() for ending in path.suffixes]
    if endings[-1:] == [".gz"]:
        endings.pop()
    found = ENDINGS.get(endings[-1]) if endings else None
    if found is None:
        raise CommandError(f"{path}: its name does not tell the format ({', '.join(ENDINGS)}, and .gz after it): say --format")
    return found


def _encoding_of(start: bytes) -> str:
    """UTF-8 with or without its mark, or what spreadsheets call Unicode. Bytes that are wrong become half surrogates, refused by field."""
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def _lines(data: IO[bytes], encoding: str, path: Path) -> Iterator[str]:
    text = io.TextIOWrapper(data, encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "replace", newline="")
    number = 0
    while line := text.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith("\n"):
            raise CommandError(f"{path}: line {number} is longer than {MAX_LINE_BYTES:,} characters: that is no product")
        yield line


class _Counted:
    """Lines as the CSV reader takes them, and how many it has taken: it may take several for one row."""

    def __init__(self, first: str, rest: Iterator[str]) -> None:
        self._first: str | None = first
        self._rest = rest
        self.number = 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        line, self._first = (self._first, None) if self._first is not None else (next(self._rest), None)
        self.number += 1
        return line


def _delimiter(heading: str, format_: Format) -> str:
    """Tabs in TSV; in CSV what stands most often in the heading, as spreadsheets write ``;`` where a comma is the decimal point."""
    return "\t" if format_ == "tsv" else max(",;\t", key=heading.count)


def _row(line: int, product: Product | Violation, given: object) -> GoodRow | BadRow:
    if isinstance(product, Violation):
        return BadRow(line, _id_of(given), product.field, product.detail)
    return GoodRow(line, product)


def _id_of(given: object) -> str:
    """The id as the row has it, to find the row by; "" if it has none that could be one."""
    if not isinstance(given, dict):
        return ""
    for name in given:
        if FIELD_OF.get(name) == "product_id":
            value = given[name][0] if isinstance(given[name], list) and given[name] else given[name]
            return str(value).strip()[:_MAX_SHOWN_ID] if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return ""
