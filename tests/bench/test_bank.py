"""What a bench's samples tell without a model: curves, replays, comparisons, exchange rates, the report."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from pondera.allocate.resample import best
from pondera.allocate.returns import Worth, returns
from pondera.bench import page
from pondera.bench.bank import ADAPTIVE, MAJORITY, PASS, Pool, bank, curve, draws, is_bank, points
from pondera.bench.compare import compare, ways
from pondera.bench.exchange import exchange
from pondera.bench.file import Bench, Result
from pondera.bench.grading import SURE
from pondera.bench.replay import SPENT, replay
from pondera.bench.report import Options, gather
from pondera.bench.spec import Cell
from pondera.bench.tables import rates, tables, write
from pondera.errors import BadInput
from pondera.ledger import tree
from pondera.models.fake import Fake
from pondera.plan import Plan
from pondera.thought import Budget, Price
from pondera.verifiers.learned import load
from pondera.verifiers.signals import signals
from tests.bench.helpers import CHAINS, benched, spec, sums

RECORDED = Path(__file__).parents[3] / "shared/data/recorded_math_rm.jsonl"
MIXED = "mean(of='learned, confidence')"
near = pytest.approx


@pytest.fixture
async def made(tmp_path: Path) -> Path:
    """A bench of the fake model: twelve sums, in three ways."""
    file = sums(tmp_path / "sums.jsonl")
    await benched(tmp_path / "b.db", spec(file, "cot", CHAINS, "best_of(n=6, over='chains', by='confidence')"))
    return tmp_path / "b.db"


async def test_curves_begin_at_one_sample_and_end_at_what_was_run(made: Path) -> None:
    with Bench(made) as bench:
        cell = ways(bench, CHAINS)[0]
        results = list(bench.results(cell))
        told = bank(cell, results)
    assert told is not None
    assert (told.n, len(told.problems), told.others) == (6, 12, 0)
    samples = [[one["score"] >= SURE for one in result.pool] for result in results]
    assert told.curves[PASS].mean()[0] == near(fmean(fmean(each) for each in samples))
    assert told.curves[PASS].mean()[-1] == near(fmean(any(each) for each in samples))
    assert told.curves[MAJORITY].right[:, -1] == near([result.figures["right"] for result in results])  # as the strategy itself chose
    assert told.curves[MAJORITY].tokens[:, -1] == near([result.figures["tokens"] for result in results])
    assert (np.diff(told.curves[ADAPTIVE].mean("tokens")) >= 0).all()


async def test_best_of_k_by_a_verifier_ends_at_what_was_run(made: Path) -> None:
    with Bench(made) as bench:
        cell = ways(bench, "best_of(n=6, over='chains', by='confidence')")[0]
        results = list(bench.results(cell))
        told = bank(cell, results)
    assert told is not None
    assert told.curves["best-of-k by confidence"].right[:, -1] == near([result.figures["right"] for result in results])


@pytest.mark.skipif(not RECORDED.exists(), reason="needs the recorded samples of a real model, which are no part of the project")
def test_curves_of_real_samples_agree_with_a_direct_count() -> None:
    """100 problems x 8 real samples with a real reward model's scores: every subset is counted."""
    ks, counted, told_of = np.arange(1, 9), np.zeros(8), np.zeros(8)
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    for i, row in enumerate(rows):
        samples = row["samples"]
        right, scores = [bool(s["correct"]) for s in samples], [float(s["reward"]) for s in samples]
        keys = [str(s["answer"]) for s in samples]
        ones = np.ones(len(samples))
        pool = Pool(keys, np.array(right), ones, ones, ones, ones, {"reward": scores})
        told = points(pool, ks, np.random.default_rng(i), ["reward"])
        for k in ks:
            subsets = list(combinations(range(8), int(k)))
            assert told[PASS][0][k - 1] == near(fmean(any(right[j] for j in some) for some in subsets))
            chosen = [right[max(some, key=lambda j: scores[j])] for some in subsets]
            counted[k - 1] += fmean(_voted(keys, right, some) for some in subsets) / len(rows)
            told_of[k - 1] += told[MAJORITY][0][k - 1] / len(rows)
            if len(set(scores)) == 8:
                assert told["best-of-k by reward"][0][k - 1] == near(fmean(chosen))
    assert told_of == near(counted, abs=0.004)  # the votes, which are averaged over random orders


def _voted(keys: list[str], right: list[bool], some: tuple[int, ...]) -> float:
    """Whether the vote of some samples is right; equals share, since all are trusted alike."""
    counts = Counter(keys[i] for i in some)
    top = [key for key, votes in counts.items() if votes == max(counts.values())]
    return fmean(float(fmean(r for r, other in zip(right, keys, strict=True) if other == key) > 0.5) for key in top)


