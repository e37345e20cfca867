"""`auto` beside every way to decide on one bank: accuracy against tokens, prompts with them, on the same orders of the same samples.

    python benchmarks/fronts.py coder.db --table qwen2.5-coder-0.5b --problems 100 --picture fronts.png

The first `--problems` of every task of the bank's strategies that only choose, one model's. Fixed votes (self-consistency), best-of-N and
the weighted vote by the verifiers that were recorded and by the table's, CISC, DeepConf (offline), Adaptive-Consistency and ESC are set
beside the stopping rule of `auto` under a calibrated table. For each baseline's settings it says with how many tokens `auto` is as right,
and the difference at equal tokens, paired by question. Then how well its chances and its spend were expected; its regret beside an oracle
that knows each question's curve; all questions under one budget beside an equal split; and the larger model's one chain at equal
operations, by fifths of difficulty. No model is called.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pondera.allocate import policies
from pondera.allocate.decide import TOGETHER
from pondera.allocate.learning import Learner
from pondera.allocate.paired import paired
from pondera.allocate.policies import Deck, Ends, Mind
from pondera.allocate.portfolio import Pace, equal, together
from pondera.allocate.posterior import chances
from pondera.allocate.resample import Floats, Ints, shuffles
from pondera.allocate.table import SORTS, Larger, Table, load
from pondera.bench.bank import FIFTHS, bank, draws
from pondera.bench.decks import decks
from pondera.bench.file import Bench, Result
from pondera.bench.grading import SURE
from pondera.models.known import KNOWN
from pondera.verifiers.alone import fit_of
from pondera.verifiers.calibration import ece

NS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
THRESHOLDS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
WINDOWS = (2, 3, 4, 5, 8)
WORTHS = tuple(float(x) for x in np.geomspace(60, 2e6, 28))
ALONE = 40.0  # the power of odds at which the surest sample outvotes all others
OURS = "auto"


@dataclass(frozen=True, slots=True)
class Way:
    """A policy's settings: right and tokens of each question. Shapes [questions, settings]."""

    right: Floats
    tokens: Floats

    @classmethod
    def of(cls, told: Sequence[tuple[Floats, Floats]]) -> Way:
        return cls(np.array([right for right, _ in told]), np.array([tokens for _, tokens in told]))

    def at(self, tokens: float) -> Floats:
        """Each question's chance at so many tokens in the mean, between two settings."""
        mean = self.tokens.mean(axis=0)
        order = np.argsort(mean)
        return np.array([np.interp(tokens, mean[order], row[order]) for row in self.right])

    def needs(self, right: float) -> float:
        """The fewest tokens in the mean at which so many are right; infinite where none do."""
        mean, good = self.tokens.mean(axis=0), self.right.mean(axis=0)
        order = np.argsort(mean)
        grid = np.linspace(mean.min(), mean.max(), 2000)
        reached = np.interp(grid, mean[order], np.maximum.accumulate(good[order])) >= right - 1e-12
        return float(grid[reached.argmax()]) if reached.any() else float("inf")


def banks(
    path: Path, model: str, problems: int, tasks: Sequence[str], asks: Sequence[str]
) -> list[tuple[str, list[Result], dict[str, Way]]]:
    """Each task's results, those that the verifiers `asks` have judged, and best-of-k and the weighted vote by each recorded verifier."""
    found: dict[str, list[Result]] = {}
    curves: dict[str, dict[str, Way]] = {}
    with Bench(path, new=False) as bench:
        for cell in bench.cells():
            if draws(cell) is None or cell.plan.model != model or (tasks and cell.task not in tasks):
                continue
            results = [one for one in bench.results(cell) if one.state == "done" and one.pool][:problems]
            whole = bank(cell, results)
            assert whole is not None
            opened = np.array([[sum(one.opening)] for one in decks(results)])
            named = {name: c for name, c in whole.curves.items() if name.startswith(("best-of-k by l", "best-of-k by o", "weighted"))}
            curves.setdefault(cell.task, {}).update((name, Way(c.right, c.tokens + opened)) for name, c in named.items())
            if all(ask in one["scores"] for result in results for one in result.pool if one["key"] is not None for ask in asks):
                found[cell.task] = results
    return [(task, results, curves[task]) for task, results in found.items()]


def chains(path: Path, task: str, model: str) -> dict[str, Result]:
    """The one answer of a larger model's `cot` to each problem, where the bank has it."""
    with Bench(path, new=False) as bench:
        cells = [cell for cell in bench.cells() if (cell.task, cell.plan.model, cell.plan.strategy) == (task, model, "cot")]
        return {one.problem: one for cell in cells for one in bench.results(cell) if one.state == "done" and one.pool}


