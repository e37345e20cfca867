"""What ties problems together: one budget is nearly all spent, and never more, whoever dies; outcomes guide what comes after them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import random
import re
import sqlite3
from pathlib import Path

import pytest

from pondera.bench.file import Bench
from pondera.bench.run import _figures
from pondera.bench.spec import Cell
from pondera.bench.turns import _curve, believed
from pondera.cli import main
from pondera.errors import BadInput, ModelError
from pondera.ledger import Ledger, Row
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.plan import Plan, replayed
from pondera.thought import Question
from tests.bench.helpers import benched, spec, sums

AUTO = "auto(max_tokens=64)"


def taken(path: Path, cell: Cell) -> list[int]:
    with Bench(path, new=False) as bench:
        return [one.figures["tokens"] for one in bench.results(cell)]


@pytest.mark.parametrize("strategy", [AUTO, "vote(n=16, over='chains', max_tokens=64)", "refine(max_tokens=64)"])
@pytest.mark.parametrize("at_once", [1, 8])
async def test_all_problems_together_take_no_more_than_the_total(tmp_path: Path, strategy: str, at_once: int) -> None:
    file = sums(tmp_path / "sums.jsonl", 30)
    [cell] = await benched(tmp_path / "b.db", spec(file, strategy, total_tokens=6_000, at_once=at_once))
    told = taken(tmp_path / "b.db", cell)
    assert len(told) == 30
    assert sum(told) <= 6_000
    assert cell.label == f"{strategy}, 6,000 tokens for all"


async def test_auto_spends_the_total_whatever_the_model_costs(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 60)
    for total in (6_000, 12_000):
        [cell] = await benched(tmp_path / f"{total}.db", spec(file, AUTO, total_tokens=total))
        assert 0.75 * total < sum(taken(tmp_path / f"{total}.db", cell)) <= total


async def test_each_run_is_recorded_with_what_it_was_given(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 12)
    [cell] = await benched(tmp_path / "b.db", spec(file, AUTO, total_tokens=4_000))
    with Bench(tmp_path / "b.db", new=False) as bench:
        records = [Ledger(bench.rows(cell.print, one.problem)) for one in bench.results(cell)]
        for record in records:
            question, plan, budget, seed = replayed(record)
            assert plan.worth > 0
            assert budget.tokens <= 4_000
            again = await plan.run({}, budget, seed).solve(question, plan.strategy_of(), ledger=Ledger(list(record.rows)))
            assert again.spend.tokens == _figures(record.rows)["tokens"]


async def test_a_bench_that_was_ended_goes_on_with_what_is_left(tmp_path: Path) -> None:
    file, path = sums(tmp_path / "sums.jsonl", 40), tmp_path / "b.db"
    await stopped(path, file, AUTO, 8_000)
    with Bench(path, new=False) as bench:
        [cell] = bench.cells()
        begun, done = bench.spent(cell), len(list(bench.results(cell)))
    assert 0 < begun < 8_000
    assert done < 40
    await benched(path, spec(file, AUTO, total_tokens=8_000, at_once=4))
    told = taken(path, cell)
    assert len(told) == 40
    with Bench(path, new=False) as bench:
        assert sum(told) == bench.spent(cell) <= 8_000
    assert not list(tmp_path.glob("*.lock"))


ANSWERED = "kind = 'op' AND body LIKE '%Expand%' AND run IN (SELECT cell || '/' || problem FROM runs WHERE state = 'open')"


def _some(path: Path) -> bool:
    """Whether some problems are done, and one that is not has samples."""
    with Bench(path) as bench:
        done = any(len(list(bench.results(cell, pools=False))) > 5 for cell in bench.cells())
    with contextlib.closing(sqlite3.connect(path)) as db:
        return done and bool(db.execute(f"SELECT 1 FROM rows WHERE {ANSWERED}").fetchone())


async def test_two_processes_do_not_share_one_budget(tmp_path: Path) -> None:
    file, wanted = sums(tmp_path / "sums.jsonl", 10), Fake(latency=0.01)
    first = asyncio.ensure_future(benched(tmp_path / "b.db", spec(file, AUTO, total_tokens=4_000), wanted))
    while not wanted.asked:
        await asyncio.sleep(0.01)
    with pytest.raises(BadInput, match="kept by one process"):
        await benched(tmp_path / "b.db", spec(file, AUTO, total_tokens=4_000))
    await first


async def test_a_total_that_is_too_small_says_how_much_is_needed(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 10)
    with pytest.raises(BadInput, match="give 640 at least"):
        await benched(tmp_path / "b.db", spec(file, AUTO, total_tokens=639))


def test_a_table_says_what_questions_cost_and_what_nobody_measured_is_guessed() -> None:
    for table in ("", "none", "qwen2.5-coder-0.5b"):
        told = _curve(table)
        assert len(told) > 3
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(told))


def test_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sums(tmp_path / "sums.jsonl", 8)
    out = ["bench", "run", "--task", str(file), "-m", "fake", "-s", "auto", "--out", str(tmp_path / "b.db"), "--json"]
    assert main([*out, "--total-tokens", "3000"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told["label"] == "auto, 3,000 tokens for all"
    assert 8 * told["tokens"] <= 3000
    for given, said in ((("0",), "allows nothing"), (("9000", "--on", "ray"), "kept by one process")):
        assert main([*out, "--total-tokens", *given]) == 2
        assert said in capsys.readouterr().err


def shifts(path: Path, cell: Cell) -> list[float]:
    with Bench(path, new=False) as bench:
        return [replayed(Ledger(bench.rows(cell.print, one.problem)))[1].shift for one in bench.results(cell)]


async def test_outcomes_say_how_hard_a_task_is_and_the_belief_follows(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 30)
    for off, sign in ((7, -1), (0, 1)):

        def reply(op: Expand, index: int, seed: int, off: int = off) -> str:
            total = off + sum(map(int, re.findall(r"\d+", op.node.about.text)))
            return f"\nprint({total})\n```" if op.force else f"We add them. \\boxed{{{total}}}"

        path = tmp_path / f"{off}.db"
        [cell] = await benched(path, spec(file, AUTO, learn=True, at_once=1), Fake(reply))
        found = [sign * shift for shift in shifts(path, cell)]
        assert found[0] == 0
        assert all(before <= after for before, after in itertools.pairwise(found))
        assert found[-1] > 0.7
        with Bench(path, new=False) as bench:
            results = list(bench.results(cell))
        chances = [one.figures["confidence"] for one in results]
        assert (chances[-1] - chances[0]) * sign > 0.1
        record = Ledger(bench_rows(path, cell, results[-1].problem))
        question, plan, budget, seed = replayed(record)
        again = await plan.run({}, budget, seed).solve(question, plan.strategy_of(), ledger=record)
        assert again.confidence == chances[-1]


def bench_rows(path: Path, cell: Cell, problem: str) -> list[Row]:
    with Bench(path, new=False) as bench:
        return bench.rows(cell.print, problem)


async def test_what_was_learned_is_there_when_a_bench_goes_on(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 24)
    [cell] = await benched(tmp_path / "whole.db", spec(file, AUTO, learn=True, at_once=1))
    await benched(tmp_path / "b.db", spec(file, AUTO, learn=True, at_once=1, n=10))
    await benched(tmp_path / "b.db", spec(file, AUTO, learn=True, at_once=1))
    assert shifts(tmp_path / "b.db", cell) == shifts(tmp_path / "whole.db", cell)
    assert len(set(shifts(tmp_path / "b.db", cell))) > 12


def test_only_what_can_learn_is_another_way_to_think_by_learning() -> None:
    told = spec(Path("s.jsonl"), AUTO, "vote(n=4)", learn=True)
    assert [cell.learn for cell in told.cells(("s",))] == [True, False]
    auto, vote = told.cells(("s",))
    plain = next(iter(spec(Path("s.jsonl"), AUTO).cells(("s",))))
    assert auto.print != plain.print
    assert Cell.from_json(auto.to_json()) == auto
    assert (auto.label, vote.label) == (f"{AUTO}, learning", "vote(n=4)")


async def stopped(path: Path, file: Path, strategy: str, total: int) -> None:
    """A bench that is ended in its midst."""
    task = asyncio.ensure_future(benched(path, spec(file, strategy, total_tokens=total, at_once=4), Fake(latency=0.002)))
    while not path.exists() or not _some(path):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_run_that_begins_anew_has_no_second_budget(tmp_path: Path) -> None:
    file, path = sums(tmp_path / "sums.jsonl", 30), tmp_path / "b.db"
    await stopped(path, file, AUTO, 6_000)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute(f'UPDATE rows SET body = replace(body, \'"print"\', \'"print": "x", "was"\') WHERE {ANSWERED}').rowcount
        db.commit()
    [cell] = await benched(path, spec(file, AUTO, total_tokens=6_000))
    told = taken(path, cell)
    assert len(told) == 30
    with Bench(path, new=False) as bench:
        assert sum(told) < bench.spent(cell) <= 6_000, "what was shelved has been paid"


async def test_a_small_total_can_be_gone_on_with_and_a_bench_without_texts_too(tmp_path: Path) -> None:
    file, path = sums(tmp_path / "sums.jsonl", 30), tmp_path / "b.db"
    await stopped(path, file, AUTO, 30 * 66)
    assert main(["bench", "merge", str(tmp_path / "bare.db"), str(path), "--without-texts"]) == 0
    for one in (path, tmp_path / "bare.db"):
        [cell] = await benched(one, spec(file, AUTO, total_tokens=30 * 66))
        told = taken(one, cell)
        assert len(told) == 30
        with Bench(one, new=False) as bench:
            assert sum(told) <= bench.spent(cell) <= 30 * 66


def test_a_problem_for_which_nothing_was_left_is_wrong_and_no_hindrance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, path = sums(tmp_path / "sums.jsonl", 12), tmp_path / "b.db"
    long = Fake(lambda op, index, seed: "We count on and on. " * 200)
    [cell] = asyncio.run(benched(path, spec(file, "auto(max_tokens=512)", total_tokens=12 * 66), long))
    with Bench(path, new=False) as bench:
        none = [one for one in bench.results(cell) if not one.figures["calls"]]
    assert none
    assert all((one.state, one.figures["right"]) == ("done", 0.0) for one in none)
    assert main(["bench", "replay", str(path), "--strategy", "vote(n=2)"]) == 0
    assert main(["bench", "show", str(path)]) == 0
    assert "Traceback" not in capsys.readouterr().err


async def test_a_failed_run_of_auto_is_tried_again(tmp_path: Path) -> None:
    file, path = sums(tmp_path / "sums.jsonl", 4), tmp_path / "b.db"
    down, well = Fake(lambda op, index, seed: ModelError("down")), Fake()
    [cell] = await benched(path, spec(file, AUTO), down)
    await benched(path, spec(file, AUTO), well)
    with Bench(path, new=False) as bench:
        assert [one.state for one in bench.results(cell)] == ["done"] * 4
    assert well.asked


def test_what_a_second_costs_is_another_way_to_think_at_another_price() -> None:
    told = [next(iter(spec(Path("s"), "auto(latency_cost=0.01)", price=price).cells(("s",)))) for price in ("0.1,0.4", "10,40")]
    assert told[0].print != told[1].print


def log_odds(chance: float | None, none: float) -> float:
    assert chance is not None
    return math.log(chance / none)


async def test_the_belief_is_told_apart_from_what_was_learned(tmp_path: Path) -> None:
    record, plan = Ledger(), Plan(model="fake", strategy=AUTO, shift=1.5)
    same = Fake(lambda op, index, seed: "\nprint(7)\n```" if op.force else "So it is \\boxed{7}.")
    answer = await plan.run({"think": same}).solve(Question.of("What is it?"), plan.strategy_of(), ledger=record)
    plain = believed(record.rows, draft=False)
    assert plain is not None
    assert plain[1] == 0
    assert log_odds(answer.confidence, 1 - (answer.confidence or 0)) - log_odds(plain[0], 1 - plain[0]) == pytest.approx(1.5)
    split, record = Fake(lambda op, index, seed: f"\\boxed{{{random.Random(seed).choice((1, 2, 3))}}}" if not op.force else "x"), Ledger()
    plan = Plan(model="fake", strategy="auto(most=8, effort='max')", shift=0.5, steep=0.4)
    answer = await plan.run({"think": split}).solve(Question.of("What is it?"), plan.strategy_of(), ledger=record)
    plain, offer = believed(record.rows, draft=False), [row.body for row in record.rows if row.kind == "offer"][-1]
    assert plain is not None
    assert plain[1] > 0
    assert offer["confidence"] == answer.confidence
    none, before = 1 - offer["confidence"] - offer["others"], 1 - sum(plain)
    assert log_odds(answer.confidence, none) == pytest.approx(math.exp(0.4) * log_odds(plain[0], before) + 0.5)
