"""Policies on other people's recorded samples, nothing fitted on them and no model called: accuracy against samples.

    python benchmarks/replays.py ../shared/data/replay/rg_llama3b_amc23_40x50.jsonl.gz ../shared/data/recorded_math_rm.jsonl

Each line of a file is a question: answers and whether they are right, as `ans` and `ok`, or as `samples` with `answer` and `correct`. All
policies see the same orders of the same samples. `worth` is compared with Adaptive-Consistency at equal samples, between its own prices,
with a bootstrap over questions.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pondera.allocate import policies
from pondera.allocate.paired import paired
from pondera.allocate.policies import Deck, Mind, Told
from pondera.allocate.posterior import Belief
from pondera.allocate.resample import Floats, Ints, orders

THRESHOLDS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
WINDOWS = (2, 3, 4, 5, 8)
PRICES = (0.05, 0.03, 0.02, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001, 0.0005, 0.0002, 0.0001, 1e-5, 1e-6)

ADAPTIVE, OURS = "Adaptive-Consistency", "worth (auto)"
Policy = Callable[[Deck, Ints], Told]


def decks(path: Path) -> Iterator[Deck]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for row in map(json.loads, lines):
            answers = [one["answer"] for one in row["samples"]] if "samples" in row else row["ans"]
            right = [one["correct"] for one in row["samples"]] if "samples" in row else row["ok"]
            yield Deck.of([str(one) if one not in (None, "") else None for one in answers], [bool(one) for one in right])


def between(ours: Sequence[Told], samples: float) -> Floats:
    """The chance of being right with so many samples in the mean, between two settings, by question."""
    at = np.mean([told.samples for told in ours], axis=0)
    order = np.argsort(at)
    return np.array([np.interp(samples, at[order], told.right[order]) for told in ours])


def ways(n: int) -> dict[str, Policy]:
    """The policies, of at most n samples."""
    mind = Mind(Belief(), np.random.default_rng(0))
    sizes = [k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100) if k <= n]
    windows = [w for w in WINDOWS if w <= n]
    return {
        "fixed vote": lambda deck, some: policies.fixed(deck, some, sizes),
        ADAPTIVE: lambda deck, some: policies.adaptive(deck, some, THRESHOLDS, n),
        "ESC": lambda deck, some: policies.early(deck, some, windows, n),
        OURS: lambda deck, some: policies.worth(deck, some, PRICES, n, mind),
    }


def show(path: Path, count: int) -> None:
    pools = list(decks(path))
    n = len(pools[0].options)
    drawn = [np.random.default_rng((0, i)).permutation(orders(n, np.random.default_rng((1, i)), count))[:count] for i in range(len(pools))]
    print(f"\n{path.name}: {len(pools)} questions of {n} samples, {count} orders\n")
    print("| policy | samples: right | seconds |\n| --- | --- | --- |")
    told = {}
    for name, way in ways(n).items():
        began = time.monotonic()
        told[name] = [way(deck, some) for deck, some in zip(pools, drawn, strict=True)]
        samples, right = (np.mean([getattr(one, part) for one in told[name]], axis=0) for part in ("samples", "right"))
        points = ", ".join(f"{x:.1f}: {y:.1%}" for x, y in sorted(zip(samples, right, strict=True)))
        print(f"| {name} | {points} | {time.monotonic() - began:.0f} |", flush=True)
    print(f"\n| {ADAPTIVE} | samples | right | {OURS}, as many | difference | 95 % |\n| --- | --- | --- | --- | --- | --- |")
    for i, threshold in enumerate(THRESHOLDS):
        many = float(np.mean([one.samples[i] for one in told[ADAPTIVE]]))
        both = paired(np.array([one.right[i] for one in told[ADAPTIVE]]), between(told[OURS], many))
        gap = both.difference
        print(f"| {threshold} | {many:.1f} | {both.a:.1%} | {both.b:.1%} | {gap.value:+.1%} | {gap.low:+.1%} to {gap.high:+.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--orders", type=int, default=64, help="random orders of each question's samples")
    given = parser.parse_args()
    for path in given.files:
        show(path, given.orders)


if __name__ == "__main__":
    main()