def drawn_of(some: Sequence[Deck], n: int, count: int) -> list[Ints]:
    """The same random orders of each deck's samples, whoever asks."""
    return [shuffles(n, count, np.random.default_rng((7, i))) for i in range(len(some))]


def ways(some: list[Deck], plain: list[Deck], table: Table, count: int) -> tuple[dict[str, Way], dict[float, list[Ends]]]:
    """Every policy on some decks, `plain` ones where nobody judges and nothing is paid for that, and how `auto` ended at every worth."""
    n = min(len(one.options) for one in some)
    ns = [k for k in NS if k <= n]
    orders = drawn_of(some, n, count)
    both, bare = list(zip(some, orders, strict=True)), list(zip(plain, orders, strict=True))
    told = {
        "self-consistency": [policies.fixed(deck, drawn, ns) for deck, drawn in bare],
        "CISC": [policies.cisc(deck, drawn, ns) for deck, drawn in bare],
        "DeepConf": [policies.deepconf(deck, drawn, ns) for deck, drawn in bare],
        "Adaptive-Consistency": [policies.adaptive(deck, drawn, THRESHOLDS, n) for deck, drawn in bare],
        "ESC": [policies.early(deck, drawn, [w for w in WINDOWS if w <= n], n) for deck, drawn in bare],
    }
    told |= {
        f"{name} by the table's verifier": [policies.fixed(deck, drawn, ns, np.exp(power * deck.evidence)) for deck, drawn in both]
        for name, power in (("best-of-N", ALONE), ("weighted vote", 1.0))
    }
    found = {name: Way.of([(one.right, one.tokens) for one in each]) for name, each in told.items()}
    mind, costs = Mind(table.belief, np.random.default_rng(0)), tuple(table.costs.values())
    ended = {w: [policies.ends(deck, drawn, 1 / w, n, mind, TOGETHER, costs, len(SORTS)) for deck, drawn in both] for w in WORTHS}
    right = np.array([[one.right.mean() for one in ended[w]] for w in WORTHS]).T
    tokens = np.array([[one.tokens.mean() for one in ended[w]] for w in WORTHS]).T
    return found | {OURS: Way(right, tokens)}, ended


def nearest(worths: Iterable[float], worth: float) -> float:
    """The one of some worths that is nearest to another, by its logarithm."""
    return min(worths, key=lambda one: abs(math.log(one / worth)))


def head(title: str, *columns: str) -> None:
    print(f"\n{title}\n")
    line(*columns)
    line(*["---"] * len(columns))


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def gap_of(a: Floats, b: Floats) -> tuple[str, str]:
    """B minus A, paired, and its interval."""
    gap = paired(a, b).difference
    return f"{gap.value:+.1%}", f"{gap.low:+.1%} to {gap.high:+.1%}"


