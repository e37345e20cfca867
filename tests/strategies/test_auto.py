"""The compute-optimal mind: easy questions are settled early, hopeless ones given up, and it never does worse than it was allowed."""

from __future__ import annotations

import math
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pondera.allocate.table import Larger
from pondera.errors import BadInput, ModelError, PonderaError
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.plan import Plan
from pondera.strategies.auto import auto
from pondera.thought import Answer, Budget, Price, Question
from tests.allocate.test_table import made
from tests.strategies.planted import replays, solve


def says(*answers: str, program: bool = True) -> Any:
    """A model whose samples are drawn from some answers; its programs too, or they all fail."""

    def reply(op: Expand, index: int, seed: int) -> Any:
        answer = random.Random(seed).choice(answers)
        if op.force:
            return f"{'# so ' * 50}\nprint({answer})\n```" if program else ModelError("no programs here")
        return f"{'We count on. ' * 70} \\boxed{{{answer}}}"

    return reply


async def calls(model: Any, **given: Any) -> tuple[float, Answer]:
    """How many samples it takes, the mean of ten seeds, and the last answer."""
    told = [await solve(partial(auto, **given), Fake(model), seed=seed) for seed in range(10)]
    return sum(one.spend.calls for one in told) / len(told), told[-1]


async def test_what_all_agree_on_is_settled_early_and_a_contest_is_not() -> None:
    easy, answer = await calls(says("42"))
    contest, _ = await calls(says("42", "42", "42", "41", "41"))
    assert answer.key == "42"
    assert answer.confidence is not None
    assert answer.confidence > 0.6
    assert easy < 0.7 * contest


async def test_answers_that_are_scattered_are_given_up() -> None:
    hopeless, answer = await calls(says(*map(str, range(1, 2000))), worth=8_000.0)
    assert hopeless < 30
    assert answer.confidence is not None
    assert answer.confidence < 0.4
    stubborn, _ = await calls(says(*map(str, range(1, 2000))), effort="max")
    assert stubborn > 60


async def test_more_is_drawn_where_a_right_answer_is_worth_more() -> None:
    model = says("42", "42", "42", "41", "41")
    spent = [(await calls(model, effort=effort))[0] for effort in ("low", "medium", "high")]
    assert spent == sorted(spent)
    assert spent[0] < 0.7 * spent[2]
    assert (await calls(model, worth=4_000.0))[0] == spent[0]
    assert (await calls(model, worth=1e-3))[0] == 1, "an answer is owed"
    assert (await calls(model, effort="max", most=5))[0] <= 5


async def test_a_sort_that_always_fails_is_left() -> None:
    model = Fake(says("42", "42", "41", program=False))
    answer = await solve(partial(auto, effort="high"), model)
    assert answer.key in ("41", "42")
    failed, came = (sum(op.n for op in model.asked if bool(op.force) == forced) for forced in (True, False))
    assert failed < 1.5 * came
    assert failed < 16


async def test_when_all_fail_it_gives_up_and_says_why() -> None:
    model = Fake([ModelError("down")])
    with pytest.raises(PonderaError, match="down"):
        await solve(partial(auto, effort="high"), model)
    assert sum(op.n for op in model.asked) < 64


async def test_a_verifier_that_knows_settles_a_contest() -> None:
    model = says("42", "42", "41", "41")

    async def knows(**given: Any) -> tuple[float, float]:
        told = [await solve(partial(auto, effort="high", **given), Fake(model), seed=seed) for seed in range(10)]
        return sum(one.spend.calls for one in told) / 10, sum(one.key == "42" for one in told) / 10

    alone, checked = await knows(), await knows(by="key42")
    assert checked[0] < alone[0]
    assert checked[1] == 1.0


@pytest.mark.parametrize("by", ["silent", "broken", "judge", "confidence", "whim"])
async def test_a_verifier_without_an_opinion_does_no_harm(by: str) -> None:
    assert (await solve(partial(auto, by=by), Fake(says("42")))).key == "42"


@pytest.mark.parametrize("tokens", [5, 40, 300, 2000])
async def test_any_budget_gives_an_answer(tokens: int) -> None:
    answer = await solve(partial(auto, effort="max", max_tokens=4), Fake(says("42", "41")), Budget(tokens=tokens))
    assert answer.spend.tokens <= tokens


async def test_a_deadline_ends_it_before_the_round_that_would_pass_it() -> None:
    answer = await solve(partial(auto, effort="max"), Fake(says("42", "41"), latency=0.005), Budget(seconds=1.0))
    assert (answer.stopped, answer.key in ("41", "42")) == ("done", True)