async def test_a_replay_of_all_samples_is_the_run_itself_and_of_one_their_mean(made: Path) -> None:
    with Bench(made) as bench:
        cell = ways(bench, CHAINS)[0]
        results = list(bench.results(cell))
        whole = [one async for one in replay(bench, cell, Plan(strategy=CHAINS), Budget(), 3)]
        single = [one async for one in replay(bench, cell, Plan(strategy="cot"), Budget(), 40)]
        more = [one async for one in replay(bench, cell, Plan(strategy="vote(n=7, over='chains')"), Budget(), 1)]
        cut = [one async for one in replay(bench, cell, Plan(strategy=CHAINS), Budget(tokens=5), 1)]
    assert [one.right for one in whole] == [one.figures["right"] for one in results]
    assert [one.tokens for one in whole] == [one.figures["tokens"] for one in results]
    assert fmean(one.right for one in single) == near(fmean(c["score"] for one in results for c in one.pool), abs=0.05)
    assert {one.error for one in more} == {SPENT}
    assert all(one.tokens <= 5 for one in cut)


async def test_a_replay_waits_for_the_shortest_alone_where_the_first_to_end_are_enough(made: Path) -> None:
    with Bench(made) as bench:
        cell = ways(bench, CHAINS)[0]
        told = [one async for one in replay(bench, cell, Plan(strategy="vote(n=6, over='chains', first=2)"), Budget(), 2)]
        samples = [[row.body for row in bench.rows(cell.print, one.problem) if row.kind == "sample"] for one in told]
    ends = [sorted(one["tokens"] for one in some if one["finish"] == "done") for some in samples]
    assert [one.tokens for one in told] == [
        sum(min(one["tokens"], end[1]) for one in some) for some, end in zip(samples, ends, strict=True)
    ]
    assert sum(one.tokens for one in told) < sum(one["tokens"] for some in samples for one in some)


async def test_the_first_to_end_are_no_bank(tmp_path: Path) -> None:
    """They are the shortest: no curve is drawn of them, and no other strategy takes them for its own samples."""
    file = sums(tmp_path / "sums.jsonl")
    await benched(tmp_path / "f.db", spec(file, "vote(n=6, over='chains', first=2)", "best_of(n=6, over='chains', by='confidence')"))
    with Bench(tmp_path / "f.db") as bench:
        few, all_ = (ways(bench, text)[0] for text in ("vote(n=6, over='chains', first=2)", "best_of(n=6, over='chains', by='confidence')"))
        assert (is_bank(few), draws(few), is_bank(all_)) == (False, None, True)
        assert {len(one.pool) for one in bench.results(few)} == {2}
        assert {one.figures["shared"] for one in bench.results(all_)} == {0}


async def test_a_change_is_judged_in_pairs(made: Path, tmp_path: Path) -> None:
    [(task, a, b, told)] = compare(f"{made}:cot", f"{made}:{CHAINS}")
    assert (task, told.problems) == ("sums", 12)
    assert (a, b) == ("fake, cot", f"fake, {CHAINS}")
    assert told.b >= told.a
    file = tmp_path / "sums.jsonl"
    await benched(tmp_path / "c.db", spec(file, "cot", CHAINS), Fake(["It is \\boxed{0}."]))
    found = compare(str(made), str(tmp_path / "c.db"))
    assert [one[1] for one in found] == ["fake, cot", f"fake, {CHAINS}"]
    assert all(told.b == 0 for *_, told in found)
    with pytest.raises(BadInput, match="no way to think 'cat'; it has: cot"):
        compare(f"{made}:cat", str(made))
    with pytest.raises(BadInput, match="no problem in common"):
        compare(f"{made}:cot", f"{made}:cot")


async def larger(made: Path, tmp_path: Path) -> tuple[Cell, list[Result]]:
    """A larger model's single answers: always right."""
    cells = await benched(
        tmp_path / "large.db",
        replace(spec(tmp_path / "sums.jsonl", "cot"), models=("large",)),
        Fake(lambda op, i, seed: f"\\boxed{{{sum(map(int, re.findall('[0-9]+', op.node.about.text)))}}}"),
    )
    with Bench(tmp_path / "large.db") as bench:
        return cells[0], list(bench.results(cells[0]))


