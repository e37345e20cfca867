"""The ledger: the only record of a run, written as it happens. The tree, the bill, replay and every view are folds over it.

A row is (kind, key, body). A key names a place in the strategy: `0.3` is the fourth op of the strategy itself, `0.3/2` the third child
that it grew, `0.3.1.0` the first op of the second coroutine that it ran side by side. The kinds:

    run     question, strategy, budget, seed, models: what is needed to run it again
    sample  a child: answered, failed or lost, with its text, tokens and bill. Written when it ends, before anyone sees it
    op      an op was answered (or raised): the order of these rows is the order of the run's world
    offer   the best answer so far
    drop    a branch was given up, and why
    stop    the run began to wind down: budget, deadline or cancelled. What the strategy did after it is void when it is resumed
    resume  the run went on in another process
    answer  what it came to
    failed  the run ended with an error

Files are SQLite (WAL; several runs may share one) or, with a name ending in `.jsonl`, JSON Lines. A last line cut by a crash is
dropped: what it held is asked again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pondera.errors import LedgerError
from pondera.plain import question_from_json, thought_from_json
from pondera.thought import Spend, Thought, root_of

VERSION = 1


@dataclass(frozen=True, slots=True)
class Row:
    kind: str
    key: str
    body: Mapping[str, Any]


class Store(Protocol):
    """Where rows go. `append` returns when the row would survive the death of this process; raises LedgerError."""

    def append(self, n: int, row: Row) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Ledger:
    """Rows in memory, and in a store where there is one."""

    rows: list[Row] = field(default_factory=list)
    store: Store | None = None

    def append(self, kind: str, key: str, body: Mapping[str, Any]) -> Row:
        row = Row(kind, key, body)
        if self.store:
            self.store.append(len(self.rows), row)
        self.rows.append(row)
        return row

    def close(self) -> None:
        if self.store:
            self.store.close()


# ---------------------------------------------------------------- files


class _Sqlite:
    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        db: sqlite3.Connection | None = None
        try:
            self.db = db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=NORMAL")
            self.db.execute(
                "CREATE TABLE IF NOT EXISTS rows (run TEXT, n INTEGER, kind TEXT, key TEXT, body TEXT, PRIMARY KEY (run, n)) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            if db:
                db.close()
            raise LedgerError(f"The ledger {path} cannot be opened ({error}): give a path that can be written.")

    def append(self, n: int, row: Row) -> None:
        try:
            self.db.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", (self.run, n, row.kind, row.key, _dump(row.body)))
        except sqlite3.IntegrityError:
            raise LedgerError(f"Another process is writing the ledger {self.path}: wait for it, or give another file.")
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger {self.path} cannot be written ({error}): make room; what was written is safe.")

    def read(self) -> list[Row]:
        try:
            found = self.db.execute("SELECT kind, key, body FROM rows WHERE run = ? ORDER BY n", (self.run,)).fetchall()
            return [Row(kind, key, json.loads(body)) for kind, key, body in found]
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise LedgerError(f"The ledger {self.path} is damaged ({error}): restore it from a copy.")

    def close(self) -> None:
        self.db.close()


class _JsonLines:
    def __init__(self, path: Path, keep: int = 0) -> None:
        self.path = path
        try:
            self.file = path.open("ab")
            self.file.truncate(keep)
        except OSError as error:
            raise LedgerError(f"The ledger {path} cannot be opened ({error.strerror}): give a path that can be written.")

    def append(self, n: int, row: Row) -> None:
        try:
            self.file.write((_dump({"kind": row.kind, "key": row.key, "body": row.body}) + "\n").encode())
            self.file.flush()
        except OSError as error:
            raise LedgerError(f"The ledger {self.path} cannot be written ({error.strerror}): make room; what was written is safe.")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the failed flush was reported when it struck
            self.file.close()


def _dump(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=True)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as models and tools may give: only an escape can hold it
        return json.dumps(body, separators=(",", ":"), allow_nan=True)
    return text


def _read_lines(path: Path) -> tuple[list[Row], int]:
    """The rows of a JSON Lines file and how many bytes they take; a torn last line is left out."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"The ledger {path} cannot be read ({error.strerror}).")
    rows: list[Row] = []
    kept = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        whole = kept + len(line) < len(data)
        if not line.strip():
            kept += len(line) + whole
            continue
        try:
            row = json.loads(line)
            rows.append(Row(row["kind"], row["key"], row["body"]))
        except (ValueError, KeyError, AttributeError, TypeError):
            if not whole:
                break
            raise LedgerError(f"Line {number} of {path} is damaged: restore it from a copy, or cut the file before that line.")
        if not whole:
            rows.pop()  # no line end: it may be cut in a way that still parses
            break
        kept += len(line) + 1
    return rows, kept


def _is_sqlite(path: Path) -> bool:
    """Asked of SQLite itself: closing the file after a look of our own would take the locks of all this process's connections with it."""
    if not path.stat().st_size:
        return False
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as db:
            db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        return isinstance(error, sqlite3.OperationalError)  # it is one, and cannot be read now; else it is none
    return True


