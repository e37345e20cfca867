"""All curves of a large sample bank: seconds, memory, and how both grow with the problems.

    python benchmarks/bank.py --problems 250,500,1000 --samples 64 --draws 1000

The bank is made by the fake model in the file `--bench` (kept, and made once): sums with a chance of their own to be right. Timed is what
a report needs of it: reading the file, every curve, the fits, bands, ceilings and bends from that many bootstrap draws, and the parts by
difficulty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import time
from collections.abc import Mapping
from pathlib import Path

from pondera.allocate.returns import Worth, returns
from pondera.bench.bank import bank
from pondera.bench.file import Bench
from pondera.bench.run import Here, enlist, run
from pondera.bench.spec import Spec
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.plan import Plan
from pondera.ports import Model


def reply(op: Expand, index: int, seed: int) -> str:
    """Right as often as the question's number says (in percent), else one of a few wrong answers."""
    rate = int(op.node.about.text.split()[-1])
    chance = random.Random(seed)
    right = chance.random() * 100 < rate
    return " ".join(["so"] * chance.randint(20, 200)) + f" \\boxed{{{42 if right else chance.randint(0, 8)}}}"


async def make(path: Path, problems: int, samples: int) -> None:
    tasks, chance = path.with_suffix(".jsonl"), random.Random(0)
    lines = [
        {"id": str(i), "question": f"Problem {i} of difficulty {int(100 * chance.betavariate(0.7, 1.2))}", "answer": "42"}
        for i in range(problems)
    ]
    tasks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = Spec(tasks=(str(tasks),), models=("fake",), strategies=(f"vote(n={samples}, over='chains')",))

    async def opened(plan: Plan) -> Mapping[str, Model]:
        return {"think": Fake(reply)}

    with Bench(path) as bench:
        thinker = Here(opened)
        await run(bench, spec, enlist(bench, spec), thinker, lambda event: None)
        await thinker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default="250,500,1000")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--bench", type=Path, default=Path("bank.db"))
    given = parser.parse_args()
    counts = [int(count) for count in given.problems.split(",")]
    began = time.monotonic()
    asyncio.run(make(given.bench, max(counts), given.samples))
    print(f"made {max(counts)} problems x {given.samples} samples: {time.monotonic() - began:.1f} s")
    print("| problems | seconds | seconds a thousand | MB of this process |\n| --- | --- | --- | --- |")
    for count in sorted(counts):
        began = time.monotonic()
        with Bench(given.bench, new=False) as bench:
            [cell] = bench.cells()
            results = [one for one, _ in zip(bench.results(cell), range(count), strict=False)]
        made = bank(cell, results)
        assert made is not None
        told = [returns(curve, Worth(0.01), given.draws) for curve in (*made.curves.values(), *made.fifths)]
        took = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {count} | {took:.2f} | {1000 * took / count:.2f} | {memory:.0f} |", flush=True)
        assert len(told) >= 9


if __name__ == "__main__":
    main()
