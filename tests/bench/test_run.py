"""A bench is durable: nothing lost, nothing paid twice, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pondera.bench.file import Bench
from pondera.bench.grading import SURE
from pondera.bench.run import enlist
from pondera.bench.spec import Spec
from pondera.errors import BadInput, ModelError, ModelUnavailable
from pondera.models.fake import Fake
from pondera.ops import Expand
from tests.bench.helpers import CHAINS, benched, dump, spec, sums


async def test_every_problem_is_thought_about_in_every_way(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl")
    cells = await benched(tmp_path / "b.db", spec(file, "cot", CHAINS, budgets=({}, {"tokens": 40})))
    assert [cell.label for cell in cells] == ["cot", "cot, 40 tokens", CHAINS, f"{CHAINS}, 40 tokens"]
    with Bench(tmp_path / "b.db") as bench:
        for cell in cells:
            results = list(bench.results(cell))
            assert [one.state for one in results] == ["done"] * 12
            assert all(one.figures["tokens"] <= 40 for one in results if "40" in cell.label)
        pool = next(iter(bench.results(cells[2]))).pool
        assert len(pool) == 6
        assert sum(one["score"] >= SURE for one in pool) > 0
        assert all(one["tokens"] > 0 and 0 < one["trust"] <= 1 for one in pool)


async def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    file, model = sums(tmp_path / "sums.jsonl"), Fake()
    await benched(tmp_path / "b.db", spec(file, n=5), model)
    before = len(model.asked)
    await benched(tmp_path / "b.db", spec(file, n=5), model)
    assert len(model.asked) == before
    await benched(tmp_path / "b.db", spec(file), model)  # more problems of the same task
    assert len(model.asked) == before / 5 * 12


async def test_a_problem_that_was_changed_is_another_one(tmp_path: Path) -> None:
    file, model = sums(tmp_path / "sums.jsonl", 4), Fake()
    await benched(tmp_path / "b.db", spec(file), model)
    file.write_text(file.read_text().replace("What is 2 +", "How much is 2 +"))
    with Bench(tmp_path / "b.db") as bench:
        listed = enlist(bench, spec(file))
        assert list(listed.changed.values()) == [1]
        assert list(listed.left.values()) == [1]
    [cell] = await benched(tmp_path / "b.db", spec(file), model)
    with Bench(tmp_path / "b.db") as bench:
        assert len(list(bench.results(cell))) == 4


async def test_another_seed_gives_other_samples_and_the_same_one_the_same(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        await benched(tmp_path / f"{name}.db", spec(file, seeds=(seed,)))
    a, b, c = (dump(tmp_path / f"{name}.db") for name in "abc")
    assert a == b
    assert [one["samples"] for one in a.values()] != [one["samples"] for one in c.values()]


async def test_ways_to_choose_share_their_samples(tmp_path: Path) -> None:
    file, model = sums(tmp_path / "sums.jsonl"), Fake()
    ways = (CHAINS, "vote(n=6, over='chains', by='confidence')", "best_of(n=6, over='chains')", "best_of(n=6, over='chains', by='judge')")
    cells = await benched(tmp_path / "b.db", spec(file, *ways), model)
    assert sum(op.n for op in model.asked if op.by == "think") == 12 * 6
    assert sum(op.n for op in model.asked if op.by == "judge") > 0
    with Bench(tmp_path / "b.db") as bench:
        first, *others = (list(bench.results(cell)) for cell in cells)
        texts = [[row.body["text"] for row in bench.rows(cell.print, first[0].problem) if row.kind == "sample"][:6] for cell in cells]
    assert all(one == texts[0] for one in texts)
    assert all(one.figures["shared"] == 0 for one in first)
    assert [one.figures["shared"] for one in others[0]] == [one.figures["tokens"] for one in first]
    assert [one.figures["tokens"] for one in others[0]] == [one.figures["tokens"] for one in first]  # each bill is that of a run alone
    await benched(tmp_path / "b.db", spec(file, "vote(n=5, over='chains')"), model)
    assert sum(op.n for op in model.asked if op.by == "think") == 12 * 11


class Flaky(Fake):
    """Fails for some questions."""

    async def sample(self, op: Expand, seeds: Sequence[int]):  # type: ignore[no-untyped-def, override]
        if "What is 3 " in op.node.about.text or "What is 4 " in op.node.about.text:
            raise ModelError("the wire broke")
        async for one in super().sample(op, seeds):
            yield one


async def test_a_failure_is_no_wrong_answer_and_is_tried_again(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl")
    [cell] = await benched(tmp_path / "b.db", spec(file), Flaky())
    with Bench(tmp_path / "b.db") as bench:
        states = [one.state for one in bench.results(cell)]
    assert states.count("failed") == 2
    await benched(tmp_path / "b.db", spec(file), Fake())
    await benched(tmp_path / "whole.db", spec(file), Fake())
    assert dump(tmp_path / "b.db").keys() == dump(tmp_path / "whole.db").keys()
    assert all(one["state"] == "done" for one in dump(tmp_path / "b.db").values())


async def test_a_model_that_died_ends_the_bench_with_what_it_said(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 30)
    with pytest.raises(ModelUnavailable, match=r"8 problems failed one after another.*the server is gone"):
        await benched(tmp_path / "b.db", spec(file, at_once=2), Fake([ModelError("the server is gone")]))


async def test_a_run_that_another_version_began_is_done_anew_and_its_samples_are_kept(tmp_path: Path) -> None:
    file, path = sums(tmp_path / "sums.jsonl", 3), tmp_path / "b.db"
    [cell] = await benched(path, spec(file))
    with contextlib.closing(sqlite3.connect(path)) as db:  # as if it had been killed midway, and Pondera asked otherwise then
        run, body = db.execute("SELECT run, body FROM rows WHERE kind = 'op' ORDER BY run LIMIT 1").fetchone()
        db.execute("UPDATE runs SET state = 'open' WHERE problem = ?", (run.partition("/")[2],))
        db.execute("DELETE FROM rows WHERE run = ? AND kind = 'answer'", (run,))
        db.execute("UPDATE rows SET body = ? WHERE run = ? AND body = ?", (json.dumps({**json.loads(body), "print": "0" * 16}), run, body))
        before = db.execute("SELECT count(*) FROM rows WHERE run = ? AND kind = 'sample'", (run,)).fetchone()
        db.commit()
    model = Fake()
    await benched(path, spec(file), model)
    assert model.asked
    with Bench(path) as bench:
        assert [one.state for one in bench.results(cell)] == ["done"] * 3
        kept = bench.db.execute("SELECT count(*) FROM rows WHERE run LIKE ? AND kind = 'sample'", (f"{run}~%",)).fetchone()
    assert kept == before


async def test_a_budget_that_is_too_small_for_an_answer_is_an_outcome(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 3)
    [cell] = await benched(tmp_path / "b.db", spec(file, budgets=({"tokens": 1},)))
    with Bench(tmp_path / "b.db") as bench:
        assert [(one.state, one.figures["right"]) for one in bench.results(cell)] == [("done", 0.0)] * 3


async def test_two_processes_share_a_file(tmp_path: Path) -> None:
    file, models = sums(tmp_path / "sums.jsonl", 40), (Fake(latency=0.0005), Fake(latency=0.0005))
    await asyncio.gather(*(benched(tmp_path / "b.db", spec(file, at_once=3), model) for model in models))
    asked = [sum(op.n for op in model.asked) for model in models]
    assert sum(asked) == 40 * 6
    assert min(asked) > 0
    await benched(tmp_path / "alone.db", spec(file))
    assert dump(tmp_path / "b.db") == dump(tmp_path / "alone.db")
    assert not list(tmp_path.glob("*.lock"))


SCRIPT = """
import asyncio, sys
from pathlib import Path
from pondera.models.fake import Fake
from tests.bench.helpers import benched, spec
asyncio.run(benched(Path(sys.argv[1]), spec(Path(sys.argv[2]), "vote(n=16, over='chains')"), Fake(latency=0.0002)))
"""


def test_kill_it_ten_times_and_nothing_is_lost_or_paid_twice(tmp_path: Path) -> None:
    """Ten times kill -9 at random in a bench of 200 problems x 16 samples."""
    file, chance = sums(tmp_path / "sums.jsonl", 200), random.Random(5)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "b.db"), str(file)]
    kills = 0
    while kills < 10:
        child = subprocess.Popen(command)
        until = time.monotonic() + 30
        while time.monotonic() < until and not _claimed(tmp_path / "b.db", kills):
            time.sleep(0.02)
        time.sleep(chance.random() * 0.25)
        assert child.poll() is None, "it ended before it could be killed: make it slower"
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
    subprocess.run(command, check=True, timeout=100)
    asyncio.run(benched(tmp_path / "whole.db", spec(file, "vote(n=16, over='chains')")))
    found = dump(tmp_path / "b.db")
    assert found == dump(tmp_path / "whole.db")
    for one in found.values():
        answered = [key for key, status, _ in one["samples"] if status == "answered"]
        assert len(answered) == len(set(answered)) == 16


def _claimed(path: Path, kills: int) -> bool:
    """Whether a child has got so far that there is something to lose."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return bool(db.execute("SELECT count(*) FROM rows WHERE kind = 'sample'").fetchone()[0] > 250 * kills)
    return False


