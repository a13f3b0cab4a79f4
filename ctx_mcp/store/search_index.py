"""An index of trigrams over the texts of all contents: which of them can hold a piece of text at all.

`search.db` in the data folder is a cache. It may be deleted at any time, is shared by all processes, and never holds
up a writer of the store. Contents are indexed in the order of their numbers, up to a watermark; what it answers are
candidates, whose bytes are looked at in any case, and whoever asks looks at all contents above the watermark too. So
an answer is right however far the index is. Source: docs/storage.md.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from ctx_mcp.store.search import Stamp

_logger = logging.getLogger(__name__)
T = TypeVar("T")
_APPLICATION_ID = 0x63747873
_FORMAT = 1
_MAX_GRAMS = 24
"""Of a long query; each costs one list of contents, and so many rule out enough."""
_TABLES = """
CREATE TABLE watermark (content_id INTEGER NOT NULL, created_at INTEGER NOT NULL, digest TEXT, count INTEGER NOT NULL);
CREATE TABLE unindexed (content_id INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE grams USING fts5(text, tokenize = 'trigram case_sensitive 1', content = '', detail = none);
"""
_FOREIGN = "the file is no index of this version"


class IndexedText(NamedTuple):
    """A content to be indexed. Without a text it is always a candidate; binary contents are not given at all."""

    content_id: int
    text: str | None


class Watermark(NamedTuple):
    """The last content the index knows, and how many it has looked at up to there."""

    stamp: Stamp
    content_count: int


class Candidates(NamedTuple):
    """Contents that can hold the text, of those up to the one that `stamp` names."""

    stamp: Stamp
    content_ids: frozenset[int]


def fold(text: str) -> str:
    """Return the text as it is indexed: texts that are equal but for case are equal then.

    Character by character, so that a part of a text stays a part of it. Case folding takes a long s for s and the
    Kelvin sign for k, as RE2 does. A NUL would end the text for the tokenizer.
    """
    return text.casefold().replace("\0", "\1")


class SearchIndex:
    """The index of one data folder, opened when it is first asked. Thread-safe; one connection, used in turns."""

    def __init__(self, path: Path | None) -> None:
        """
        Args:
            path: None where there is no index, because contents have no order that it could go by.
        """
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._is_closed = False

    def find(self, literal: str) -> Candidates | None:
        """Return which indexed contents can hold `literal`, in any case; None where the index cannot tell.

        It cannot for less than three characters, before anything is indexed, or when its file is unusable.
        """
        folded = fold(literal)
        if len(folded) < 3 or not self._exists():
            return None
        return self._use(partial(_find, folded=folded), otherwise=None)

    def watermark(self) -> Watermark | None:
        """Return up to where the index is; None where nothing is indexed."""
        return self._use(_read_watermark, otherwise=None) if self._exists() else None

    def add(self, texts: Sequence[IndexedText], last: Stamp, *, count: int, after: Watermark | None) -> bool:
        """Index the next contents in one transaction; tell whether that was done.

        It is not while another process indexes, or did so meanwhile: the watermark is no longer `after`.

        Args:
            last: the last content looked at, which becomes the watermark.
            count: how many were looked at.
        """
        total = count + (after.content_count if after else 0)
        return self._use(partial(_add, texts=texts, mark=Watermark(last, total), after=after), otherwise=False)

    def clear(self, watermark: Watermark) -> bool:
        """Forget everything, unless another process has done so: the watermark is no longer this one."""
        return self._use(partial(_clear, watermark=watermark), otherwise=False)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._disconnect()

    def _use(self, work: Callable[[sqlite3.Connection], T], *, otherwise: T) -> T:
        """Do some work on the file, or return `otherwise` where it cannot be used; a broken one is removed.

        Nothing that goes wrong here is the caller's: a search goes on without the index.
        """
        with self._lock:
            try:
                connection = self._connect()
                return otherwise if connection is None else work(connection)
            except sqlite3.OperationalError as error:
                # Locked by another process, or the disk is full: for now.
                _logger.debug("the search index is not used: %s", error)
            except sqlite3.DatabaseError as error:
                _logger.warning("the search index %s is removed, to be built anew: %s", self._path, error)
                self._remove()
            except OSError as error:
                _logger.warning("the search index %s cannot be used: %s", self._path, error)
        return otherwise

    def _connect(self) -> sqlite3.Connection | None:
        if self._is_closed or self._path is None:
            return None
        if self._connection is not None and self._inode == _inode_of(self._path):
            return self._connection
        self._disconnect()
        # As private as the texts themselves; the files SQLite adds beside it follow suit.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=0.05)
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._inode = _inode_of(self._path)
        self._connection = connection
        return connection

    def _exists(self) -> bool:
        return self._path is not None and self._path.exists()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _remove(self) -> None:
        self._disconnect()
        if self._path is None:
            return
        # The log first: left alone beside a new file it would be taken for that one's.
        for suffix in ("-wal", "-shm", ""):
            with suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in a new file, and refuse a foreign one."""
    connection.execute("PRAGMA journal_mode = WAL")
    # Not OFF: after a loss of power, pages could be missing from lists of contents without anybody noticing.
    connection.execute("PRAGMA synchronous = NORMAL")
    with _transaction(connection, "BEGIN"):
        stamp = _stamp_of(connection)
        is_new = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if is_new:
        with _transaction(connection, "BEGIN IMMEDIATE"):
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in filter(None, map(str.strip, _TABLES.split(";"))):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
            stamp = _stamp_of(connection)
    if stamp != (_APPLICATION_ID, _FORMAT):
        raise sqlite3.DatabaseError(_FOREIGN)


def _stamp_of(connection: sqlite3.Connection) -> tuple[int, int]:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    return application_id, connection.execute("PRAGMA user_version").fetchone()[0]


def _find(connection: sqlite3.Connection, *, folded: str) -> Candidates | None:
    with _transaction(connection, "BEGIN"):
        mark = _read_watermark(connection)
        if mark is None:
            return None
        rows = connection.execute("SELECT rowid FROM grams WHERE grams MATCH ?", (_expression(folded),))
        found = {content_id for (content_id,) in rows}
        found.update(content_id for (content_id,) in connection.execute("SELECT content_id FROM unindexed"))
    return Candidates(mark.stamp, frozenset(found))


def _add(
    connection: sqlite3.Connection, *, texts: Sequence[IndexedText], mark: Watermark, after: Watermark | None
) -> bool:
    with _transaction(connection, "BEGIN IMMEDIATE"):
        if _read_watermark(connection) != after:
            return False
        grams = ((item.content_id, item.text) for item in texts if item.text is not None)
        connection.executemany("INSERT INTO grams (rowid, text) VALUES (?, ?)", grams)
        large = ((item.content_id,) for item in texts if item.text is None)
        connection.executemany("INSERT OR REPLACE INTO unindexed VALUES (?)", large)
        connection.execute("DELETE FROM watermark")
        connection.execute("INSERT INTO watermark VALUES (?, ?, ?, ?)", (*mark.stamp, mark.content_count))
    return True


def _clear(connection: sqlite3.Connection, *, watermark: Watermark) -> bool:
    with _transaction(connection, "BEGIN IMMEDIATE"):
        if _read_watermark(connection) != watermark:
            return False
        connection.execute("INSERT INTO grams (grams) VALUES ('delete-all')")
        connection.execute("DELETE FROM unindexed")
        connection.execute("DELETE FROM watermark")
    return True


def _read_watermark(connection: sqlite3.Connection) -> Watermark | None:
    row = connection.execute("SELECT content_id, created_at, digest, count FROM watermark").fetchone()
    return None if row is None else Watermark(Stamp(*row[:3]), row[3])


def _expression(folded: str) -> str:
    """Return the query for all trigrams of a text, or for some, spread over it, where there are many."""
    grams = sorted({folded[start : start + 3] for start in range(len(folded) - 2)})
    step = -(-len(grams) // _MAX_GRAMS)
    return " AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams[::step])


def _inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Generator[None]:
    connection.execute(begin)
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