async def test_it_says_what_it_expected_and_why_it_ended() -> None:
    ledger = Ledger()
    await solve(auto, Fake(says("42")), ledger=ledger)
    whys = [row.body["why"] for row in ledger.rows if row.kind == "offer"]
    assert all("worth" in why for why in whys)
    assert whys[-1].startswith("end: at best")
    answer = await solve(auto, Fake(says("42")))
    assert answer.why.startswith("end: at best")
    answer = await solve(partial(auto, effort="max"), Fake(says("42", "41")), Budget(tokens=900))
    assert (answer.stopped, answer.why.partition(":")[0]) == ("budget", "32 chains")


@pytest.mark.parametrize("budget", [Budget(), Budget(tokens=120)])
async def test_a_replay_says_the_same(budget: Budget) -> None:
    await replays(partial(auto, by="whim"), budget)


async def test_worth_may_be_said_in_dollars() -> None:
    model = says("42", "42", "42", "41", "41")
    assert (await calls(model, value=0.01, error_cost=0.006, price=1.0))[0] == (await calls(model, worth=16_000.0))[0]
    plan = Plan(model="fake", strategy="auto(value=0.01)", price="0.1,2.0")
    assert plan.strategy_of().keywords["price"] == 2.0  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="give the model's, as in --price"):
        await solve(partial(auto, value=0.01))
    with pytest.raises(BadInput, match="not negative"):
        await solve(partial(auto, error_cost=-1.0))


async def test_where_waiting_costs_it_ends_after_fewer_rounds() -> None:
    model, rounds = Fake(says("42", "42", "42", "41", "41"), latency=1e-4), []
    for cost in (0.0, 0.01, 10.0):  # dollars a second, an answer being worth 0.3 of them
        record = Ledger()
        await solve(partial(auto, value=0.3, price=1.0, latency_cost=cost), model, ledger=record)
        rounds.append(sum(row.kind == "offer" for row in record.rows))
    assert rounds[0] > rounds[1] > rounds[2] == 1
    with pytest.raises(BadInput, match="latency_cost=-1"):
        await solve(partial(auto, latency_cost=-1.0))
    await replays(partial(auto, value=0.3, price=1.0, latency_cost=0.01), Budget())


async def test_where_prompts_are_dear_it_asks_less_often_for_more_at_once() -> None:
    async def sizes(prompt: float) -> list[list[int]]:
        """Of the rounds of six runs; `prompt` is dollars a million tokens, what is generated being 1."""
        models = [Fake(says("42", "42", "42", "41", "41"), price=Price(prompt, 1.0)) for _ in range(6)]
        for seed, model in enumerate(models):
            await solve(partial(auto, effort="high", price=1.0), model, seed=seed)
        return [[op.n for op in model.asked] for model in models]

    free, dear, ruinous = [await sizes(prompt) for prompt in (0.0, 100.0, 1_000.0)]
    assert sum(map(len, free)) > sum(map(len, dear)) > sum(map(len, ruinous)) == 6
    assert max(map(max, dear)) > max(map(max, free)) == 8


async def test_a_table_says_what_an_effort_is_and_what_a_question_will_cost(tmp_path: Path) -> None:
    made(verifier={}, efforts={"low": 50.0, "medium": 4000.0, "high": 16_000.0, "max": 1e9}).save(tmp_path / "t.json")
    table, ledger = str(tmp_path / "t.json"), Ledger()
    low, high = [(await calls(says("42", "42", "41"), effort=effort, table=table))[0] for effort in ("low", "high")]
    assert low < high
    assert low == (await calls(says("42", "42", "41"), worth=50.0, table=table))[0]
    made(verifier={}, most=3).save(tmp_path / "few.json")
    assert (await calls(says("42", "42", "41"), effort="max", table=str(tmp_path / "few.json")))[0] <= 3
    await solve(partial(auto, table=table, effort="high"), Fake(says("42", "41", "40")), ledger=ledger)
    by_mean, by_worth = [(await calls(says("42", "42", "41"), table=table, **given))[0] for given in ({"mean": 500.0}, {"worth": 1000.0})]
    assert by_mean == by_worth
    for given in ({"mean": 9e9}, {"right": 0.99}, {"mean": -1.0}, {"right": 2.0}):
        with pytest.raises(BadInput):
            await solve(partial(auto, table=table, **given))
    with pytest.raises(BadInput, match="make one by `pondera calibrate`"):
        await solve(partial(auto, mean=500.0))
    whys = [row.body["why"] for row in ledger.rows if row.kind == "offer"]
    assert "300 tokens in all are likely, 100 to 4,000" in whys[0]


async def two(small: Any, big: Any, budget: Budget | None = None, record: Ledger | None = None, **given: Any) -> Answer:
    """A small model that samples and a larger one that may be asked."""
    text = f"auto({', '.join(f'{name}={value!r}' for name, value in given.items())})"
    plan = Plan(model="big", draft="small", strategy=text)
    models = {"think": Fake(big, name="big"), "draft": Fake(small, name="small")}
    return await plan.run(models, budget).solve(Question.of("What is it?"), plan.strategy_of(), ledger=record)