async def test_a_cancelled_bench_gives_back_what_it_had_claimed(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 40)
    task = asyncio.ensure_future(benched(tmp_path / "b.db", spec(file), Fake(latency=0.002)))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(benched(tmp_path / "b.db", spec(file)), 20)
    await benched(tmp_path / "whole.db", spec(file))
    assert {k: v["pool"] for k, v in dump(tmp_path / "b.db").items()} == {k: v["pool"] for k, v in dump(tmp_path / "whole.db").items()}


# ---------------------------------------------------------------- bad files


def test_a_file_that_is_no_bench(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello, this is text and no database, whatever its name says")
    with pytest.raises(Exception, match=r"x\.db cannot be used"):
        Bench(tmp_path / "x.db")
    from pondera import ledger

    ledger.create(tmp_path / "run.db").close()
    with pytest.raises(BadInput, match="is no bench"):
        Bench(tmp_path / "run.db")
    with pytest.raises(BadInput, match="There is no bench"):
        Bench(tmp_path / "none.db", new=False)


def test_one_name_for_two_tasks(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 3)
    with Bench(tmp_path / "b.db") as bench:
        enlist(bench, spec(file))
        with pytest.raises(BadInput, match=r"knows a task 'sums' that is sums\.jsonl, math, not sums\.jsonl, exact"):
            enlist(bench, Spec(tasks=(f"file(path={str(file)!r}, kind='exact')",), models=("fake",)))


# ---------------------------------------------------------------- what a review found


async def test_tests_and_scorers_see_replies_that_hold_no_answer(tmp_path: Path) -> None:
    """A program has no number to be compared, and is graded all the same."""
    (tmp_path / "code.jsonl").write_text(
        json.dumps({"id": "c", "question": "Write rev(s).", "tests": ["assert rev('ab') == 'ba'", "assert rev('') == ''"]}) + "\n"
    )
    reply = "```python\ndef rev(s):\n    return ''.join(reversed(s))\n```"
    [cell] = await benched(tmp_path / "b.db", spec(tmp_path / "code.jsonl", "cot"), Fake([reply]))
    (tmp_path / "mine.py").write_text("def score(row, reply):\n    return float('hello' in reply.split()[0])\n")
    (tmp_path / "free.jsonl").write_text(json.dumps({"id": "f", "question": "Greet me."}) + "\n")
    text = f"file(path={str(tmp_path / 'free.jsonl')!r}, scorer={str(tmp_path / 'mine.py') + ':score'!r})"
    wanted = replace(spec(tmp_path / "x", CHAINS), tasks=(text,))
    [free] = await benched(tmp_path / "b.db", wanted, Fake(["hello world", "", "good bye"]))
    with Bench(tmp_path / "b.db") as bench:
        [one], [other] = list(bench.results(cell)), list(bench.results(free))
    assert one.figures["right"] == 1.0
    assert sorted(sample["score"] for sample in other.pool)[-1] == 1.0


async def test_old_failures_do_not_stand_in_the_way(tmp_path: Path) -> None:
    class Fifths(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]):  # type: ignore[no-untyped-def, override]
            if int(op.node.about.text.split()[2]) % 5 == 0:
                raise ModelError("the wire broke")
            async for one in super().sample(op, seeds):
                yield one

    file = sums(tmp_path / "sums.jsonl", 60)
    await benched(tmp_path / "b.db", spec(file, n=45), Fifths())
    [cell] = await benched(tmp_path / "b.db", spec(file), Fifths())
    with Bench(tmp_path / "b.db") as bench:
        states = [one.state for one in bench.results(cell)]
    assert (states.count("done"), states.count("failed")) == (48, 12)


