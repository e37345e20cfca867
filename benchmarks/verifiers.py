"""Each verifier on the same samples: AUROC, calibration, and what best-of-N and the weighted vote make of it.

    python benchmarks/verifiers.py gsm8k_dev.jsonl --problems 100 --pools pools.db --out scores.jsonl --judge qwen2.5-coder-1.5b

The samples of a problem are those of `vote(n=16)`; they are kept in `--pools` (the file of `pondera verifier train`) and sampled where they
are not there yet. `--verifier TEXT` (again and again) names others than the list. A line is written for each problem and verifier when it
is scored, and a benchmark that was ended goes on where it was; `seconds` are those of a problem while `--at-once` share the machine. The
gap is that between `cot` (`--cot`, in percent) and pass@16.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any, TextIO

from pondera.errors import PonderaError
from pondera.intervals import wilson
from pondera.ledger import Ledger
from pondera.ops import Score
from pondera.plan import Plan
from pondera.ports import Model
from pondera.strategies.vote import elect, filled
from pondera.terminal.train import Training, recorded
from pondera.thought import Answer, Question, Thought
from pondera.verifiers.calibration import report
from pondera.verifiers.keys import grade

FREE = ("confidence", "lowest", "tail", "learned")
SAME = ("judge(by='think')", "pairwise(by='think')")
LARGER = ("second(n=4)", "learned(fit='qwen2.5-coder-0.5b-second')", "judge")


async def pool(work: Training, models: dict[str, Model], question: Question, gold: str) -> tuple[Answer, list[bool]] | None:
    """A problem's samples and whether each is right."""
    run = work.plan.run(models, seed=work.seed)
    try:
        answer = await recorded(work, run, question, work.plan.strategy_of(), work.run_of(question))
    except PonderaError:
        return None
    replies = [c.thought.reply if c.key is not None else "" for c in answer.candidates]
    right = await grade(question, replies, gold)
    return answer, [ok and c.key is not None for ok, c in zip(right, answer.candidates, strict=True)]


async def score(text: str, judge: str, models: dict[str, Model], question: Question, answer: Answer, right: list[bool]) -> dict[str, Any]:
    """One verifier on one problem's samples, as a line of the file."""
    plan = Plan(model=models["think"].name, judge=judge, verifier=text)
    whole = [(c, ok) for c, ok in zip(answer.candidates, right, strict=True) if c.key is not None]
    nodes = tuple(c.thought for c, _ in whole)
    found: list[float | None] = []

    async def look(root: Thought) -> Thought:
        found.extend(await Score(nodes, text))
        return nodes[0]

    began = time.monotonic()
    bill = (await plan.run(models).solve(question, look, ledger=Ledger())).spend
    weights = filled(found)
    winner, _ = elect(list(nodes), [c.key for c, _ in whole], weights)
    best = max(range(len(nodes)), key=lambda i: (weights[i], nodes[i].reply))
    return {
        "scores": found,
        "right": [ok for _, ok in whole],
        "best": whole[best][1],
        "vote": whole[nodes.index(winner)][1],
        "tokens": bill.tokens,
        "prompt": bill.prompt - bill.cached,
        "seconds": time.monotonic() - began,
    }


def table(lines: list[dict[str, Any]], problems: int, passed: float, cot: float) -> str:
    head = "| verifier | AUROC (95 %) | within a question | Brier | ECE | best-of-16 | of the gap | weighted vote | tokens | seconds |"
    rows = [head, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for text in dict.fromkeys(line["verifier"] for line in lines):
        mine = [line for line in lines if line["verifier"] == text]
        told = report(
            [s for line in mine for s in line["scores"]],
            [ok for line in mine for ok in line["right"]],
            [line["id"] for line in mine for _ in line["scores"]],
        )
        best, vote = sum(line["best"] for line in mine), sum(line["vote"] for line in mine)
        sure = wilson(best, problems)
        share = (100 * best / problems - cot) / (100 * passed - cot)
        auroc = f"{told.auroc.value:.3f} ({told.auroc.low:.3f} to {told.auroc.high:.3f})" if told.auroc else "none"
        cells = [f"`{text}`", auroc, f"{told.within.value:.3f}" if told.within else "none"]
        cells += [f"{told.brier.value:.3f}" if told.brier else "none", f"{told.ece:.3f}" if told.ece is not None else "none"]
        cells += [f"{best / problems:.0%} ({sure.low:.0%} to {sure.high:.0%})", f"{share:.0%}", f"{vote / problems:.0%}"]
        cells += [f"{sum(line[name] for line in mine) / problems:.{places}f}" for name, places in (("tokens", 0), ("seconds", 1))]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--judge", default="")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--pools", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--verifier", action="append", default=[])
    parser.add_argument("--at-once", type=int, default=6, help="problems in flight")
    parser.add_argument("--cot", type=float, default=22.0)
    given = parser.parse_args()
    plan = Plan(model=given.model, judge=given.judge, strategy=f"vote(n={given.n})")
    problems = [json.loads(line) for line in given.data.read_bytes().splitlines()][: given.problems]
    work = Training(plan, [], given.pools, (), 0)
    models = {role: plan.open(role) for role in plan.roles()}
    done = [json.loads(line) for line in given.out.read_bytes().splitlines()] if given.out.exists() else []
    have = {(line["id"], line["verifier"]) for line in done}
    wanted = given.verifier or [*FREE, *SAME, *(LARGER if given.judge else ())]
    passes: list[bool] = []
    queue = iter(problems)

    async def worker(file: TextIO) -> None:
        for problem in queue:
            question = Question.of(problem["question"])
            made = await pool(work, models, question, str(problem["answer"]))
            if made is None or not any(c.key is not None for c in made[0].candidates):
                continue
            passes.append(any(made[1]))
            for text in wanted:
                if (problem["id"], text) not in have:
                    line = {"id": problem["id"], "verifier": text, **await score(text, given.judge, models, question, *made)}
                    done.append(line)
                    file.write(json.dumps(line) + "\n")
                    file.flush()
            print(f"{len(passes)} of {len(problems)}", flush=True)

    with given.out.open("a") as file:
        async with asyncio.TaskGroup() as group:
            for _ in range(given.at_once):
                group.create_task(worker(file))
    for model in models.values():
        await model.close()
    passed = sum(passes) / len(problems)
    print(f"pass@{given.n}: {passed:.0%}")
    print(table(done, len(problems), passed, given.cot))


if __name__ == "__main__":
    asyncio.run(main())
