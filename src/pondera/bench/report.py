"""The report of a bench: all that is known of every way to think, and its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pondera.allocate.returns import Returns, Worth, returns
from pondera.bench import draw
from pondera.bench.bank import ADAPTIVE, MAJORITY, PASS, TRUST, Bank, bank, draws, is_bank
from pondera.bench.draw import Picture, Single, Spot
from pondera.bench.exchange import Exchange, exchange, parameters
from pondera.bench.file import Bench, Result
from pondera.bench.spec import Cell
from pondera.bench.summary import summary
from pondera.errors import BadInput
from pondera.parse import nearest
from pondera.plain import digest
from pondera.thought import Price

MOST = 100  # problems of a cell whose trees are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a report is asked: what answers are worth, prices and sizes of models by name, and how many problems are shown whole."""

    worth: Worth | None = None
    prices: Mapping[str, Price]
    sizes: Mapping[str, float]
    problems: int = MOST
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A cell with its results, and its bank and returns where its samples make one."""

    cell: Cell
    told: Mapping[str, Any]
    results: Sequence[Result]
    bank: Bank | None
    returns: Mapping[str, Returns]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows, by task."""

    name: str
    tasks: Mapping[str, Sequence[Shown]]
    exchanges: Sequence[tuple[Exchange, Picture]]
    pictures: Mapping[str, Sequence[Picture]]
    worth: Worth | None


def gather(bench: Bench, options: Options) -> Report:
    """Read a bench and reckon all that its report shows. Raises BadInput where nothing is done yet."""
    tasks: dict[str, list[Shown]] = {}
    cells = bench.cells()
    known = {text for cell in cells for text in cell.plan.roles().values()}
    for name in (*options.prices, *options.sizes):
        if name not in known:
            raise BadInput(f"{bench.path} has no model {name!r}{nearest(name, dict.fromkeys(known))}; it has: {', '.join(sorted(known))}.")
    for cell in cells:
        results = list(bench.results(cell))
        if (told := summary(cell, results, options.prices))["done"]:
            tasks.setdefault(cell.task, []).append(_shown(cell, told, results, options))
    if not tasks:
        raise BadInput(f"{bench.path} has no results yet: run it first, as in pondera bench run --out {bench.path}.")
    exchanges = [one for some in tasks.values() for one in _exchanges(some, options)]
    pictures = {task: list(_pictures(task, some)) for task, some in tasks.items()}
    return Report(bench.path.stem, tasks, exchanges, pictures, options.worth)


def _shown(cell: Cell, told: Mapping[str, Any], results: Sequence[Result], options: Options) -> Shown:
    made = bank(cell, results, options.prices, options.seed) if is_bank(cell) else None
    if made is None or made.n < 2:
        return Shown(cell, told, results, made, {})
    return Shown(cell, told, results, made, {name: returns(one, options.worth, seed=options.seed) for name, one in made.curves.items()})


# ---------------------------------------------------------------- pictures


def _file(*parts: str) -> str:
    """A name for a file: the letters and digits of what it is of, and a print of the whole, since letters may be all alike."""
    plain = "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)
    return f"{plain[:70].strip('-')}-{digest(parts)[:6]}"


def _spots(shown: Sequence[Shown], axis: str) -> Iterator[Spot]:
    """Every way to think of a task: each cell as it was run, and each point of its curves but those of pass@k, which no one can have."""
    for one in shown:
        model, told = one.cell.plan.model, one.told
        yield Spot(f"{model}, {one.cell.label}", told[axis], told["accuracy"], told["low"], told["high"])
        for name, each in one.returns.items():
            if name != PASS:
                for x, spent, at in zip(each.curve.x, each.curve.mean(axis), each.band, strict=True):
                    yield Spot(f"{model}, {_over(one.cell)}{_with(name, x)}", float(spent), at.value, at.low, at.high)


def _with(name: str, x: float) -> str:
    """A curve's name at one of its points."""
    named = name.replace("@k", f"@{x:.3g}").replace("of-k", f"of-{x:.3g}")
    return named if named != name else f"{name}, {x:.3g} samples"


def _over(cell: Cell) -> str:
    found = re.search(r"over='(\w+)'", cell.plan.strategy)
    return f"{found[1]}, " if found else ""


def _pictures(task: str, shown: Sequence[Shown]) -> Iterator[Picture]:
    for axis, what in (("tokens", "tokens"), ("seconds", "time"), ("usd", "money")):
        spots = list(_spots(shown, axis))
        if len(spots) > 1 and all(spot.cost > 0 for spot in spots):
            counts = [one.told["done"] for one in shown]
            yield draw.pareto(_file(task, "front", axis), f"The front: accuracy for {what}", spots, axis, counts)
    for one in shown:
        if one.bank and one.returns:
            who = f"{one.cell.plan.model}, {one.cell.label}"
            name = _file(task, one.cell.plan.model, one.cell.label)
            yield draw.curves(f"{name}-returns", f"Returns of {who}", _foremost(one.returns))
            if one.bank.fifths:
                yield draw.fifths(f"{name}-fifths", f"By difficulty: {who}", one.bank.fifths)
    for model in dict.fromkeys(one.cell.plan.model for one in shown):
        mine = [one for one in shown if one.cell.plan.model == model][: len(draw.LIGHT)]
        each = {one.cell.label: np.array([r.figures["seconds"] for r in one.results if r.state == "done"]) for one in mine}
        shared = max(r.figures.get("at_once", 1) for one in mine for r in one.results)
        yield draw.latencies(_file(task, model, "latency"), f"How long problems took: {model}", each, shared)


def _foremost(found: Mapping[str, Returns]) -> list[Returns]:
    """As many curves as a chart can hold: the plain ones, then those of verifiers with the highest ends."""
    plain = [name for name in (PASS, MAJORITY, TRUST, ADAPTIVE) if name in found]
    others = sorted((name for name in found if name not in plain), key=lambda name: -found[name].band[-1].value)
    return [found[name] for name in (plain + others)[: len(draw.LIGHT)]]


def _exchanges(shown: Sequence[Shown], options: Options) -> Iterator[tuple[Exchange, Picture]]:
    """Each larger model's single answer beside each smaller model's banks; models whose size is not known are left out."""
    sized: list[tuple[float, Shown, Bank]] = []
    for one in shown:
        if one.bank:
            try:
                sized.append((parameters(one.cell.plan.model, options.sizes), one, one.bank))
            except BadInput:
                continue
    for size, small, mine in sized:
        if not small.returns:
            continue
        seen = set()
        for larger, large, theirs in sized:
            if (alike := (large.cell.plan.model, repr(draws(large.cell) or large.cell.label))) in seen:
                continue  # the same samples, chosen from in another way
            seen.add(alike)
            if larger > size and len(set(mine.problems) & set(theirs.problems)) > 1:
                try:
                    made = exchange(mine, small.results, theirs, large.results, options.sizes, options.seed)
                except BadInput:  # a judge of unknown size
                    continue
                yield made, _exchanged(made, small, large)


def _exchanged(made: Exchange, small: Shown, large: Shown) -> Picture:
    lines = {one.curve.name: made.lines[one.curve.name] for one in _foremost(small.returns) if one.curve.name != PASS}
    name = _file(made.task, made.small, small.cell.label, "for", made.large, large.cell.label)
    title = f"{made.small} that thinks, {made.large} that does not"
    return draw.exchanged(name, title, made.small, lines, Single(made.large, made.flops, made.single.value))
