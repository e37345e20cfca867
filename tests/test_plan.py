"""From names to a run, and the one step to code that is not async."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import pondera
from pondera import ledger
from pondera.errors import BadInput, WeightsError
from pondera.models.fake import Fake
from pondera.plan import Plan, open_model, replayed, solve, solve_sync
from pondera.thought import Budget, Price, Question

Q = "What is 17 + 25?"


def test_solve_sync_answers_with_its_bill() -> None:
    answer = solve_sync(Q, model=Fake(["\\boxed{42}"]), strategy="vote(n=3, over='chains')", budget=Budget(tokens=600))
    assert (answer.key, answer.confidence, answer.spend.calls, answer.spend.tokens) == ("42", 1.0, 3, 3)


async def test_solve_sync_works_inside_a_running_loop() -> None:
    assert solve_sync(Q, model=Fake(["\\boxed{42}"]), strategy="cot").key == "42"
    with pytest.raises(BadInput, match="empty"):
        solve_sync(" ", model=Fake(), strategy="cot")


async def test_real_keys_and_the_real_sandbox_serve_a_run() -> None:
    answer = await solve(Q, model=Fake(["\nprint(17 + 25)\n```"]), strategy="program")
    assert (answer.text, answer.key) == ("42", "42")
    other = await solve(Q, model=Fake(["It is $\\frac{84}{2}$."]), strategy="cot")
    assert other.key == "42"


async def test_a_verifier_that_is_named_judges_the_strategy() -> None:
    model = Fake(lambda op, index, seed: "Yes" if op.by == "judge" else "\\boxed{42}")
    answer = await solve(Q, model=model, strategy="best_of(n=2, over='chains')", verifier="judge(max_tokens=2)")
    assert set(answer.candidates[0].scores) == {"judge(max_tokens=2)"}
    assert answer.by_role["judge"].calls == 2


async def test_a_judge_may_be_another_model() -> None:
    thinker, judge = Fake(["\\boxed{42}"], name="small"), Fake(["Yes"], name="large")
    answer = await solve(Q, model=thinker, judge=judge, strategy="vote(n=2, over='chains')", verifier="judge")
    assert {op.by for op in judge.asked} == {"judge"}
    assert answer.spend.judging == 2


async def test_what_a_ledger_needs_to_run_again_is_in_it(tmp_path: Path) -> None:
    kept = ledger.create(tmp_path / "run.db")
    await solve(Q, model=Fake(), strategy="vote(n=2)", budget=Budget(tokens=900), seed=5, ledger=kept)
    kept.close()
    question, plan, budget, seed = replayed(ledger.Ledger(ledger.read(tmp_path / "run.db")))
    assert (question, plan.strategy, budget, seed) == (Question.of(Q), "vote(n=2)", Budget(tokens=900), 5)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("qwen2.5-coder-5b", BadInput, "did you mean 'qwen2.5-coder-1.5b'"),
        ("no/such/file.gguf", WeightsError, "does not exist"),
        ("@http://localhost:1", BadInput, "NAME@URL"),
        ("m@localhost:1", BadInput, "NAME@URL"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)


def test_dollars_need_a_price() -> None:
    model = Fake(price=None)
    with pytest.raises(BadInput, match="needs the model's price"):
        Plan().run({"think": model}, Budget(usd=1.0))
    assert Plan().run({"think": Fake(price=Price(1, 2))}, Budget(usd=1.0))


def test_a_server_is_named_with_its_address() -> None:
    model = open_model("m@http://127.0.0.1:9/v1")
    assert model.name == "m"
    asyncio.run(model.close())


def test_the_names_of_the_readme_are_there() -> None:
    assert pondera.solve is solve
    assert callable(pondera.strategy("vote(n=2)"))


def test_a_password_in_an_address_is_refused_before_anything_is_recorded() -> None:
    for role in ("model", "judge", "draft", "reward"):
        with pytest.raises(BadInput, match="password") as caught:
            Plan(**{role: "qwen3@http://user:s3cret@localhost:8000/v1"})
        assert "s3cret" not in str(caught.value)
    assert Plan(model="qwen3@http://localhost:8000/v1").roles()["think"] == "qwen3@http://localhost:8000/v1"