async def test_lines_that_moved_are_the_same_problems(tmp_path: Path) -> None:
    file = sums(tmp_path / "sums.jsonl", 5)
    file.write_text("".join(f'{{"question": "What is {i} + 1?", "answer": {i + 1}}}\n' for i in range(5)))  # without ids
    await benched(tmp_path / "b.db", spec(file))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[1:], lines[2]]))  # the first is gone, another stands there twice
    model = Fake()
    with Bench(tmp_path / "b.db") as bench:
        assert list(enlist(bench, spec(file)).changed.values()) == [0]
    [cell] = await benched(tmp_path / "b.db", spec(file), model)
    assert not model.asked
    with Bench(tmp_path / "b.db") as bench:
        assert len(list(bench.results(cell))) == 4


async def test_samples_are_shared_to_the_letter_and_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, model = sums(tmp_path / "sums.jsonl", 3), Fake()
    ways = ("vote(n=6, over='chains', temperature=1)", "best_of(n=6, over='chains', temperature=1.0)")
    cells = await benched(tmp_path / "b.db", spec(file, *ways), model)
    with Bench(tmp_path / "b.db") as bench:
        first, second = (list(bench.results(cell)) for cell in cells)
    assert [one.figures["calls"] for one in second] == [6] * 3 == [one.figures["calls"] for one in first]
    timed = await benched(tmp_path / "t.db", spec(file, CHAINS, "best_of(n=6, over='chains')", budgets=({"seconds": 30},)))
    with Bench(tmp_path / "t.db") as bench:
        assert all(one.figures["shared"] == 0 for one in bench.results(timed[1]))