async def test_operations_are_two_for_each_parameter_and_token_computed(made: Path, tmp_path: Path) -> None:
    dear, theirs = await larger(made, tmp_path)
    with Bench(made) as bench:
        cell = ways(bench, CHAINS)[0]
        mine = list(bench.results(cell))
    small, large = bank(cell, mine), bank(dear, theirs)
    assert small is not None
    assert large is not None
    told = exchange(small, mine, large, theirs, {"fake": 10.0, "large": 1000.0})
    assert (told.problems, told.single.value) == (12, 1.0)
    spent = fmean(one.figures["prompt"] + one.figures["tokens"] for one in theirs)
    assert told.flops == near(2 * 1000 * spent)
    vote = next(rate for rate in told.rates if rate.way == MAJORITY)
    own = fmean(one.figures["tokens"] + one.figures["prompt"] for one in mine)  # the fake model has no cache
    if vote.samples is None:
        assert vote.flops == near(2 * 10 * own / told.flops)
    assert vote.uncached >= vote.flops * (1 - 1e-9)
    assert json.dumps(list(rates(told)), allow_nan=False)
    with pytest.raises(BadInput, match="How many parameters large has is not known"):
        exchange(small, mine, large, theirs, {"fake": 10.0})


# ---------------------------------------------------------------- the report


async def test_a_page_holds_all_and_fetches_nothing(made: Path, tmp_path: Path) -> None:
    options = Options(worth=Worth(0.01), prices={"fake": Price(1.0, 4.0)}, sizes={})
    with Bench(made) as bench:
        told = gather(bench, options)
        text = page.page(bench, told, options)
    assert "majority@k" in text
    assert "Where fake" in text
    assert "accuracy for money" in text  # at the price that was given
    assert text.count("<svg") >= 5
    assert not re.search(r"<script|<link|src=|@import|url\((?!#)", text)
    assert not re.search(r'(href|xlink:href)="(?!#)', text)
    assert "prefers-color-scheme: dark" in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))  # no picture takes another's clip


async def test_what_a_model_says_cannot_enter_the_page(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 3)
    nasty = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \\boxed{<b>1</b>}"
    await benched(tmp_path / "b.db", spec(file), Fake([nasty]))
    options = Options(prices={}, sizes={})
    with Bench(tmp_path / "b.db") as bench:
        text = page.page(bench, gather(bench, options), options)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


async def test_names_of_pictures_are_files_names_and_each_its_own(tmp_path: Path) -> None:
    tasks = []
    for name in ("数学", "物理"):
        sums(tmp_path / f"{name}.jsonl", 3)
        tasks.append(str(tmp_path / f"{name}.jsonl"))
    wanted = replace(spec(tmp_path / "x", "cot", CHAINS), tasks=tuple(tasks), models=("org/model@http://localhost:1/v1",), seeds=(0, 1))
    await benched(tmp_path / "b.db", wanted)
    with Bench(tmp_path / "b.db") as bench:
        told = gather(bench, Options(prices={}, sizes={}))
    names = [picture.name for some in told.pictures.values() for picture in some]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]{1,120}", name) for name in names)


async def test_a_label_with_dollars_is_no_formula(tmp_path: Path) -> None:
    from pondera.bench.draw import Spot, pareto

    spots = [Spot("a $x_^$ b", 1.0, 0.5, 0.4, 0.6), Spot("$", 2.0, 0.6, 0.5, 0.7)]
    assert "<svg" in pareto("name", "A $_^$ title <b>", spots, "tokens", [5]).svg()
    assert "Not all" not in pareto("name", "Even", spots, "tokens", [5, 5]).caption
    assert "Not all were asked the same problems: 5 to 9" in pareto("name", "Uneven", spots, "tokens", [9, 5]).caption


async def test_a_model_that_is_not_there_is_named(made: Path) -> None:
    with Bench(made) as bench, pytest.raises(BadInput, match=r"has no model 'faek', did you mean 'fake'\?"):
        gather(bench, Options(prices={"faek": Price(1, 2)}, sizes={}))


