"""Several benches in one file, and a bench without texts: the results of machines that share no disk, and what may be published.

What a bench without texts holds of each problem is its name and print, of each sample its answer, grade, scores and costs: enough for
curves, fits, exchange rates and comparisons. Questions, gold answers and ledgers are left out. A run of the same tasks goes on from it.
What a run's samples say is folded from its ledger anew, so that a bench of an older version gets what later ones read from it.
"""

from __future__ import annotations

import json
from pathlib import Path

from pondera import ledger
from pondera.bench.bank import is_bank
from pondera.bench.file import Bench
from pondera.bench.run import pool_of
from pondera.bench.spec import Cell
from pondera.errors import BadInput
from pondera.plain import question_to_json
from pondera.thought import Question

LEFT_OUT = Question.of("(This text was left out.)")
_BARE = json.dumps({"question": question_to_json(LEFT_OUT), "gold": "", "tests": "", "row": {}})


def merge(out: Bench, source: Path, *, texts: bool = True) -> int:
    """Put into `out` what a bench has that it lacks; says how many runs these are. What `out` has done stays as it is.

    A run is copied whole or not at all, so that a merge that was cut is done again. Raises BadInput where a task's name stands for two,
    LedgerError for a file that cannot be read or written.
    """
    if source.resolve() == out.path.resolve():
        raise BadInput(f"{source} would be merged with itself: give the others' files.")
    with Bench(source, new=False) as other:
        mine, theirs = (dict(bench.db.execute("SELECT name, body FROM tasks")) for bench in (out, other))
        for name in mine.keys() & theirs.keys():
            if mine[name] != theirs[name]:
                raise BadInput(
                    f"{out.path} knows a task {name!r} that is {mine[name]}, and in {source} it is {theirs[name]}: keep them apart."
                )
        with out.whole():
            out.db.executemany("INSERT OR IGNORE INTO tasks VALUES (?, ?)", theirs.items())
            for task, name, own, n, body in other.db.execute("SELECT task, id, print, n, body FROM problems"):
                row = (task, name, own, n, body if texts else _BARE)
                out.db.execute("INSERT OR IGNORE INTO problems VALUES (?, ?, ?, ?, ?)", row)
        out.enlist(other.cells())
        new = 0
        for cell in other.cells():
            for problem, state, owner, result, pool in other.db.execute(
                "SELECT problem, state, owner, result, pool FROM runs WHERE cell = ? AND state = 'done' ORDER BY problem", (cell.print,)
            ):
                if out.state(cell.print, problem) != "done":
                    _copy(out, other, cell, problem, (state, owner, result, pool), texts)
                    new += 1
    return new


def _copy(out: Bench, other: Bench, cell: Cell, problem: str, told: tuple[str, ...], texts: bool) -> None:
    out.shelve(cell.print, problem)  # what of it was begun here
    state, owner, result, pool = told
    if rows := other.rows(cell.print, problem):
        grades = {one["id"]: one["score"] for one in json.loads(pool)}
        anew = pool_of(rows, is_bank(cell))
        if grades.keys() == {one["id"] for one in anew}:
            pool = json.dumps([{k: v for k, v in one.items() if k != "text"} | {"score": grades[one["id"]]} for one in anew])
        if texts:
            ledger.plant(out.path, f"{cell.print}/{problem}", rows)
    with out.whole():
        out.db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", (cell.print, problem, state, owner, result, pool))