async def test_runs_without_an_answer_are_wrong_in_every_curve(tmp_path: Path) -> None:
    from pondera.bench.bank import MAJORITY, PASS, bank

    file = sums(tmp_path / "sums.jsonl", 8)
    half = Fake(lambda op, i, seed: "\\boxed{1}" if int(op.node.about.text.split()[2]) % 2 else "so " * 600)
    [cell] = await benched(tmp_path / "b.db", spec(file, budgets=({"tokens": 400},)), half)
    with Bench(tmp_path / "b.db") as bench:
        results = list(bench.results(cell))
        told = bank(cell, results)
    assert told is not None
    assert len(told.problems) + told.others == 8
    assert told.curves[PASS].mean()[-1] <= 0.5
    assert told.curves[MAJORITY].right[:, -1].sum() == sum(one.figures["right"] for one in results)


def test_caps_are_numbers_however_they_are_written() -> None:
    whole, real = (next(iter(Spec(budgets=({"seconds": cap},)).cells(("t",)))) for cap in (5, 5.0))
    assert whole.print == real.print


def test_reading_problems_holds_nobody_up(tmp_path: Path) -> None:
    """Another process writes while a slow source is read."""
    import sqlite3

    from pondera.bench.grading import Problem
    from pondera.thought import Question

    with Bench(tmp_path / "b.db") as bench:

        def slow() -> Iterator[Problem]:
            for i in range(3):
                with contextlib.closing(sqlite3.connect(tmp_path / "b.db", timeout=0.1)) as other, other:
                    other.execute("INSERT OR REPLACE INTO tasks VALUES ('other', 'x')")
                yield Problem(str(i), Question.of(f"What is {i}?"), str(i))

        assert bench.enter("slow", "slow", slow(), True) == (3, 3, 0)


def test_a_bench_is_no_file_of_lines(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"name it .*b\.db"):
        Bench(tmp_path / "b.jsonl")