async def test_judges_are_paid_at_the_price_of_whoever_judges(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl")
    [cell] = await benched(tmp_path / "b.db", spec(file, "vote(n=6, over='chains', by='judge')"))
    with Bench(tmp_path / "b.db") as bench:
        told = bank(cell, bench.results(cell), {"fake": Price(1.0, 4.0)})
    assert told is not None
    assert told.curves["weighted vote by judge"].mean("usd")[-1] > told.curves[MAJORITY].mean("usd")[-1]
    assert told.curves["weighted vote by judge"].mean("tokens")[-1] > told.curves[MAJORITY].mean("tokens")[-1]


async def test_what_judges_answers_beside_each_other_is_shown_k_and_no_more(tmp_path: Path) -> None:
    """best-of-k by `learned` at each k is the mean over all subsets, each judged by itself: its scores of n know more."""
    way = "best_of(n=4, over='both', by='learned')"
    file = sums(tmp_path / "sums.jsonl", 8)
    await benched(tmp_path / "b.db", spec(file, way, f"best_of(n=4, by={MIXED!r})"))
    fit, direct, leaky = load("qwen2.5-coder-0.5b"), [], []
    with Bench(tmp_path / "b.db") as bench:
        learned, duels = bench.cells()
        results = list(bench.results(learned))
        for result in results:
            rows = bench.rows(learned.print, result.problem)
            nodes, told = tree(rows), {one["id"]: one for one in result.pool}

            def chosen(some: tuple[str, ...], nodes: Any = nodes, told: Any = told) -> float:
                shown = [name for name in some if told[name]["scores"]]
                keys = [told[name]["key"] for name in shown]
                chances = fit.chance(signals([nodes[name] for name in shown], keys)) if shown else []
                ranked = [
                    (chance, told[name]["trust"], name) for chance, name, key in zip(chances, shown, keys, strict=True) if key is not None
                ]
                tops = [name for chance, trust, name in ranked if (chance, trust) == max(ranked)[:2]]
                return fmean(told[name]["score"] for name in tops) if tops else 0.0

            direct.append([fmean(chosen(some) for some in combinations(told, k)) for k in range(1, 5)])
            leaky.append(best([one["score"] for one in result.pool], [one["scores"].get("learned", -1.0) for one in result.pool]))
        made, pairs = (bank(cell, bench.results(cell)) for cell in (learned, duels))
    assert made is not None
    assert pairs is not None
    curve = made.curves["best-of-k by learned"].right
    assert np.abs(curve - np.array(direct)).max() < 0.1  # of orders drawn by chance, for one problem
    assert np.abs(curve - np.array(direct)).mean() < 0.012
    assert np.abs(np.array(leaky) - np.array(direct)).mean() > 0.012, "the difference would not be seen"
    assert curve[:, -1] == near([result.figures["right"] for result in results])
    assert (made.undrawn, pairs.undrawn) == ([], [MIXED])


def one_pool(scores: list[float | None], trust: list[float]) -> Pool:
    n = len(scores)
    ones = np.ones(n)
    return Pool(["a", "b", "a"][:n], np.array([True, False, True][:n]), np.array(trust), ones, ones, ones, {"v": scores})


def test_best_of_k_chooses_as_the_strategy_does() -> None:
    """Equals by trust; who was judged before who was not; where nobody was, the majority."""
    rng, ks = np.random.default_rng(0), np.arange(1, 3)
    assert points(one_pool([1.0, 1.0], [0.9, 0.1]), ks, rng, ["v"])["best-of-k by v"][0].tolist() == [0.5, 1.0]
    assert points(one_pool([None, 0.1], [0.9, 0.1]), ks, rng, ["v"])["best-of-k by v"][0].tolist() == [0.5, 0.0]
    told = points(one_pool([None, None], [0.9, 0.1]), ks, rng, ["v"])
    assert told["best-of-k by v"][0].tolist() == told[MAJORITY][0].tolist()


def test_empty_replies_are_no_matter(tmp_path: Path) -> None:
    zeros = np.zeros(4)
    pool = Pool([None] * 4, np.zeros(4, dtype=bool), np.ones(4), zeros, zeros, zeros)
    told = points(pool, np.arange(1, 5), np.random.default_rng(0))
    assert told[ADAPTIVE][4].tolist() == [4.0] * 6
    assert returns(curve(MAJORITY, [told[MAJORITY]] * 6)).fit is not None


async def test_tables_hold_what_the_page_shows(made: Path, tmp_path: Path) -> None:
    with Bench(made) as bench:
        told = gather(bench, Options(prices={}, sizes={}))
    found = tables(told)
    assert found["cells"]["way"] == ["cot", CHAINS, "best_of(n=6, over='chains', by='confidence')"]
    assert len(found["problems"]["problem"]) == 36
    write(told, tmp_path / "t")
    with (tmp_path / "t/curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["curve"] for row in rows} >= {PASS, MAJORITY, ADAPTIVE}
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "t/curves.parquet").num_rows == len(rows)


def test_an_empty_bench_has_no_report(tmp_path: Path) -> None:
    with Bench(tmp_path / "b.db") as bench, pytest.raises(BadInput, match="has no results yet: run it first"):
        gather(bench, Options(prices={}, sizes={}))