def show(title: str, told: dict[str, Way]) -> None:
    ours = told[OURS]
    head(f"### {title}: {len(ours.right)} questions", "policy", "tokens: right")
    for name, way in told.items():
        pairs = sorted(zip(way.tokens.mean(axis=0), way.right.mean(axis=0), strict=True))
        line(name, ", ".join(f"{x:,.0f}: {y:.1%}" for x, y in pairs))
    head("Settings of the baselines", "baseline", "tokens", "right", "auto is as right with", "saves", "auto at equal tokens", "95 %")
    for name, way in told.items():
        count, best = way.right.shape[1], int(way.right.mean(axis=0).argmax())
        for i in dict.fromkeys([best, count // 2, count // 4, count - 1]) if name != OURS else ():
            tokens, good = float(way.tokens[:, i].mean()), float(way.right[:, i].mean())
            need = ours.needs(good)
            times = f"{tokens / need:.1f} times" if np.isfinite(need) else "never"
            line(name, f"{tokens:,.0f}", f"{good:.1%}", f"{need:,.0f}", times, *gap_of(way.right[:, i], ours.at(tokens)))


def quarter(told: dict[str, Way]) -> None:
    """The dearest setting of each baseline beside `auto` with a quarter and an eighth of its tokens."""
    head("With a quarter of the tokens, and with an eighth", "baseline", "tokens", "right", "a quarter", "95 %", "an eighth", "95 %")
    for name, way in told.items():
        if name != OURS:
            tokens, good = float(way.tokens[:, -1].mean()), way.right[:, -1]
            line(name, f"{tokens:,.0f}", f"{good.mean():.1%}", *(x for part in (4, 8) for x in gap_of(good, told[OURS].at(tokens / part))))


def calibration(title: str, ended: dict[float, list[Ends]], table: Table) -> None:
    """Predicted chance against outcome, and predicted spend against spent, at each effort."""
    head(
        f"{title}: what was expected",
        "effort",
        "worth",
        "tokens",
        "right",
        "expected",
        "calibration error",
        "of true chances",
        "spent within its 90 % interval",
    )
    for effort, worth in table.efforts.items():
        near = nearest(ended, worth)
        chance, right, tokens, first = (policies.pooled(ended[near], part) for part in ("chance", "right", "tokens", "first"))
        told = [table.expected(near, float(one)) for one in first]
        inside = [spread[0] <= spent <= spread[2] for spread, spent in zip(told, tokens, strict=True) if spread]
        error = ece(chance.tolist(), (right >= 0.5).tolist()) or 0.0
        least = luck([one.chance for one in ended[near]])
        figures = f"{right.mean():.1%}", f"{chance.mean():.1%}", f"{error:.3f}", f"{least:.3f}", f"{np.mean(inside):.1%}"
        line(effort, f"{near:,.0f}", f"{tokens.mean():,.0f}", *figures)


def regret(title: str, some: list[Deck], ended: dict[float, list[Ends]], worths: Sequence[float], count: int) -> None:
    """What an oracle gains that knows each question's curves (votes over both sorts, chains first, programs first), as a share of a right
    answer's worth, by fifths."""
    head(f"{title}: regret", "worth", *FIFTHS, "all")
    n = min(len(one.options) for one in some)
    orders = drawn_of(some, n, count)
    ways_to_draw = (lambda deck, drawn: drawn, lambda deck, drawn: by(deck, drawn, 0), lambda deck, drawn: by(deck, drawn, 1))
    curves = [
        [policies.fixed(deck, way(deck, drawn), range(1, n + 1)) for way in ways_to_draw] for deck, drawn in zip(some, orders, strict=True)
    ]
    for worth in worths:
        near = nearest(ended, worth)
        best = np.array([max((one.right - one.tokens / near).max() for one in each) for each in curves])
        gap = best - np.array([(one.right - one.tokens / near).mean() for one in ended[near]])
        line(f"{near:,.0f}", *(f"{gap[where].mean():+.1%}" for where in parts(some)), f"{gap.mean():+.1%}")


def by(deck: Deck, drawn: Ints, kind: int) -> Ints:
    """The orders with all samples of one kind first."""
    return np.take_along_axis(drawn, np.argsort(deck.kind[drawn] != kind, axis=1, kind="stable"), axis=1)


def parts(some: Sequence[Deck]) -> list[Ints]:
    """Questions by fifths of how many of their samples are right, the easiest first."""
    rate = [-float(np.mean([option >= 0 and deck.right[option] for option in deck.options])) for deck in some]
    return [np.asarray(where, dtype=np.int64) for where in np.array_split(np.argsort(rate, kind="stable"), len(FIFTHS))]


def shared(title: str, some: list[Deck], table: Table, alone: Way, count: int) -> None:
    """One budget for all questions beside an equal split of it, and beside each question under one worth."""
    columns = (
        "tokens a question",
        "equal split",
        "together",
        "difference",
        "95 %",
        "a plan's gap to its bound",
        "in a row",
        "one worth for all",
    )
    head(f"{title}: one budget", *columns)
    mind, costs = Mind(table.belief, np.random.default_rng(0)), tuple(table.costs.values())
    for each in (300, 600, 1200, 2400):
        ours, split, gaps, row = [], [], list[float](), []
        for seed in range(count):
            orders = [np.random.default_rng((seed, i)).permutation(len(deck.options)) for i, deck in enumerate(some)]
            told = together(some, orders, each * len(some), mind, costs)
            ours.append(told.right)
            split.append(equal(some, orders, each * len(some), mind).right)
            gaps.append(told.gap)
            row.append(in_a_row(some, orders, each * len(some), mind, costs, table, seed))
        a, b = np.mean(split, axis=0), np.mean(ours, axis=0)
        gap = "never reached" if np.isnan(gaps).all() else f"{np.nanmean(gaps):.2%}"
        line(f"{each:,}", f"{a.mean():.1%}", f"{b.mean():.1%}", *gap_of(a, b), gap, f"{np.mean(row):.1%}", f"{alone.at(each).mean():.1%}")


def in_a_row(some: list[Deck], orders: list[Ints], total: float, mind: Mind, costs: Sequence[float], table: Table, seed: int) -> float:
    """The share right of questions that come one after another, eight at a time, under one budget."""
    pace, going, right = Pace(total, len(some), table.rising), list[tuple[int, float, float]](), 0.0
    for i in np.random.default_rng(seed).permutation(len(some)):
        while len(going) == 8 or (begun := pace.begin()) is None:
            pace.end(*going.pop(0))
        cap, worth = begun
        one = policies.ends(some[i], orders[i][None], 1 / worth, len(orders[i]), mind, TOGETHER, costs, len(SORTS))
        going.append((cap, worth, min(float(cap), float(one.tokens[0]))))
        right += float(one.right[0]) if one.tokens[0] <= cap else 0.0
    return right / len(some)


def learning(title: str, tasks: list[list[Deck]], table: Table, count: int) -> None:
    """Predicted chance against outcome where each task's outcomes are told after each question; every task in random orders."""
    head(
        f"{title}: what was expected, learning from outcomes",
        "effort",
        "tokens",
        "right",
        "expected",
        "calibration error",
        "of true chances",
        "by task",
        "without",
    )
    minds, costs = dict[tuple[float, ...], Mind](), tuple(table.costs.values())
    for effort, worth in table.efforts.items():
        told = {learns: [list[tuple[int, float, float, float]]() for _ in tasks] for learns in (True, False)}
        for learns, seed, (t, some) in itertools.product(told, range(count), enumerate(tasks)):
            learner = Learner()
            for i in np.random.default_rng((seed, t)).permutation(len(some)):
                moves = tuple(round(one, 1) for one in learner.learned) if learns else (0.0, 0.0)
                belief = table.belief.moved(*moves)
                mind = minds.setdefault(moves, Mind(belief, np.random.default_rng(0)))
                order = np.random.default_rng((seed, i)).permutation(len(some[i].options))[None]
                end = policies.ends(some[i], order, 1 / worth, order.size, mind, TOGETHER, costs, len(SORTS))
                kinds = [np.flatnonzero(some[i].kind[order[0]] == kind) for kind in range(len(SORTS))]
                seen = policies.dealt(some[i], [order[:, places] for places in kinds], end.hands)
                plain = chances(table.belief, seen)[0]
                best = float(plain.max(initial=0.0))
                learner.hear(best, float(plain.sum()) - best, bool(end.right[0] >= 0.5))
                told[learns][t].append((i, float(end.chance[0]), float(end.right[0]), float(end.tokens[0])))
        every = {learns: list(itertools.chain(*parts)) for learns, parts in told.items()}
        errors = {learns: [error_of(each) for each in (every[learns], *parts)] for learns, parts in told.items()}
        _, chance, right, tokens = np.mean(every[True], axis=0)
        by_task = ", ".join(f"{one:.3f}" for one in errors[True][1:])
        apart = [np.array([row[1] for row in part if row[0] == i]) for part in told[True] for i in sorted({row[0] for row in part})]
        figures = f"{tokens:,.0f}", f"{right:.1%}", f"{chance:.1%}", f"{errors[True][0]:.3f}", f"{luck(apart):.3f}"
        line(effort, *figures, by_task, f"{errors[False][0]:.3f}")


def error_of(told: Sequence[tuple[int, float, float, float]]) -> float:
    return ece([row[1] for row in told], [row[2] >= 0.5 for row in told]) or 0.0


def luck(chance: Sequence[Floats], count: int = 40) -> float:
    """The calibration error that chances come to, those of each question in an array, when all of them are true and each question has one
    outcome: no belief can do better on so few."""
    rng, each = np.random.default_rng(0), np.concatenate(chance)
    draws = [np.concatenate([rng.random() < one for one in chance]) for _ in range(count)]
    return float(np.mean([ece(each.tolist(), draw.tolist()) or 0.0 for draw in draws]))


def against(title: str, some: list[Deck], ours: Way, names: list[str], large: dict[str, Result], model: str, small: str) -> None:
    """The larger model's one answer and `auto` at equal operations, 2 x parameters x tokens, by fifths of difficulty."""
    both = [i for i, name in enumerate(names) if name in large]
    if not both:
        return
    ratio = KNOWN[model].parameters / KNOWN[small].parameters
    chain = np.array([float(large[names[i]].pool[0]["score"] >= SURE) for i in both])
    tokens = float(np.mean([large[names[i]].pool[0]["tokens"] + large[names[i]].pool[0]["prompt"] for i in both]))
    mine = Way(ours.right[both], ours.tokens[both]).at(ratio * tokens)
    head(
        f"{title}: {model}'s chain of {tokens:,.0f} tokens, auto with {ratio * tokens:,.0f}", "fifth", "chain", "auto", "difference", "95 %"
    )
    for name, where in [*zip(FIFTHS, parts([some[i] for i in both]), strict=True), ("all", np.arange(len(both)))]:
        line(name, f"{chain[where].mean():.1%}", f"{mine[where].mean():.1%}", *gap_of(chain[where], mine[where]))


def asking(title: str, ended: dict[float, list[Ends]], answers: list[Result | None], table: Table, model: str) -> None:
    """`auto` that may ask the larger model for its one chain, by the table, or by the guess for two that nobody has measured."""
    ratio = KNOWN[model].parameters / KNOWN[table.model].parameters
    larger = table.larger.get(model, replace(Larger(), times=ratio))
    both = [(i, one) for i, one in enumerate(answers) if one]
    good = np.array([float(one.pool[0]["score"] >= SURE) for _, one in both])
    price = ratio * np.array([one.pool[0]["tokens"] + one.pool[0]["prompt"] for _, one in both])
    head(f"{title}: {model} asked where it pays", "worth", "alone: tokens", "right", "asking: tokens", "right", "asked", f"{model} always")
    for worth, ends in ended.items():
        chance, right, tokens = (np.array([getattr(ends[i], part) for i, _ in both]) for part in ("chance", "right", "tokens"))
        asked = worth * np.vectorize(larger.gain)(chance) > larger.price
        told = np.where(asked, good[:, None], right), tokens + asked * price[:, None]
        always = f"{price.mean():,.0f}: {good.mean():.1%}"
        figures = f"{tokens.mean():,.0f}", f"{right.mean():.1%}", f"{told[1].mean():,.0f}", f"{told[0].mean():.1%}"
        line(f"{worth:,.0f}", *figures, f"{asked.mean():.0%}", always)


def draw(path: Path, told: dict[str, Way]) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 6))
    colours = map(pyplot.get_cmap("tab20"), [*range(0, 20, 2), *range(1, 20, 2)])
    for name, way in sorted(told.items(), key=lambda one: -one[1].right.max()):
        x, y = way.tokens.mean(axis=0), 100 * way.right.mean(axis=0)
        order = np.argsort(x)
        colour, width, over = ("black", 2.5, 3) if name == OURS else (next(colours), 1.2, 2)
        axes.plot(x[order], y[order], marker="o", markersize=3, label=name, color=colour, linewidth=width, zorder=over)
    axes.set(xscale="log", xlabel="tokens a question, prompts with them", ylabel="right, %")
    axes.set_xticks(ticks := [200, 300, 500, 1000, 2000, 3000], [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--table", required=True, help="a model whose table comes with Pondera, or a file of `pondera calibrate`")
    parser.add_argument("--task", action="append", default=[], help="only this task; may be given again")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--orders", type=int, default=16)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--large", default="qwen2.5-coder-1.5b", help="the larger model, whose `cot` the bank has too")
    given = parser.parse_args()
    table = load(given.table)
    judge = fit_of(given.table) if table.verifier else None
    found: list[dict[str, Way]] = []
    every: list[Deck] = []
    tasks: list[list[Deck]] = []
    answers: list[Result | None] = []
    ends: dict[float, list[Ends]] = {}
    for task, results, recorded in banks(given.bench, table.model, given.problems, given.task, judge.asks if judge else ()):
        some = decks(results, judge)
        told, ended = ways(some, decks(results), table, given.orders)
        told |= recorded
        show(task, told)
        calibration(task, ended, table)
        regret(task, some, ended, list(table.efforts.values()), given.orders)
        large = chains(given.bench, task, given.large)
        against(task, some, told[OURS], [one.problem for one in results], large, given.large, table.model)
        answers += [large.get(one.problem) for one in results]
        found.append(told)
        every += some
        tasks.append(some)
        for worth, each in ended.items():
            ends.setdefault(worth, []).extend(each)
    names = [name for name in found[0] if all(name in part for part in found)]
    mixed = {name: Way(*(np.concatenate([getattr(part[name], one) for part in found]) for one in ("right", "tokens"))) for name in names}
    show("the mix", mixed)
    quarter(mixed)
    calibration("the mix", ends, table)
    regret("the mix", every, ends, list(table.efforts.values()), given.orders)
    if any(answers):
        asking("the mix", ends, answers, table, given.large)
    learning("the mix", tasks, table, 4)
    shared("the mix", every, table, mixed[OURS], 4)
    if given.picture:
        draw(given.picture, mixed)


if __name__ == "__main__":
    main()