def create(path: str | Path, run: str = "0") -> Ledger:
    """A new ledger in a file that does not hold that run yet. Raises LedgerError."""
    path = Path(path)
    if path.exists() and path.stat().st_size and (path.suffix == ".jsonl" or not _is_sqlite(path) or read(path, run)):
        raise LedgerError(f"{path} exists: resume it, or give another file.")
    return Ledger([], _JsonLines(path) if path.suffix == ".jsonl" else _Sqlite(path, run))


def read(path: str | Path, run: str = "0") -> list[Row]:
    """The rows of one run in a file, as they were written. Raises LedgerError."""
    path = Path(path)
    if not path.is_file():
        raise LedgerError(f"There is no ledger {path}: give a file that --trace wrote.")
    if not _is_sqlite(path):
        return _read_lines(path)[0]
    store = _Sqlite(path, run)
    try:
        return store.read()
    finally:
        store.close()


def reopen(path: str | Path, run: str = "0") -> Ledger:
    """A ledger to go on with: its rows, and new ones appended to the same file. Raises LedgerError."""
    path = Path(path)
    rows = read(path, run)
    if not rows or rows[0].kind != "run":
        raise LedgerError(f"{path} holds no run: give a file that --trace wrote.")
    if _is_sqlite(path):
        return Ledger(rows, _Sqlite(path, run))
    return Ledger(rows, _JsonLines(path, _read_lines(path)[1]))


def plant(path: str | Path, run: str, rows: Iterable[Row]) -> None:
    """Begin a run in a SQLite file with rows of another, all of them or none. Raises LedgerError."""
    store = _Sqlite(Path(path), run)
    try:
        store.db.execute("BEGIN IMMEDIATE")
        for n, row in enumerate(rows):
            store.append(n, row)
        store.db.execute("COMMIT")
    except sqlite3.Error as error:
        raise LedgerError(f"The ledger {path} cannot be written ({error}): make room; what was written is safe.")
    finally:
        store.close()  # what was not committed is as if it had never been


def export(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as JSON Lines."""
    ledger = create(Path(path).with_suffix(".jsonl"))
    for row in rows:
        ledger.append(row.kind, row.key, row.body)
    ledger.close()


# ---------------------------------------------------------------- folds


def last(rows: Sequence[Row], kind: str) -> Mapping[str, Any] | None:
    """The body of the last row of a kind."""
    return next((row.body for row in reversed(rows) if row.kind == kind), None)


def effective(rows: Sequence[Row]) -> list[Row]:
    """The rows that count: where a stopped run was resumed, what the strategy did between the stop and the resumption is void.

    So are the failures that it ended with before it was resumed: they are tried again. Samples are never void, since they were paid; of
    two samples with one key, only the later answers.
    """
    kept: list[Row] = []
    stop: int | None = None
    for row in rows:
        if row.kind == "stop" and stop is None:
            stop = len(kept)
        if row.kind == "resume":
            if stop is not None:
                kept[stop:] = [r for r in kept[stop:] if r.kind == "sample"]
            failed = any(r.kind == "failed" for r in kept)
            kept = [r for r in kept if r.kind not in ("answer", "failed")]
            kept = _retried(kept) if failed else kept
            stop = None
        kept.append(row)
    return kept


def _retried(rows: list[Row]) -> list[Row]:
    """The rows without the failed ops at their end, and without what was asked of the clock after them."""
    ops = [i for i, row in enumerate(rows) if row.kind == "op"]
    late = next((n for n, i in enumerate(reversed(ops)) if rows[i].body["op"] != "Left"), 0)
    if late < len(ops) and "error" in rows[ops[-1 - late]].body:
        for _ in range(late):
            del rows[ops.pop()]
    while ops and "error" in rows[ops[-1]].body:
        del rows[ops.pop()]
    return rows


def bills(rows: Iterable[Row]) -> dict[str, Spend]:
    """What each role spent, from the samples. Seconds are summed over calls, many of which ran at once."""
    spent: dict[str, Spend] = {}
    for row in rows:
        if row.kind == "sample":
            role = row.body.get("by", "think")
            spent[role] = spent.get(role, Spend()) + Spend(**row.body.get("spend", {}))
    return spent


def tree(rows: Sequence[Row]) -> dict[str, Thought]:
    """Every thought of a run by its id, the root "0" and the outputs of tools among them."""
    question = next((r.body["question"] for r in rows if r.kind == "run"), None)
    if question is None:
        raise LedgerError("The ledger holds no question: it is not the record of a run.")
    nodes = {"0": root_of(question_from_json(question))}
    for row in rows:
        if node := thought_of(row, nodes):
            nodes[node.id] = node
    return nodes


def thought_of(row: Row, nodes: Mapping[str, Thought]) -> Thought | None:
    """The thought that a row brought, a tool's output too, hung under its parent where `nodes` has it."""
    body = row.body.get("made") if row.kind == "op" else row.body if row.kind == "sample" and "finish" in row.body else None
    if not body:
        return None
    return thought_from_json(row.key if row.kind == "sample" else f"{row.key}/0", body, nodes.get(body.get("parent", "")))
