"""One budget for all problems of a task: nearly all of it is spent, and never more, whoever dies."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from pondera.bench.file import Bench
from pondera.bench.pacing import _curve
from pondera.bench.run import _figures
from pondera.bench.spec import Cell
from pondera.cli import main
from pondera.errors import BadInput
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.plan import replayed
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
    task = asyncio.ensure_future(benched(path, spec(file, AUTO, total_tokens=8_000, at_once=4), Fake(latency=0.002)))
    while not path.exists() or not _some(path):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
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


def _some(path: Path) -> bool:
    with Bench(path) as bench:
        return any(len(list(bench.results(cell, pools=False))) > 5 for cell in bench.cells())


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
