"""A report as one HTML page.

It holds all that it shows, and nothing on it comes from elsewhere or runs: pictures are SVG, what opens and closes is HTML's own. What
models said is untrusted, and escaped.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pondera import __version__
from pondera.bench import draw
from pondera.bench.file import Bench, Result
from pondera.bench.grading import SURE
from pondera.bench.report import Options, Report, Shown
from pondera.bench.spec import Cell
from pondera.errors import BadInput
from pondera.intervals import Interval
from pondera.ledger import Row, tree

LETTERS = 1_500  # of a thought on the page
DEEPEST = 100  # thoughts below each other on the page


def page(bench: Bench, report: Report, options: Options) -> str:
    """The whole report as one HTML page."""
    try:
        from jinja2 import Environment, PackageLoader
    except ImportError:
        raise BadInput("jinja2 is not here: install it with pip install 'pondera[bench]'.")
    world = Environment(loader=PackageLoader("pondera.bench", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    world.filters |= {"percent": lambda share: f"{share:.1%}", "number": _number, "span": _span}
    about = {"version": __version__, "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "letters": LETTERS}
    colours = {"light": draw.LIGHT, "dark": draw.DARK}
    drills = {task: [_drill(bench, one, options.problems) for one in shown] for task, shown in report.tasks.items()}
    return world.get_template("report.html").render(report=report, about=about, colours=colours, drills=drills)


def _number(value: float) -> str:
    """As people write it: three digits that count, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _span(found: Interval | None, percent: bool = False) -> str:
    if found is None:
        return "none seen"
    value, low, high = ((f"{one:.1%}" if percent else _number(one)) for one in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Node:
    """A thought of a tree on the page."""

    id: str
    head: str
    text: str
    children: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Drill:
    """One problem of a cell: what was asked, what was said how often, and the tree."""

    id: str
    question: str
    gold: str
    right: bool
    key: str | None
    rate: float
    answers: Sequence[tuple[str, int, bool]]
    tree: Sequence[Node]


def _drill(bench: Bench, shown: Shown, most: int) -> Sequence[Drill]:
    return [_problem(bench, shown.cell, one) for one in shown.results[:most] if one.state == "done"]


def _problem(bench: Bench, cell: Cell, result: Result) -> Drill:
    problem = bench.problem(cell.task, result.problem)
    counts = Counter((one["key"], one["score"] >= SURE) for one in result.pool)
    answers = [(key if key is not None else "no answer", times, right) for (key, right), times in counts.most_common()]
    rate = sum(one["score"] >= SURE for one in result.pool) / max(1, len(result.pool))
    right = {one["id"]: one["score"] >= SURE for one in result.pool}
    gold = problem.gold or problem.tests
    figures = result.figures
    rows = bench.rows(cell.print, result.problem)
    return Drill(problem.id, problem.question.text, gold, figures["right"] >= SURE, figures["key"], rate, answers, _tree(rows, right))


def _tree(rows: Sequence[Row], right: Mapping[str, bool]) -> Sequence[Node]:
    """The thoughts of a run, hung under each other; a candidate says whether it is right."""
    children: dict[str, list[str]] = {}
    nodes = tree(rows) if rows else {}  # none in a bench without texts
    for node in nodes.values():
        if node.parent is not None:
            children.setdefault(node.parent.id, []).append(node.id)

    def built(name: str, depth: int = 1) -> Node:
        node = nodes[name]
        verdict = "" if name not in right else ", right" if right[name] else ", wrong"
        head = f"{name}: {node.tool or node.finish}, {node.tokens:,} tokens{verdict}"
        text = "\n\n".join(part for part in (node.said, node.thinking, node.text) if part)
        return Node(name, head, text, [built(child, depth + 1) for child in children.get(name, ()) if depth < DEEPEST])

    return [built(child) for child in children.get("0", ())]
