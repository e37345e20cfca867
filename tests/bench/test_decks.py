"""Decks: a bench's samples as policies draw them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pondera.allocate import policies
from pondera.allocate.posterior import SUREST, log_odds
from pondera.allocate.resample import orders
from pondera.bench.decks import alone, decks, own
from pondera.bench.file import Bench, Result
from pondera.bench.grading import SURE
from pondera.errors import BadInput
from pondera.models.fake import Fake, _chance
from pondera.ops import Expand
from pondera.verifiers.signals import NAMES
from tests.bench.helpers import benched, spec, sums


async def results(folder: Path, n: int = 24) -> list[Result]:
    await benched(folder / "b.db", spec(sums(folder / "sums.jsonl", n), "vote(n=6)"))
    with Bench(folder / "b.db") as bench:
        [cell] = bench.cells()
        return list(bench.results(cell))


async def test_a_deck_holds_what_was_recorded(tmp_path: Path) -> None:
    told = await results(tmp_path)
    for result, deck in zip(told, decks(told), strict=True):
        assert deck.kind.tolist() == [int(one["program"]) for one in result.pool]
        assert sorted(deck.kind.tolist()) == [0, 0, 0, 1, 1, 1]
        assert deck.tokens.tolist() == [one["tokens"] for one in result.pool]
        right = [bool(option >= 0 and deck.right[option]) for option in deck.options]
        assert right == [one["score"] >= SURE for one in result.pool]
        assert not deck.evidence.any(), "nobody judged"
        everything = policies.fixed(deck, orders(6, np.random.default_rng(0)), [6])
        assert everything.right.tolist() == [result.figures["right"]]


async def test_a_verifier_of_samples_alone_knows_nothing_of_the_others(tmp_path: Path) -> None:
    told = await results(tmp_path, 60)
    judge = own(told, {"data": "sums"})
    weights = dict(zip(judge.names, judge.weights, strict=True))
    assert all(weights[name] == 0.0 for name in NAMES[: NAMES.index("program")] if name)
    assert weights["sure beside others"] == weights["length beside others"] == 0.0
    assert any(weights.values())
    assert judge.card["data"] == "sums"
    some = decks(told, judge)
    evidence = np.concatenate([deck.evidence for deck in some])
    assert evidence.any()
    assert np.abs(evidence).max() <= SUREST
    shuffled = decks([Result(one.problem, one.state, one.figures, one.pool[::-1]) for one in told], judge)
    assert np.concatenate([deck.evidence[::-1] for deck in shuffled]) == pytest.approx(evidence)


def test_samples_of_another_version_have_no_signals() -> None:
    assert np.isnan(alone({"signals": [1.0, 2.0]})).all()
    assert np.isnan(alone({})).all()


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(BadInput, match="teach nothing"):
        own([])


async def test_what_the_orm_said_is_evidence_and_its_tokens_are_the_samples(tmp_path: Path) -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        if op.until == "verdict":
            return "Yes" if seed % 3 else "No"
        return _chance(op, random.Random(seed))

    file = sums(tmp_path / "sums.jsonl", 40)
    await benched(tmp_path / "b.db", spec(file, "best_of(n=6, over='both', by='orm')"), Fake(script))
    with Bench(tmp_path / "b.db") as bench:
        [cell] = bench.cells()
        told = list(bench.results(cell))
    judge = own(told)
    assert judge.asks == ("orm",)
    assert judge.names[-1] == "orm"
    some = decks(told, judge)
    for result, deck in zip(told, some, strict=True):
        bill = result.figures["by_role"]["judge"]
        assert deck.tokens.sum() == pytest.approx(sum(one["tokens"] for one in result.pool) + bill["tokens"] + bill["prompt"])
        rows = [alone(one, judge.asks)[-1] for one in result.pool]
        assert rows == pytest.approx([float(log_odds(one["scores"]["orm"])) for one in result.pool])
    bare = [replace(one, pool=[{**sample, "scores": {}} for sample in one.pool]) for one in told]
    assert own(bare).asks == (), "where some were not asked, none counts"
