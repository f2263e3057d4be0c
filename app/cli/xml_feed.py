"""Google Merchant XML, RSS 2.0 or Atom, parsed as it comes: each item or entry becomes a row of column names and texts.

It reads with expat itself, which knows the line. A feed has no need of entities of its own, so a document that declares one is refused
before it can be expanded; nothing outside the file is ever read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from app.domain.feed_row import Cell, column_name
from app.errors import CommandError

_GOOGLE = "http://base.google.com/ns/1.0"
_GOOGLE_SHORT = "http://base.google.com/cns/1.0"
#: What holds one product: RSS 2.0, RSS 1.0 and Atom.
_ITEMS = frozenset({"item", "entry"})
#: What Atom says of the entry, not of the product.
_OF_THE_ENTRY = frozenset({"updated", "published"})
_MAX_DEPTH = 64
#: Elements of one item.
_MAX_ELEMENTS = 1_000


class XmlRows:
    """A parser that is fed with bytes and gives the rows that are complete. Raises CommandError with the line where it cannot go on."""

    def __init__(self, path: Path, max_item_bytes: int) -> None:
        self._path = path
        self._max_item_bytes = max_item_bytes
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._refuse_entity
        self._depth = 0
        self._item_depth = 0
        self._item_line = 0
        self._row: dict[str, list[str]] = {}
        #: Columns that Google's namespace named: they win over RSS's and Atom's own of the same name.
        self._googles: set[str] = set()
        self._texts: list[str] = []
        self._size = 0
        self._elements = 0
        self._complete: list[tuple[int, dict[str, Cell]]] = []
        self._found = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, dict[str, Cell]]]:
        """The rows that end in this chunk, each with the line of its first tag; also those before the place where it breaks off."""
        broken = None
        try:
            self._parse(chunk, False)
        except CommandError as exc:
            broken = exc
        rows, self._complete = self._complete, []
        self._found += len(rows)
        yield from rows
        if broken is not None:
            raise broken

    def close(self) -> None:
        """Raises CommandError if the document is not complete, or held no product."""
        self._parse(b"", True)
        if not self._found:
            raise CommandError(f"{self._path}: holds no <item> (RSS) and no <entry> (Atom): is it a Google Merchant feed?")

    def _parse(self, chunk: bytes, is_last: bool) -> None:
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as exc:
            raise self._broken(expat.ErrorString(exc.code), exc.lineno) from None

    def _broken(self, what: str, line: int | None = None) -> CommandError:
        return CommandError(f"{self._path}: line {line or self._parser.CurrentLineNumber}: {what}; nothing after it could be read")

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise self._broken(f"declares the entity {name[:40]!r}, of which a product feed has no need")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._broken("elements are nested too deeply")
        local = tag.rpartition(" ")[2]
        if not self._item_depth:
            if local in _ITEMS:
                self._item_depth, self._item_line = self._depth, self._parser.CurrentLineNumber
                self._row, self._size, self._elements = {}, 0, 0
                self._googles.clear()
        elif self._depth == self._item_depth + 1:
            self._elements += 1
            if self._elements > _MAX_ELEMENTS:
                raise self._broken(f"the item of line {self._item_line} has more than {_MAX_ELEMENTS:,} elements")
            self._texts = []
            if local == "link" and "href" in attributes and attributes.get("rel", "alternate") == "alternate":
                self._texts.append(attributes["href"])  # Atom's link
        else:
            self._texts.clear()  # sub-elements (shipping, installment) have no place in a product

    def _text(self, text: str) -> None:
        if self._depth == self._item_depth + 1 and self._item_depth:
            self._size += len(text)
            if self._size > self._max_item_bytes:
                raise self._broken(f"the item of line {self._item_line} is longer than {self._max_item_bytes:,} characters")
            self._texts.append(text)

    def _end(self, tag: str) -> None:
        if self._item_depth:
            if self._depth == self._item_depth + 1:
                namespace, _, local = tag.rpartition(" ")
                self._take(namespace in (_GOOGLE, _GOOGLE_SHORT), local)
            elif self._depth == self._item_depth:
                self._item_depth = 0
                self._complete.append((self._item_line, {name: texts if len(texts) > 1 else texts[0] for name, texts in self._row.items()}))
        self._depth -= 1

    def _take(self, is_googles: bool, local: str) -> None:
        text = "".join(self._texts).strip()
        name = column_name(local)
        self._texts = []
        if not text or (not is_googles and (name in self._googles or name in _OF_THE_ENTRY)):
            return
        if is_googles and name not in self._googles:
            self._googles.add(name)
            self._row[name] = []
        self._row.setdefault(name, []).append(text)
