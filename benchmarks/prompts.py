"""How good a prompt is: single samples, votes of n and pass@n of one way to ask, on problems with known answers.

    python benchmarks/prompts.py DATA.jsonl --problems 48 --say "Please reason step by step." --temperature 0.6
    python benchmarks/prompts.py DATA.jsonl --code --say "Write a Python program that ..." --force '```python'

Problems are drawn by a fixed shuffle, so that every prompt is asked the same ones; choose on train data only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path
from typing import Any

from pondera.models import weights
from pondera.ops import Call, Expand, Key, both
from pondera.plan import Plan, open_model
from pondera.strategies.vote import elect
from pondera.thought import Question, Thought
from pondera.verifiers.keys import grade


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=weights.DEFAULT)
    parser.add_argument("--problems", type=int, default=48)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--say", default="")
    parser.add_argument("--force", default="")
    parser.add_argument("--code", action="store_true", help="the reply is a program: run it")
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--max-tokens", type=int, default=512)
    given = parser.parse_args()
    problems = [json.loads(line) for line in given.data.read_bytes().splitlines()]
    random.Random(7).shuffle(problems)
    model = open_model(given.model)
    room = asyncio.Semaphore(max(1, 32 // given.n))
    tally: list[tuple[int, bool, bool, int]] = []

    async def ask(root: Thought) -> Thought:
        stop = ("\n```",) if given.code else ()
        force = given.force.replace("\\n", "\n")
        pool = await Expand(
            root, given.n, say=given.say, force=force, stop=stop, temperature=given.temperature, max_tokens=given.max_tokens
        )
        if given.code:
            pool = await both(*(run(node) for node in pool))
        keys = await Key(tuple(pool))
        return elect(pool, keys, [1.0] * len(pool))[0]

    async def run(node: Thought) -> Thought:
        return node if node.cut else await Call(node, "python", node.reply)

    async def one(problem: dict[str, Any]) -> None:
        question, gold = Question.of(problem["question"]), str(problem["answer"])
        async with room:
            try:
                answer = await Plan(model=model.name).run({"think": model}).solve(question, ask)
            except Exception as error:
                print(f"{problem['id']}: {error}")
                tally.append((0, False, False, 0))
                return
        rights = await grade(question, [c.thought.reply if c.key is not None else "" for c in answer.candidates], gold)
        won = answer.key is not None and (await grade(question, [answer.thought.reply], gold))[0]
        tally.append((sum(rights), won, any(rights), answer.spend.tokens))

    await asyncio.gather(*(one(problem) for problem in problems[: given.problems]))
    n = len(tally)
    print(
        f"{n} problems x {given.n}: one sample {sum(t[0] for t in tally) / n / given.n:.1%}, vote {sum(t[1] for t in tally) / n:.1%}, "
        f"some sample {sum(t[2] for t in tally) / n:.1%}, {sum(t[3] for t in tally) / n / given.n:.0f} tokens a sample"
    )
    await model.close()


if __name__ == "__main__":
    asyncio.run(main())
