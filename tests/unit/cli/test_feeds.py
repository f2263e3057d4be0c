"""Feeds as files: each format and its oddities, line numbers, and files that are no feed or break off."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from app.cli.feeds import MAX_LINE_BYTES, BadRow, Feed, GoodRow
from app.errors import CommandError
from tidings.products.v1.product_pb2 import Product

NOW_MS = 1_714_300_000_000
RSS = '<?xml version="1.0"?><rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>'
ATOM = '<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title>'


@pytest.fixture
def written(tmp_path: Path):
    def write(name: str, content: str | bytes) -> Path:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


def rows_of(file: Path, **options: bool) -> list[GoodRow | BadRow]:
    return list(Feed(file, None, NOW_MS, **options))


def products_of(file: Path) -> dict[str, Product]:
    rows = rows_of(file)
    assert all(isinstance(row, GoodRow) for row in rows), rows
    return {row.product.product_id: row.product for row in rows if isinstance(row, GoodRow)}


def broken(file: Path) -> str:
    with pytest.raises(CommandError) as raised:
        rows_of(file)
    assert str(file) in str(raised.value)
    assert len(str(raised.value)) < 2_000
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", "id,title\na,One\nb,Two\n"),
        ("f.csv", "\ufeffid,title\r\na,One\r\n\r\nb,Two"),
        ("f.csv", "ID;Title\na;One\nb;Two\n"),
        ("f.csv", '"id","title"\n"a","One"\n"b","Two"\n'),
        ("f.csv", "id,title,\na,One,\nb,Two,,\n"),
        ("f.csv", "id,title,brand\na,One\nb,Two\n"),
        ("f.tsv", "id\ttitle\na\tOne\nb\tTwo\n"),
        ("f.txt", "id\ttitle\r\na\tOne\r\nb\tTwo\r\n".encode("utf-16")),
        ("f.csv.gz", gzip.compress(b"id,title\na,One\nb,Two\n", mtime=0)),
        ("f.csv", gzip.compress(b"id,title\na,One\nb,Two\n", mtime=0)),
        ("f.jsonl", '{"id":"a","title":"One"}\n\n{"id":"b","title":"Two"}'),
        ("f.ndjson", '\ufeff{"id":"a","title":"One"}\r\n{"id":"b","title":"Two"}\r\n'),
        ("f.xml", RSS + "<item><g:id>a</g:id><g:title>One</g:title></item><item><g:id>b</g:id><title>Two</title></item></channel></rss>"),
        ("f.rss", "<rss><item><id>a</id><title><![CDATA[One]]></title></item><item><id>b</id><title>Two</title></item></rss>"),
        ("f.atom", ATOM + "<entry><g:id>a</g:id><title>One</title></entry><entry><g:id>b</g:id><title>Two</title></entry></feed>"),
        ("f.xml", ('<?xml version="1.0" encoding="ISO-8859-1"?>' + RSS[21:] + "<item><id>a</id><title>One</title></item><item><id>b</id>"
                   "<title>Two</title></item></channel></rss>").encode("latin-1")),
    ],
)  # fmt: skip
def test_each_form_gives_the_same_products(written, name: str, content: str | bytes):
    assert {i: p.title for i, p in products_of(written(name, content)).items()} == {"a": "One", "b": "Two"}


def test_googles_names_win_over_atoms_own(written):
    entry = (
        "<entry><id>tag:shop,2024:1</id><title>Of the entry</title><g:title>Of the product</g:title><g:id>a</g:id>"
        '<link rel="self" href="https://x.example/self"/><link href="https://shop.example/a"/><updated>2024-01-01T00:00:00Z</updated>'
        "<published>2030-01-01T00:00:00Z</published><g:price>5 EUR</g:price>"
        "<g:shipping><g:country>US</g:country><g:price>14.95 USD</g:price></g:shipping></entry>"
    )
    product = products_of(written("f.xml", ATOM + entry + "</feed>"))["a"]
    assert (product.title, product.url) == ("Of the product", "https://shop.example/a")
    assert (product.price.minor_units, product.price.currency_code, product.published_at_ms) == (500, "EUR", 0)
    assert not product.attributes


def test_a_bad_row_has_its_line_its_product_and_the_others_go_on(written):
    lines = ["id,title,price", 'a,"One', "and two", 'lines",5', "b,Two,cheap", "c,Three,7,8", 'd,"Four', '",', 'e,"Five,5', 'f,"Six,6']
    file = written("f.csv", "\n".join([*lines, "g,G,7"]))
    good, bad = [[row for row in rows_of(file) if isinstance(row, kind)] for kind in (GoodRow, BadRow)]
    assert [(row.line, row.product.product_id) for row in good] == [(2, "a"), (7, "d"), (11, "g")]
    assert good[0].product.title == "One and two lines"
    assert [(row.line, row.product_id, row.field) for row in bad] == [(5, "b", "price"), (6, "c", ""), (9, "", "")]
    assert "quotation mark" in bad[2].reason


def test_a_quotation_mark_that_is_never_closed_swallows_no_row_in_silence(written):
    rows = rows_of(written("f.csv", 'id,title\na,"lost\nb,Two\nc,Three\n'))
    assert rows == [BadRow(2, "", "", rows[0].reason)]
    rows = rows_of(written("f.csv", 'id,title,price\na,"lost\nb,"\nc,Three,5\n'))
    assert [row.line for row in rows if isinstance(row, BadRow)] == [2]


def test_bytes_that_are_no_utf_8_spoil_their_own_row_only(written):
    rows = rows_of(written("f.csv", b"id,title\na,One\nb,caf\xe9\nc,Three\n"))
    assert [type(row) for row in rows] == [GoodRow, BadRow, GoodRow]
    assert rows[1][:3] == (3, "b", "title")
    assert [type(row) for row in rows_of(written("f.jsonl", b'{"id":"a","title":"caf\xe9"}\n{"id":"b"}\n'))] == [BadRow, GoodRow]


def test_a_line_of_json_that_is_none_is_a_bad_row(written):
    rows = rows_of(written("f.jsonl", '{"id":"a"}\n{oops\n[]\n{"id":"a","id":"b"}\n{"id": 7}\n'))
    assert [type(row) for row in rows] == [GoodRow, BadRow, BadRow, BadRow, GoodRow]
    assert "stands twice" in str(rows[3])


def test_a_delta_is_of_the_columns_that_are_there(written):
    (row,) = rows_of(written("f.csv", "id,price,sale_price,description\na,5,,x\n"), is_change=True)
    assert isinstance(row, GoodRow)
    assert list(row.product.changed_fields) == ["list_price", "price"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.csv", b"", "empty"),
        ("f.csv", b" \n \n", "empty"),
        ("f.csv", b"PK\x03\x04\x14\x00", "spreadsheet"),
        ("f.csv", b"\x00\x01\x02" * 500, "no text"),
        ("f.csv", b"name,price\nx,5\n", "no column 'product_id' or 'id'"),
        ("f.csv", b"id,t\xe4tle\nx,5\n", "not UTF-8"),
        ("f.tsv", b"id,title\na,One\n", "the columns are 'id,title'"),
        ("f.csv", b"id," + b"x" * 200_000 + b"\na,5\n", "first line"),
        ("f.csv", b"id,title\na," + b"x" * (MAX_LINE_BYTES + 5), "line 2 is longer"),
        ("f.jsonl", b'[{"id":"a"}]', "jq"),
        ("f.jsonl", b'{"id":"a","title":"' + b"x" * MAX_LINE_BYTES, "line 1 is longer"),
        ("f.csv.gz", gzip.compress(b"id,title\na,One\n", mtime=0)[:-9], "cannot be read"),
        ("f.xml", b"hello", "line 1: syntax error"),
        ("f.xml", b"<html><body>Not found</body></html>", "no <item>"),
        ("f.xml", b"<rss><channel>\n<item><id>a</id></item>\n", "line 3: no element found"),
        ("f.xml", b"<rss>" + b"<a>" * 100, "too deeply"),
        ("f.xml", b"<rss><item><title>" + b"x" * (MAX_LINE_BYTES + 1) + b"</title></item></rss>", "longer"),
        ("f.xml", b"<rss><item>" + b"<a>x</a>" * 1_001 + b"</item></rss>", "more than 1,000 elements"),
        ("f.xml", b"<rss><item><title>&nbsp;</title></item></rss>", "undefined entity"),
    ],
)
def test_a_file_that_is_no_feed_is_told_in_words(written, name: str, content: bytes, says: str):
    assert says in broken(written(name, content))


def test_entities_are_refused_before_they_can_be_expanded(written):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
    bomb = f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY l0 "ha">{laughs}]><rss><item><id>&l29;</id></item></rss>'
    assert "declares the entity 'l0'" in broken(written("bomb.xml", bomb))
    outside = '<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item><id>a</id><title>&x;</title></item></rss>'
    assert "declares the entity 'x'" in broken(written("outside.xml", outside))


def test_a_gzip_bomb_is_read_in_bounded_memory(written):
    assert "longer" in broken(written("bomb.csv.gz", gzip.compress(b"id,title\na," + b"x" * 50_000_000, mtime=0)))


def test_the_name_tells_the_format_or_the_option_does(written):
    with pytest.raises(CommandError, match="--format"):
        Feed(written("feed.dat", "id\na\n"), None, NOW_MS)
    assert len(list(Feed(written("feed.dat", "id\na\n"), "csv", NOW_MS))) == 1


@pytest.mark.parametrize("name", ["f.csv", "f.csv.gz"])
def test_the_position_tells_how_much_of_the_file_is_read(written, name: str):
    content = ("id,title\n" + "".join(f"p{n},Product {n}\n" for n in range(50_000))).encode()
    feed = Feed(written(name, gzip.compress(content, mtime=0) if name.endswith("gz") else content), None, NOW_MS)
    positions = [feed.position for _ in feed]
    assert 0 < positions[0] < feed.size / 2
    assert positions == sorted(positions)
    assert positions[-1] == feed.size
