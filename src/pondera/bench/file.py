"""The file of a bench: one SQLite file with its tasks, its ways to think, the ledger of every run and what came of each.

A run (a cell and a problem) is claimed by a process before it is begun, so several may share one file. A process is alive while it holds
the lock that its claims name; the system lets go of the lock when it dies, however it dies, and others take over what it had begun.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pondera import ledger
from pondera.bench.grading import Problem
from pondera.bench.spec import Cell
from pondera.errors import BadInput, LedgerError
from pondera.plain import question_from_json, question_to_json

VERSION = 1
BATCH = 1_000  # problems that are noted at once
_TABLES = """
CREATE TABLE IF NOT EXISTS bench (version INTEGER);
CREATE TABLE IF NOT EXISTS tasks (name TEXT PRIMARY KEY, body TEXT);
CREATE TABLE IF NOT EXISTS problems (task TEXT, id TEXT, print TEXT, n INTEGER, body TEXT, PRIMARY KEY (task, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_print ON problems (task, print);
CREATE TABLE IF NOT EXISTS cells (cell TEXT PRIMARY KEY, n INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS runs (
    cell TEXT, problem TEXT, state TEXT, owner TEXT, result TEXT, pool TEXT, PRIMARY KEY (cell, problem)
) WITHOUT ROWID;
"""
# A row of `runs` is open (claimed), done or failed.


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: figures by name (`right` and `tokens` among them), and the samples that it chose from."""

    problem: str
    state: str
    figures: Mapping[str, Any]
    pool: list[dict[str, Any]] = field(default_factory=list)


class Bench:
    """An open file. Raises LedgerError where it cannot be used, BadInput where it is something else."""

    def __init__(self, path: Path, *, new: bool = True) -> None:
        if not new and not path.is_file():
            raise BadInput(f"There is no bench {path}: give a file that `pondera bench run` wrote.")
        if path.suffix == ".jsonl":
            raise BadInput(f"{path} would hold JSON Lines, and a bench is a database: name it {path.with_suffix('.db')}.")
        self.path, self.owner = path, uuid.uuid4().hex[:12]
        self._lock = FileLock(self._alive(self.owner))
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        except sqlite3.Error as error:
            raise LedgerError(f"The bench {path} cannot be opened ({error}): give a path that can be written.")
        try:
            with self._told():
                self.db.execute("PRAGMA journal_mode=WAL")
                self.db.execute("PRAGMA synchronous=NORMAL")
                names = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if names and "bench" not in names:
                    raise BadInput(f"{path} is no bench: give a file that `pondera bench run` wrote, or a new name.")
                with self.whole():
                    for statement in _TABLES.split(";"):
                        self.db.execute(statement)
                    self.db.execute("INSERT INTO bench SELECT ? WHERE NOT EXISTS (SELECT 1 FROM bench)", (VERSION,))
                version = self.db.execute("SELECT version FROM bench").fetchone()
                if version != (VERSION,):
                    raise BadInput(f"{path} was written by another version of Pondera: give a new name.")
        except BaseException:
            self.db.close()
            raise

    def close(self) -> None:
        """Give back what was claimed and not done."""
        with contextlib.suppress(sqlite3.Error):
            if self._lock.is_locked:
                self.db.execute("UPDATE runs SET owner = '' WHERE owner = ? AND state = 'open'", (self.owner,))
        self.db.close()
        if self._lock.is_locked:
            self._lock.release()
            self._alive(self.owner).unlink(missing_ok=True)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            what = "make room, or give another file" if "full" in str(error) else "is it on a disk that can be written?"
            raise LedgerError(f"The bench {self.path} cannot be used ({error}): {what}; what was written is safe.")

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """All or nothing."""
        with self._told():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    # ------------------------------------------------------------ what is to be done

    def enter(self, name: str, text: str, problems: Iterable[Problem], whole: bool) -> tuple[int, int, int]:
        """Note a task and its problems, as they are now; say how many lines they are, how many problems, and how many of these are not what
        they were.

        A problem that was changed is another one: what came of it before is kept, and counts no more. With `whole` these are all problems
        that the task has, else its first ones. Raises BadInput where the name stands for another task.
        """
        with self.whole():
            old = self.db.execute("SELECT body FROM tasks WHERE name = ?", (name,)).fetchone()
            if old and old[0] != text:
                raise BadInput(f"{self.path} knows a task {name!r} that is {old[0]}, not {text}: rename the file, or give a new bench.")
            self.db.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", (name, text))
            before = dict(self.db.execute("SELECT id, print FROM problems WHERE task = ? AND n IS NOT NULL", (name,)))
        known, count, changed = set(before.values()), 0, 0
        numbered = enumerate(problems)  # read outside of a transaction: others write meanwhile
        while some := list(islice(numbered, BATCH)):
            with self.whole():
                for n, problem in some:
                    own = problem.print
                    changed += problem.id in before and own not in known
                    before.pop(problem.id, None)
                    row = (name, problem.id, own, n, json.dumps(_problem(problem), default=str))
                    self.db.execute("INSERT OR REPLACE INTO problems VALUES (?, ?, ?, ?, ?)", row)
            count += len(some)
        with self.whole():  # what stood at these places and is not there any more
            gone = "UPDATE problems SET n = NULL WHERE task = ? AND id = ? AND (? OR n < ?)"
            self.db.executemany(gone, ((name, one, whole, count) for one in before))
        query = "SELECT count(DISTINCT print) FROM problems WHERE task = ? AND n < ?"
        return count, int(self.db.execute(query, (name, count)).fetchone()[0]), changed

    def enlist(self, cells: Iterable[Cell]) -> None:
        with self.whole():
            for cell in cells:
                row = (cell.print, json.dumps(cell.to_json()))
                self.db.execute("INSERT OR IGNORE INTO cells VALUES (?, (SELECT count(*) FROM cells), ?)", row)

    # ------------------------------------------------------------ claims

    def _alive(self, owner: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{owner}.lock")

    def _dead(self, owner: str) -> bool:
        """Whether the process that claimed as `owner` is gone."""
        if not owner or owner == self.owner:
            return not owner
        place = self._alive(owner)
        if not place.exists():
            return True
        lock = FileLock(place)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        place.unlink(missing_ok=True)
        return True

    def claim(self, cell: str, problem: str) -> bool:
        """Whether this process may do a run now: nobody has done it, and nobody else is at it."""
        if not self._lock.is_locked:
            self._lock.acquire()
        with self.whole():
            old = self.db.execute("SELECT state, owner FROM runs WHERE cell = ? AND problem = ?", (cell, problem)).fetchone()
            if old and (old[0] == "done" or (old[0] == "open" and not self._dead(old[1]))):
                return False
            self.db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, 'open', ?, NULL, NULL)", (cell, problem, self.owner))
        return True

    def release(self, cell: str, problem: str) -> None:
        with self._told():
            self.db.execute("UPDATE runs SET owner = '' WHERE cell = ? AND problem = ? AND owner = ?", (cell, problem, self.owner))

    def save(self, cell: str, result: Result) -> None:
        row = (result.state, json.dumps(dict(result.figures)), json.dumps(result.pool), cell, result.problem)
        with self._told():
            self.db.execute("UPDATE runs SET state = ?, owner = '', result = ?, pool = ? WHERE cell = ? AND problem = ?", row)

    def record(self, cell: str, problem: str, begun: Callable[[], Sequence[ledger.Row]]) -> ledger.Ledger:
        """The ledger of a run, to be gone on with where it has been begun; a new one begins with the rows that `begun` gives."""
        run = f"{cell}/{problem}"
        if not ledger.read(self.path, run):
            if not (rows := begun()):
                return ledger.create(self.path, run)
            ledger.plant(self.path, run, rows)
        record = ledger.reopen(self.path, run)
        record.append("resume", "0", {})
        return record

    def shelve(self, cell: str, problem: str) -> None:
        """Put the ledger of a run aside, under a name of its own: the run begins anew."""
        run = f"{cell}/{problem}"
        if ledger.read(self.path, run):
            with self._told():
                self.db.execute("UPDATE rows SET run = ? WHERE run = ?", (f"{run}~{uuid.uuid4().hex[:12]}", run))

    # ------------------------------------------------------------ what is there

    def left(self, cell: Cell, n: int) -> list[str]:
        """Those of the first `n` problems of a cell's task that are not done, by their prints, in order; those that failed come last."""
        query = """SELECT p.print FROM problems p LEFT JOIN runs r ON r.problem = p.print AND r.cell = ?
            WHERE p.task = ? AND p.n < ? AND r.state IS NOT 'done' GROUP BY p.print ORDER BY r.state IS 'failed', min(p.n)"""
        with self._told():
            return [name for (name,) in self.db.execute(query, (cell.print, cell.task, n))]

    def state(self, cell: str, problem: str) -> str:
        """The state of a run, "" where nobody has begun it."""
        with self._told():
            found = self.db.execute("SELECT state FROM runs WHERE cell = ? AND problem = ?", (cell, problem)).fetchone()
        return str(found[0]) if found else ""

    def spent(self, cell: Cell) -> int:
        """Tokens that were generated for a cell's problems, done or not, and for runs that were put aside."""
        with self._told():
            begun = self.db.execute("SELECT problem, result FROM runs WHERE cell = ?", (cell.print,)).fetchall()
            have = self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone()
            aside = "SELECT DISTINCT run FROM rows WHERE substr(run, 1, ?) = ? AND instr(run, '~')"
            shelved = self.db.execute(aside, (len(cell.print), cell.print)).fetchall() if have else []
        told = [(ledger.read(self.path, f"{cell.print}/{problem}"), result) for problem, result in begun]
        told += [(ledger.read(self.path, run), None) for (run,) in shelved]
        bare = sum(int(json.loads(result)["tokens"]) for rows, result in told if result and not rows)  # of a bench without texts
        return bare + sum(one.tokens for rows, _ in told for one in ledger.bills(rows).values())

    def failed(self, cell: Cell) -> set[str]:
        with self._told():
            return {name for (name,) in self.db.execute("SELECT problem FROM runs WHERE cell = ? AND state = 'failed'", (cell.print,))}

    def problem(self, task: str, name: str) -> Problem:
        """A task's problem by its print."""
        with self._told():
            found = self.db.execute("SELECT id, body FROM problems WHERE task = ? AND print = ?", (task, name)).fetchone()
        body = json.loads(found[1])
        return Problem(found[0], question_from_json(body["question"]), body["gold"], body["tests"], body["row"])

    def cells(self) -> list[Cell]:
        with self._told():
            return [Cell.from_json(json.loads(body)) for (body,) in self.db.execute("SELECT body FROM cells ORDER BY n")]

    def results(self, cell: Cell, *, pools: bool = True) -> Iterator[Result]:
        """What came of a cell's runs, in the order of the problems; those of problems that were changed since are left out."""
        query = f"""SELECT r.problem, r.state, r.result, {"r.pool" if pools else "NULL"} FROM problems p
            JOIN runs r ON r.problem = p.print AND r.cell = ? WHERE p.task = ? AND p.n IS NOT NULL AND r.state != 'open'
            GROUP BY p.print ORDER BY min(p.n)"""  # noqa: S608
        with self._told():
            for problem, state, result, pool in self.db.execute(query, (cell.print, cell.task)):
                yield Result(problem, state, json.loads(result), json.loads(pool) if pool else [])

    def rows(self, cell: str, problem: str) -> list[ledger.Row]:
        """The ledger of one run, to be looked at."""
        return ledger.read(self.path, f"{cell}/{problem}")


def _problem(problem: Problem) -> dict[str, Any]:
    asked = question_to_json(problem.question)
    return {"question": asked, "gold": problem.gold, "tests": problem.tests, "row": dict(problem.row)}
