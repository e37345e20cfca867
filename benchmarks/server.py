"""The same strategies, unchanged, against a real compatible server that we did not write.

    python benchmarks/server.py NAME@http://127.0.0.1:8123/v1 DATA.jsonl --problems 10

Every strategy answers the problems; then one run is cancelled half way and resumed, and must pay only for what is missing; then a path is
grown step by step, to see that a partial answer is continued. Prints what came, what the server was found to leave out, and the bill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from pondera.errors import PonderaError
from pondera.events import Event, Grown
from pondera.ledger import Ledger, Row
from pondera.ops import Expand
from pondera.plan import Plan, open_model
from pondera.ports import Model
from pondera.thought import Question, Spend, Thought
from pondera.verifiers.keys import grade

STRATEGIES = ("cot", "program", "vote(n=4)", "vote(n=4, over='chains', by='judge')", "best_of(n=4, by='confidence')")


async def accuracy(model: Model, problems: list[dict[str, Any]], strategy: str) -> None:
    plan = Plan(model=model.name, strategy=strategy)
    began, right, spend, failed = time.monotonic(), 0, Spend(), 0

    async def one(problem: dict[str, Any]) -> None:
        nonlocal right, spend, failed
        question = Question.of(problem["question"])
        try:
            answer = await plan.run({"think": model}).solve(question, plan.strategy_of())
        except PonderaError as error:
            failed += 1
            print(f"  {problem['id']}: {error}")
            return
        spend = spend + answer.spend
        right += answer.key is not None and (await grade(question, [answer.thought.reply], str(problem["answer"])))[0]

    await asyncio.gather(*(one(problem) for problem in problems))
    took = time.monotonic() - began
    print(
        f"{strategy:42} {right} of {len(problems)} right, {failed} without an answer; {spend.tokens} tokens, {spend.judging} of them "
        f"judging, prompt {spend.prompt} ({spend.cached} cached), {spend.calls} calls, {'estimated' if spend.estimated else 'counted'}; "
        f"{took:.0f} s"
    )


async def cut_and_resume(model: Model, problem: dict[str, Any]) -> None:
    """Cancel a run when three of its eight branches have come, two in flight at a time, then go on with its ledger."""
    plan, question, ledger, stop, grown = (
        Plan(strategy="vote(n=8, over='chains')"),
        Question.of(problem["question"]),
        Ledger(),
        asyncio.Event(),
        0,
    )

    def watch(event: Event) -> None:
        nonlocal grown
        grown += isinstance(event, Grown)
        if grown == 3:
            stop.set()

    run = plan.run({"think": model}, parallel=2)
    first = await run.solve(question, plan.strategy_of(), ledger=ledger, watch=watch, stop=stop)
    print(f"cancelled: {first.stopped}, key {first.key}, votes {dict(first.votes)}, {len(first.cut)} cut, {first.spend.tokens} tokens")
    had = sum(row.kind == "sample" and row.body["status"] == "answered" for row in ledger.rows)
    ledger.append("resume", "0", {})
    asked = 0

    def count(event: Event) -> None:
        nonlocal asked
        asked += isinstance(event, Grown)

    again = await run.solve(question, plan.strategy_of(), ledger=ledger, watch=count)
    rows: list[Row] = ledger.rows
    samples = [row for row in rows if row.kind == "sample" and row.body["status"] == "answered"]
    print(f"resumed: {again.stopped}, key {again.key}, votes {dict(again.votes)}; {had} kept, {len(samples) - had} paid now")


async def steps(model: Model, problem: dict[str, Any]) -> None:
    """Three steps of a chain, each grown from the one before; then the rest."""

    async def stepwise(root: Thought) -> Thought:
        node = root
        for turn in range(3):
            say = "Think step by step, in steps separated by empty lines. End with the answer in \\boxed{}." if turn == 0 else ""
            if not node.done:
                [node] = await Expand(node, 1, "step", say=say, max_tokens=200, temperature=0.0)
        return node if node.done else (await Expand(node, 1, max_tokens=400, temperature=0.0))[0]

    answer = await Plan().run({"think": model}).solve(Question.of(problem["question"]), stepwise)
    print("step by step:", " | ".join(f"{n.finish} {n.text[:60]!r}" for n in answer.thought.path[1:]), "-> key", answer.key)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", type=int, default=10)
    given = parser.parse_args()
    problems = [json.loads(line) for line in given.data.read_bytes().splitlines()][: given.problems]
    model = open_model(given.model)
    await steps(model, problems[0])
    for strategy in STRATEGIES:
        await accuracy(model, problems, strategy)
    await cut_and_resume(model, problems[1])
    for name, found in getattr(model, "findings", {}).items():
        print(f"found out: {name}: {found}")
    await model.close()


if __name__ == "__main__":
    asyncio.run(main())
