"""Accuracy and tokens of the first strategies on word problems with known answers.

    python benchmarks/accuracy.py DATA.jsonl --problems 100 --out bank.jsonl

DATA has `id`, `question` and `answer` a line. Each problem is answered by `cot` and `program` (greedy), `vote(n)` over chains and over
programs; the vote over both takes the first half of either's branches, so every row is one real run or made of the branches of two. A
line is written for each problem when it is done, and a run that was ended goes on where it was. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from pondera.errors import PonderaError
from pondera.intervals import wilson
from pondera.plan import Plan, open_model
from pondera.ports import Model
from pondera.strategies.vote import elect
from pondera.thought import Answer, Question
from pondera.verifiers.keys import grade


async def run(model: Model, question: Question, strategy: str, seed: int) -> Answer | None:
    plan = Plan(model=model.name, strategy=strategy)
    try:
        return await plan.run({"think": model}, seed=seed).solve(question, plan.strategy_of())
    except PonderaError:
        return None  # every branch failed: no answer, which is wrong


async def one(model: Model, problem: dict[str, Any], n: int, options: str, seed: int) -> dict[str, Any]:
    """One problem by every strategy, as a line of the bank."""
    question, gold = Question.of(problem["question"]), str(problem["answer"])
    line: dict[str, Any] = {"id": problem["id"], "answer": gold}
    pools: dict[str, Answer | None] = {}
    for name, text in {
        "cot": "cot",
        "program": "program",
        "chains": f"vote(n={n}, over='chains'{options})",
        "programs": f"vote(n={n}, over='programs'{options})",
    }.items():
        began = time.monotonic()
        answer = pools[name] = await run(model, question, text, seed)
        right = await grade(question, [answer.thought.reply], gold) if answer and answer.key is not None else [False]
        line[name] = {"right": right[0], "seconds": round(time.monotonic() - began, 2)}
        if answer:
            replies = [c.thought.reply if c.key is not None else "" for c in answer.candidates]
            passed = await grade(question, replies, gold)
            line[name] |= {"key": answer.key, "tokens": answer.spend.tokens, "prompt": answer.spend.prompt, "cached": answer.spend.cached}
            line[name]["branches"] = [
                {"id": c.thought.id, "key": c.key, "right": ok, "tokens": c.thought.tokens}
                for c, ok in zip(answer.candidates, passed, strict=True)
            ]
    line["both"] = mixed(pools["chains"], pools["programs"], line, n)
    return line


def mixed(chains: Answer | None, programs: Answer | None, line: dict[str, Any], n: int) -> dict[str, Any]:
    """The vote over both: the first half of the chains and of the programs."""
    pool = [c for a in (chains, programs) if a for c in a.candidates if first_half(c.thought.id, n)]
    if not pool:
        return {"right": False, "tokens": 0, "branches": []}
    winner, _ = elect([c.thought for c in pool], [c.key for c in pool], [1.0] * len(pool))
    known = {b["id"]: b for name in ("chains", "programs") for b in line[name].get("branches", ())}
    right = next(known[c.thought.id]["right"] for c in pool if c.thought is winner)
    tokens = sum(line[name].get("tokens", 0) for name in ("chains", "programs")) // 2
    return {"right": right, "tokens": tokens, "branches": [known[c.thought.id] for c in pool]}


def first_half(key: str, n: int) -> bool:
    """Chains are the children i of one op, programs the outputs of the i-th of the coroutines that run them."""
    return int(key.split("/")[1] if key.count(".") < 4 else key.split(".")[-2]) < n // 2


def table(lines: list[dict[str, Any]]) -> str:
    rows = ["| strategy | right | 95 % | some branch right | tokens a problem |", "| --- | --- | --- | --- | --- |"]
    for name in ("cot", "program", "chains", "programs", "both"):
        found = [line[name] for line in lines]
        right = sum(one["right"] for one in found)
        sure = wilson(right, len(found))
        some = sum(any(b["right"] for b in one.get("branches", ())) for one in found)
        tokens = sum(one.get("tokens", 0) for one in found) / len(found)
        rows.append(f"| {name} | {right / len(found):.1%} | {sure.low:.1%} to {sure.high:.1%} | {some / len(found):.1%} | {tokens:.0f} |")
    return "\n".join(rows)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--options", default="", help="more arguments of vote, as in ', temperature=0.7'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=4, help="problems in flight")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    problems = [json.loads(line) for line in given.data.read_bytes().splitlines()][: given.problems]
    done = [json.loads(line) for line in given.out.read_bytes().splitlines()] if given.out.exists() else []
    missing = [p for p in problems if p["id"] not in {line["id"] for line in done}]
    model = open_model(given.model)
    room, began, fresh = asyncio.Semaphore(given.at_once), time.monotonic(), 0

    async def work(problem: dict[str, Any], file: Any) -> None:
        nonlocal fresh
        async with room:
            line = await one(model, problem, given.n, given.options, given.seed)
        done.append(line)
        file.write(json.dumps(line) + "\n")
        file.flush()
        fresh += 1
        took = time.monotonic() - began
        print(f"{len(done)}/{len(problems)}, {took:.0f} s, {took / fresh * (len(missing) - fresh):.0f} s to go", flush=True)

    with given.out.open("a") as file:
        async with asyncio.TaskGroup() as group:
            for problem in missing:
                group.create_task(work(problem, file))
    await model.close()
    print(table(done))


if __name__ == "__main__":
    asyncio.run(main())
