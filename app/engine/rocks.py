"""A RocksDB directory that holds all of what was written to it up to some write, or is thrown away.

RocksDB keeps a sum of every block and looks at it with each read. What it does not notice, since each file by itself is sound, is a log
that is gone or was cut between two writes while later ones are there, and a list of files that ends too early: then writes are missing in
the middle of the others. So each write leaves a link, which the next one removes. Where writes are missing, a link too many is there.

What is found damaged is thrown away where nothing has been read of it yet. Where it is found at work, a verdict is put beside the
directory, the process is told to stop, and the next start throws it away: none goes on with damaged values, and none meets them again.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import rocksdict

from app import metrics
from app.errors import StateError

logger = logging.getLogger(__name__)

#: + number of a write, 8 bytes, big-endian → when it was made, in ms since 1970. Number 0 goes in with the first write, and stays.
LINK_PREFIX = b"__link/"
_FIRST_LINK = LINK_PREFIX + bytes(8)
#: Of a verdict: RocksDB's own words may be long.
MAX_REASON_CHARS = 300


class Rocks:
    """``table`` is what metrics call it; ``on_damage`` may be set, is told when damage is found at work, and should stop the process.

    ``thrown_away`` says why what was here could not be used, and is empty if it could, or if nothing was.
    Raises StateError when the directory cannot be opened, though nothing says that it is damaged: it is another process's, or the disk is
    full, or may not be written to.
    """

    def __init__(
        self,
        path: Path,
        options: rocksdict.Options,
        *,
        table: str = "",
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.path = path
        #: Where it is moved by ``set_aside``.
        self.aside = path.with_name(path.name + ".aside")
        #: Writes that are in here.
        self.writes = 0
        #: When the last one was made, in ms since 1970; None when there is none.
        self.written_at_ms: int | None = None
        self.thrown_away = ""
        self.on_damage: Callable[[StateError], None] = lambda _: None
        self._verdict = path.with_name(path.name + ".damaged")
        self._options = options
        self._table = table
        self._clock = clock
        self._db: Any = None
        if reason := self._condemned() or self._open():
            self.throw_away(reason)

    # At work ----------------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        try:
            found: bytes | None = self._db.get(key)
        except Exception as exc:  # rocksdict raises the bare class
            self._found(exc)
        return found

    def scan(self, first: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values from ``first`` on, up to but not including ``end``, in key order."""
        try:
            yield from _checked(self._db, first, end)
        except Exception as exc:  # rocksdict raises the bare class
            self._found(exc)

    def write(self, batch: Any) -> None:
        """All that is in a WriteBatch, or nothing; what is in the batch beside is this write's link."""
        number, now_ms = self.writes + 1, self._clock()
        if number == 1:
            batch.put(_FIRST_LINK, b"%d" % now_ms)
        else:
            batch.delete(_link(number - 1))
        batch.put(_link(number), b"%d" % now_ms)
        try:
            self._db.write(batch)
        except Exception as exc:  # rocksdict raises the bare class
            self._found(exc)
        self.writes, self.written_at_ms = number, now_ms

    def size_bytes(self) -> int:
        """On disk."""
        total = 0
        for file in self.path.glob("*"):
            try:
                total += file.stat().st_size
            except FileNotFoundError:  # compaction was quicker
                continue
        return total

    def close(self) -> None:
        database, self._db = self._db, None
        if database is None:
            return
        try:
            database.close()
        except Exception as exc:  # rocksdict raises the bare class
            if not _is_damage(message := str(exc)):
                raise
            self._condemn(message)

    # Damage -----------------------------------------------------------------------------------------------------------

    def throw_away(self, reason: str) -> None:
        """Begin with nothing. If the process dies half-way, the next one goes on with it."""
        self._condemn(reason)
        self.close()
        logger.warning("%s is thrown away and made again from its changelog: %s", self.path, reason)
        self._remove(self.path)
        self._begin_anew(reason)

    def set_aside(self, reason: str) -> None:
        """Begin with nothing, and keep what was here until ``forget_aside``: it is sound, and perhaps the last copy of something."""
        if self.aside.exists():
            self.throw_away(f"{reason} (what was set aside before is still in {self.aside})")
            return
        self.close()
        logger.warning("%s is set aside as %s and made again from its changelog: %s", self.path, self.aside.name, reason)
        self.path.rename(self.aside)
        self._begin_anew(reason)

    def forget_aside(self) -> None:
        if self.aside.exists():
            self._remove(self.aside)

    def _begin_anew(self, reason: str) -> None:
        self._verdict.unlink(missing_ok=True)
        metrics.STATE_THROWN_AWAY.labels(self._table).inc()
        self.thrown_away = reason
        if again := self._open():
            raise StateError(f"{self.path} cannot be made anew: {again}. Is the disk sound?")

    def _open(self) -> str:
        """Why it cannot be used, empty when it can. Raises StateError when it may be sound."""
        if self.path.exists() and not self.path.is_dir():
            return "it is a file"
        if any(self.path.glob("MANIFEST-*")) and not (self.path / "CURRENT").exists():
            return "its file CURRENT is missing"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = rocksdict.Rdict(str(self.path), options=self._options)
            return self._check_links()
        except Exception as exc:  # rocksdict raises the bare class
            message = str(exc)
            if _is_damage(message):
                return message
            raise StateError(
                f"cannot open {self.path}: {message}. Does another process use this data directory? Otherwise remove it: Kafka has it all"
            ) from exc

    def _check_links(self) -> str:
        """Whether all writes are here up to the last that is."""
        links = list(_checked(self._db, LINK_PREFIX, LINK_PREFIX[:-1] + b"0"))
        match links:
            case []:
                self.writes, self.written_at_ms = 0, None
                return "" if next(_checked(self._db, b"", None), None) is None else "it does not say what was written to it"
            case [(first, _), (last, written_at)] if first == _FIRST_LINK and written_at.isdigit():
                self.writes, self.written_at_ms = int.from_bytes(last[len(LINK_PREFIX) :], "big"), int(written_at)
                return ""
            case _:
                return "writes are missing before the last that is in it: a file of its log, or the list of its files, was cut or lost"

    def _found(self, exc: Exception) -> NoReturn:
        """An operation failed: since this is closed, as where a worker stops for another reason; for damage; or for its caller's reason."""
        if self._db is None:
            raise StateError(f"{self.path} is closed: this worker stops, and the log of before says why") from exc
        message = str(exc)
        if not _is_damage(message):
            raise exc
        self._condemn(message)
        error = StateError(f"{self.path} is damaged: {_brief(message)}. The next start makes it again from its changelog")
        self.on_damage(error)
        raise error from exc

    def _condemn(self, reason: str) -> None:
        try:
            self._verdict.write_text(_brief(reason))
        except OSError as exc:
            logger.error("%s cannot be written (%s): the next start may not know that %s is damaged", self._verdict, exc, self.path)

    def _condemned(self) -> str:
        try:
            return self._verdict.read_text(errors="replace") or "its damage was found before"
        except FileNotFoundError:
            return ""

    def _remove(self, path: Path) -> None:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise StateError(f"cannot remove {path}, which cannot be used: {exc.strerror or exc}. Remove it: Kafka has it all") from exc


def _link(number: int) -> bytes:
    return LINK_PREFIX + number.to_bytes(8, "big")


def _checked(database: Any, first: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """A scan that does not just end where it meets damage: it raises that."""
    options = rocksdict.ReadOptions()
    if end is not None:
        options.set_iterate_upper_bound(end)
    found = database.iter(options)
    found.seek(first)
    try:
        while found.valid():
            yield found.key(), found.value()
            found.next()
        found.status()
    finally:
        del found  # it keeps the database open, and would live as long as the error that ended it


def _is_damage(message: str) -> bool:
    """Whether RocksDB's words mean that what it reads is not what was written. Not: that it cannot lock, write or open any more files."""
    return message.startswith("Corruption") or "No such file or directory" in message or "Is a directory" in message


def _brief(message: str) -> str:
    return " ".join(message.split())[:MAX_REASON_CHARS]
