"""Every strategy on the same problems under the same budget: accuracy, tokens, seconds, prefix-cache hits.

    python benchmarks/families.py --gsm8k gsm8k_dev.jsonl --multiarith multiarith.jsonl --out families.jsonl

50 problems of GSM8K, 30 of MultiArith (`id`, `question`, `answer` a line) and 30 that reasoning-gym makes, 1,500 tokens each at most. The
strategies that only choose among samples share one set of them: their runs find the set's samples in the ledger, so each is still a run
of the strategy itself, and its bill holds what the set cost. A line is written for each run when it is done, and a benchmark that was ended
goes on where it was. `--strategy TEXT` (again and again) runs others than the list, `--counts 100,0,0` other numbers of problems.
`seconds` is the time a problem took while `--at-once` of them shared the machine, divided by that number.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pondera.errors import PonderaError
from pondera.intervals import wilson
from pondera.ledger import Ledger, Row
from pondera.plan import Plan, open_model
from pondera.ports import Model
from pondera.thought import Budget, Question
from pondera.verifiers.keys import grade

POOL = "vote(n=6)"
SHARED = (
    POOL,
    "vote(n=6, by='confidence')",
    "vote(n=6, by='learned')",
    "vote(n=6, by='judge')",
    "vote(n=6, by='tail', top=0.5)",
    "best_of(n=6, by='confidence')",
    "best_of(n=6, by='lowest')",
    "best_of(n=6, by='tail')",
    "best_of(n=6, by='learned')",
    "best_of(n=6, by='judge')",
    "best_of(n=6, by='confidence', process='min')",
    "best_of(n=6, by='confidence', process='product')",
    "best_of(n=6, by='confidence', process='last')",
    "best_of(n=6, by='confidence', process='mean')",
    "tournament(n=6)",
)
OTHERS = (
    "cot",
    "few_shot",
    "program",
    "budget_forcing",
    "early_exit",
    "early_exit(n=4, temperature=0.6)",
    "steady",
    "beam",
    "lookahead",
    "dvts",
    "rebase",
    "particles",
    "gibbs",
    "mcts",
    "mcts(value='verifier')",
    "mcts(prior=False)",
    "abmcts",
    "refine",
    "refine(by='judge')",
    "revise(n=4)",
    "mixture",
)
LARGE = ("cascade",)  # with a larger model in the role `think`


@dataclass(frozen=True, slots=True)
class Problem:
    id: str
    task: str
    question: Question
    gold: str


def problems(given: argparse.Namespace) -> list[Problem]:
    found = []
    counts = [int(count) for count in given.counts.split(",")]
    for task, path, count in (("gsm8k", given.gsm8k, counts[0]), ("multiarith", given.multiarith, counts[1])):
        rows = [json.loads(line) for line in path.read_bytes().splitlines()][:count]
        found += [Problem(row["id"], task, Question.of(row["question"]), str(row["answer"])) for row in rows]
    if not counts[2]:
        return found
    import reasoning_gym

    made = reasoning_gym.create_dataset(given.gym, size=counts[2], seed=42)
    return found + [Problem(f"{given.gym}-{i}", given.gym, Question.of(one["question"]), str(one["answer"])) for i, one in enumerate(made)]


async def run(problem: Problem, text: str, models: dict[str, Model], pools: dict[str, list[Row]], tokens: int) -> dict[str, Any]:
    """One strategy on one problem, as a line of the file."""
    plan = Plan(model=models["think"].name, strategy=text)
    ledger = Ledger()
    if text in SHARED and problem.id in pools:
        ledger.rows += [row for row in pools[problem.id] if row.kind == "run" or (row.kind == "sample" and row.body["by"] == "think")]
        ledger.append("resume", "0", {})
    line: dict[str, Any] = {"id": problem.id, "task": problem.task, "strategy": text, "right": False}
    began = time.monotonic()
    try:
        answer = await plan.run(models, Budget(tokens=tokens or math.inf)).solve(problem.question, plan.strategy_of(), ledger=ledger)
    except PonderaError as error:
        return line | {"error": str(error), "seconds": time.monotonic() - began}
    seconds = time.monotonic() - began
    right = await grade(problem.question, [answer.thought.reply if answer.key is not None else ""], problem.gold)
    spend = answer.spend
    line |= {"right": right[0], "key": answer.key, "tokens": spend.tokens, "judging": spend.judging, "calls": spend.calls}
    line |= {"prompt": spend.prompt, "cached": spend.cached, "seconds": seconds, "stopped": answer.stopped}
    if text == POOL:
        line["rows"] = [[row.kind, row.key, dict(row.body)] for row in ledger.rows if row.kind in ("run", "sample")]
    return line


def table(lines: list[dict[str, Any]], at_once: int) -> str:
    tasks = list(dict.fromkeys(line["task"] for line in lines))
    head = ["strategy", *tasks, "all", "95 %", "tokens", "of them judging", "seconds", "prefix hits"]
    rows = [f"| {' | '.join(head)} |", "| " + " | ".join("---" for _ in head) + " |"]
    for text in dict.fromkeys((*SHARED, *OTHERS, *LARGE, *(line["strategy"] for line in lines))):
        mine = [line for line in lines if line["strategy"] == text]
        if not mine:
            continue
        n, right = len(mine), sum(line["right"] for line in mine)
        sure = wilson(right, n)
        each = [[line for line in mine if line["task"] == task] for task in tasks]
        shares = [f"{sum(line['right'] for line in one) / len(one):.0%}" if one else "" for one in each]

        def mean(name: str, mine: list[dict[str, Any]] = mine) -> float:
            return float(sum(line.get(name, 0) for line in mine)) / len(mine)

        hits = mean("cached") / max(1e-9, mean("prompt"))
        cells = [
            f"`{text}`",
            *shares,
            f"{right / n:.1%}",
            f"{sure.low:.0%} to {sure.high:.0%}",
            f"{mean('tokens'):.0f}",
            f"{mean('judging'):.0f}",
        ]
        cells += [f"{mean('seconds') / at_once:.1f}" if text == POOL or text not in SHARED else "shared", f"{hits:.0%}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, required=True)
    parser.add_argument("--multiarith", type=Path, required=True)
    parser.add_argument("--gym", default="gsm_symbolic")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--large", default="", help="a larger model, for the cascade")
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--only", default="", help="strategies by name, with commas")
    parser.add_argument("--strategy", action="append", default=[], help="a strategy that is not in the list")
    parser.add_argument("--counts", default="50,30,30", help="problems of each task")
    parser.add_argument("--at-once", type=int, default=4, help="problems in flight")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    done = [json.loads(line) for line in given.out.read_bytes().splitlines()] if given.out.exists() else []
    pools = {line["id"]: [Row(*row) for row in line["rows"]] for line in done if line.get("rows")}
    only = {name.strip() for name in given.only.split(",") if name.strip()}
    wanted = given.strategy or [t for t in (*SHARED, *OTHERS, *(LARGE if given.large else ())) if not only or t.split("(")[0] in only]
    asked = problems(given)
    think = open_model(given.model)
    large = open_model(given.large) if given.large else think
    have = {(line["id"], line["strategy"]) for line in done}
    with given.out.open("a") as file:
        for text in wanted:
            models = {"think": large, "draft": think} if text in LARGE else {"think": think}
            queue = iter([problem for problem in asked if (problem.id, text) not in have])

            async def worker(text: str = text, models: dict[str, Model] = models, queue: Any = queue) -> None:
                for problem in queue:
                    line = await run(problem, text, models, pools, given.tokens)
                    if line.get("rows"):
                        pools[problem.id] = [Row(*row) for row in line["rows"]]
                    done.append(line)
                    file.write(json.dumps(line) + "\n")
                    file.flush()

            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for _ in range(given.at_once):
                    group.create_task(worker())
            mine = [line for line in done if line["strategy"] == text]
            print(f"{text}: {sum(line['right'] for line in mine)} of {len(mine)} right, {time.monotonic() - began:.0f} s", flush=True)
    for model in {id(m): m for m in (think, large)}.values():
        await model.close()
    print(table(done, given.at_once))


if __name__ == "__main__":
    asyncio.run(main())
