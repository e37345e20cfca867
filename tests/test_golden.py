"""A recorded run of every strategy, replayed: the ops that it asks, in their order, and the answer are what they were.

A strategy that is meant to ask otherwise gets a new recording: `PONDERA_GOLDEN=write pytest tests/test_golden.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from pondera import ledger
from pondera.errors import LedgerDrift
from pondera.models.fake import Fake
from tests.test_laws import QUESTION, STRATEGIES_TEXT, run_of, strategy_of

GOLDEN = Path(__file__).parent / "golden"


def place(text: str) -> Path:
    return GOLDEN / f"{re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')}.jsonl"


@pytest.mark.skipif(os.environ.get("PONDERA_GOLDEN") != "write", reason="the recordings are there; PONDERA_GOLDEN=write makes new ones")
@pytest.mark.parametrize("text", STRATEGIES_TEXT)
def test_record(text: str) -> None:
    place(text).unlink(missing_ok=True)
    record = ledger.create(place(text))
    asyncio.run(run_of(Fake(), seed=11).solve(QUESTION, strategy_of(text), ledger=record))
    record.close()


@pytest.mark.parametrize("text", STRATEGIES_TEXT)
def test_replay(text: str) -> None:
    rows = ledger.read(place(text))
    told = next(row.body for row in rows if row.kind == "answer")
    answer = asyncio.run(run_of(None, seed=11).solve(QUESTION, strategy_of(text), ledger=ledger.Ledger(list(rows))))
    assert (answer.thought.id, answer.text, answer.key, answer.confidence) == (told["node"], told["text"], told["key"], told["confidence"])
    assert answer.spend.tokens == told["spend"]["tokens"]


@pytest.mark.parametrize("text", STRATEGIES_TEXT)
def test_each_op_counts(text: str) -> None:
    """A recording in which one op was another one is refused: a replay that took any answer for any op would prove nothing."""
    rows = list(ledger.read(place(text)))
    at = next(i for i, row in enumerate(rows) if row.kind == "op")
    rows[at] = ledger.Row("op", rows[at].key, {**rows[at].body, "print": "0" * 16})
    with pytest.raises(LedgerDrift):
        asyncio.run(run_of(None, seed=11).solve(QUESTION, strategy_of(text), ledger=ledger.Ledger(rows)))


def test_there_is_one_for_every_strategy() -> None:
    assert {path.name for path in GOLDEN.glob("*.jsonl")} == {place(text).name for text in STRATEGIES_TEXT}
