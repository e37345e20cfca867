"""What searches with 16 leaves compute of prompts and paths, against what they generate, and against a search that resends each path.

    python benchmarks/prefix.py gsm8k_dev.jsonl --problems 4

`computed` are the prompt and path tokens that the engine did not find in its cache (`Spend.prompt - Spend.cached`), `resent` all that a
version without a cache would send and compute anew: the sum of the prompts of all calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from pondera.plan import Plan, open_model
from pondera.thought import Budget, Question

SEARCHES = (
    "beam(width=4, fanout=4, step=32)",
    "beam(width=4, fanout=4)",
    "mcts(rounds=16, step=32)",
    "mcts(rounds=16)",
    "mcts(rounds=64, value='verifier', step=32)",
)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", type=int, default=4)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--strategy", action="append", default=[])
    given = parser.parse_args()
    model = open_model(given.model)
    print("| search | generated | computed | of them generated | resent | of them generated | ended paths |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for text in given.strategy or SEARCHES:
        generated = computed = resent = ended = 0
        for line in given.data.read_text().splitlines()[: given.problems]:
            plan = Plan(model=given.model, strategy=text)
            question = Question.of(json.loads(line)["question"])
            answer = await plan.run({"think": model}, Budget(tokens=given.tokens)).solve(question, plan.strategy_of())
            spend = answer.spend
            generated, computed, resent = generated + spend.tokens, computed + spend.prompt - spend.cached, resent + spend.prompt
            ended += len(answer.candidates)
        print(
            f"| `{text}` | {generated} | {computed} | {computed / generated:.2f} | {resent} | {resent / generated:.1f} | {ended} |",
            flush=True,
        )
    await model.close()


if __name__ == "__main__":
    asyncio.run(main())
