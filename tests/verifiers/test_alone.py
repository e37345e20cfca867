"""The verifier of a calibrated table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pondera.errors import BadInput
from pondera.models.fake import Fake
from pondera.plan import Plan
from pondera.thought import Question
from pondera.verifiers.alone import alone
from tests.allocate.test_table import made


async def test_a_sample_is_judged_by_itself(tmp_path: Path) -> None:
    column = {"signal": "length", "mean": 3.0, "scale": 1.0, "weight": 2.0}
    made(verifier={"bias": -1.0, "signals": [column]}).save(tmp_path / "t.json")
    name = f"alone(table={str(tmp_path / 't.json')!r})"
    scores = []
    for strategy in ("vote(n=2, over='chains')", "vote(n=3, over='chains')"):
        plan = Plan(model="fake", strategy=strategy, verifier=name)
        model = Fake(["short \\boxed{1}", "rather much longer than that \\boxed{1}", "in between \\boxed{2}"])
        answer = await plan.run({"think": model}).solve(Question.of("What is 1 + 0?"), plan.strategy_of())
        scores.append({one.thought.text: one.scores[name] for one in answer.candidates})
    few, many = scores
    assert all(many[text] == score for text, score in few.items()), "what else there is does not matter"
    short, longer = sorted(few, key=len)
    assert few[short] is not None
    assert few[short] < few[longer] < 1.0


def test_tables_that_have_no_verifier_or_an_unknown_one(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    made(verifier={}).save(file)
    with pytest.raises(BadInput, match="has no verifier"):
        alone(str(file))
    body = made().verifier
    for wrong in (
        {"bias": 1.0},
        {"bias": float("inf"), "signals": []},
        {**body, "signals": [{"signal": "taste", "mean": 0.0, "scale": 1.0, "weight": 1.0}]},
        {**body, "signals": [{"signal": "sure", "mean": 0.0, "scale": 0.0, "weight": 1.0}]},
        {**body, "asks": ["oracle"]},
    ):
        made(verifier={}).save(file)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"verifier": wrong}))
        with pytest.raises(BadInput, match="calibrate anew"):
            alone(str(file))


async def test_a_table_that_was_fitted_with_the_orm_asks_it_of_whoever_gave_the_samples(tmp_path: Path) -> None:
    column = {"signal": "orm", "mean": 0.0, "scale": 1.0, "weight": 1.0}
    made(verifier={"bias": 0.0, "asks": ["orm"], "signals": [column]}).save(tmp_path / "t.json")
    name = f"alone(table={str(tmp_path / 't.json')!r}, by='draft')"
    draft, think = (Fake(lambda op, index, seed: "Yes" if op.until == "verdict" else f"\\boxed{{{seed % 2}}}") for _ in range(2))
    plan = Plan(model="fake", strategy="vote(n=2, over='chains')", verifier=name)
    answer = await plan.run({"think": think, "draft": draft}).solve(Question.of("What is 1 + 0?"), plan.strategy_of())
    assert {op.until for op in draft.asked} == {"verdict"}
    assert len(draft.asked) == 2
    for one in answer.candidates:
        assert 0.5 < one.scores[name] < 1.0, "its chance as log odds, of weight 1, is its chance again"
