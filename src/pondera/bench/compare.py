"""Which of two ways to think is better, on the problems that both have done."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pondera.allocate.paired import Paired, paired
from pondera.bench.file import Bench
from pondera.bench.spec import Cell
from pondera.errors import BadInput


def ways(bench: Bench, name: str = "") -> list[Cell]:
    """The cells of a bench that a text names: by their label, their strategy, their model or their print. Raises BadInput for none."""
    cells = bench.cells()
    found = [cell for cell in cells if not name or name in (cell.label, cell.plan.strategy, cell.plan.model, cell.print)]
    if not cells:
        raise BadInput(f"{bench.path} holds nothing yet: run it first.")
    if not found:
        raise BadInput(f"{bench.path} has no way to think {name!r}; it has: {'; '.join(dict.fromkeys(cell.label for cell in cells))}.")
    return found


def compare(a: str, b: str) -> list[tuple[str, str, str, Paired]]:
    """Task, A's and B's names, and the test, of every pair: `FILE.db` or `FILE.db:WAY`, cells of one task being compared.

    Where both have several ways for a task, those with one label are. Raises BadInput where there is nothing to compare.
    """
    with ExitStack() as stack:
        (first, ones), (second, others) = (_open(stack, text) for text in (a, b))
        pairs = [(one, other) for one in ones for other in others if one.task == other.task]
        tasks = {one.task for one, _ in pairs}
        single = all(sum(one.task == task for one, _ in pairs) == 1 for task in tasks)
        if not single:
            pairs = [(one, other) for one, other in pairs if one.label == other.label and one.plan.model == other.plan.model]
        found = [made for one, other in pairs if (made := _pair(first, one, second, other))]
    if not found:
        raise BadInput(f"{a} and {b} have no problem in common in ways that could be paired: name one of each, as in bench.db:cot.")
    return found


def _open(stack: ExitStack, text: str) -> tuple[Bench, list[Cell]]:
    path, name = (text, "") if Path(text).exists() else text.partition(":")[::2]
    bench = stack.enter_context(Bench(Path(path), new=False))
    return bench, ways(bench, name)


def _pair(first: Bench, one: Cell, second: Bench, other: Cell) -> tuple[str, str, str, Paired] | None:
    a, b = _rights(first, one), _rights(second, other)
    common = sorted(set(a) & set(b))
    if not common or (first.path == second.path and one.print == other.print):
        return None
    told = paired(np.array([a[name] for name in common]), np.array([b[name] for name in common]))
    return one.task, f"{one.plan.model}, {one.label}", f"{other.plan.model}, {other.label}", told


def _rights(bench: Bench, cell: Cell) -> dict[str, float]:
    return {one.problem: one.figures["right"] for one in bench.results(cell, pools=False) if one.state == "done"}