SCATTERED = says(*map(str, range(1, 2000)))


async def test_a_verifier_that_asks_the_model_is_asked_of_each_sample_once(tmp_path: Path) -> None:
    column = {"signal": "orm", "mean": 0.0, "scale": 1.0, "weight": 1.0}
    made(verifier={"bias": 0.0, "asks": ["orm"], "signals": [column]}).save(tmp_path / "t.json")
    name = str(tmp_path / "t.json")
    contest = says("42", "42", "41", "41")
    model = Fake(lambda op, index, seed: "Yes" if op.until == "verdict" else contest(op, index, seed))
    plan = Plan(model="fake", strategy=f"auto(table={name!r}, worth=64000.0)")
    answer = await plan.run({"think": model}).solve(Question.of("What is 6 times 7?"), plan.strategy_of())
    asked = [op.node.id for op in model.asked if op.until == "verdict"]
    assert len(answer.candidates) == len(asked) == len(set(asked))
    assert sum(op.until == "done" for op in model.asked) > 2, "in several rounds"
    assert all(score > 0.5 for one in answer.candidates for score in one.scores.values())


async def test_a_larger_model_is_asked_where_that_pays() -> None:
    record = Ledger()
    answer = await two(SCATTERED, says("7"), record=record, worth=64_000.0)
    assert answer.key == "7"
    assert answer.by_role["think"].calls == 1
    assert answer.by_role["draft"].calls >= 4
    assert answer.why == "end: big has answered"
    assert any(row.body["why"].startswith("ask big: +") for row in record.rows if row.kind == "offer")
    plan = Plan(model="big", draft="small", strategy="auto(worth=64000.0)")
    again = await plan.run({}).solve(Question.of("What is it?"), plan.strategy_of(), ledger=Ledger(list(record.rows)))
    assert (again.key, again.spend.tokens) == ("7", answer.spend.tokens)
    for given in ({"times": 1_000.0}, {"worth": 500.0}):
        assert "think" not in (await two(SCATTERED, says("7"), **{"worth": 64_000.0} | given)).by_role
    assert "think" not in (await two(says("42"), says("7"))).by_role, "what is settled needs nobody's help"


async def test_a_larger_model_that_fails_or_has_no_answer_takes_nothing_away() -> None:
    for big in (lambda *_: ModelError("not today"), lambda *_: "I cannot tell."):
        answer = await two(says("41", "42", "43", "44"), big, worth=1e6)
        assert answer.key in ("41", "42", "43", "44")
        assert answer.why == "end: big gave no answer"
    answer = await two(lambda *_: ModelError("not today"), says("7"))
    assert answer.key == "7", "where the small one fails altogether the larger one may still be asked"
    with pytest.raises(PonderaError, match="not today"):
        await two(lambda *_: ModelError("not today"), lambda *_: ModelError("not today"))


@pytest.mark.parametrize("tokens", [5, 300, 900, 2000])
async def test_with_a_larger_model_too_any_budget_holds(tokens: int) -> None:
    answer = await two(SCATTERED, says("7"), Budget(tokens=tokens), max_tokens=256, worth=64_000.0)
    assert answer.spend.tokens <= tokens
    if tokens >= 900:
        assert answer.key == "7", "the small one leaves enough for the larger one's answer"


async def test_a_table_knows_what_a_larger_model_comes_to(tmp_path: Path) -> None:
    for start, asked in ((3.0, True), (-3.0, False)):
        table = str(tmp_path / f"{start}.json")
        made(verifier={}, model="small", larger={"big": Larger(tokens=100.0, times=3.0, start=start, slope=0.5)}).save(Path(table))
        answer = await two(SCATTERED, says("7"), table=table)
        assert (answer.key == "7") == asked
    with pytest.raises(BadInput, match="times=-1"):
        await two(SCATTERED, says("7"), times=-1.0)


@pytest.mark.parametrize("given", [{"effort": "some"}, {"worth": -1.0}, {"worth": float("nan")}, {"most": -1}])
async def test_bad_arguments_are_one_sentence(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="effort"):
        await solve(partial(auto, **given))


@pytest.mark.parametrize("given", [{"steep": 9.0}, {"steep": math.nan}, {"shift": math.inf}])
async def test_what_was_learned_is_two_numbers_of_a_size(given: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="0 for none"):
        await solve(partial(auto, **given), Fake(says("42")))


@pytest.mark.parametrize("steep", [-2.0, 2.0])
async def test_the_steepest_belief_still_has_chances(steep: float) -> None:
    answer = await solve(partial(auto, effort="max", most=200, steep=steep, shift=3.0), Fake(says("42", "42", "42", "41")))
    assert answer.key == "42"
    assert 0 < (answer.confidence or 0) <= 1
