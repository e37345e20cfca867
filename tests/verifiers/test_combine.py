"""Several verifiers as one: what is not known is left out, and what fails does not spoil the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from pondera import verifiers
from pondera.errors import BadInput, ModelError
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.ops import Expand, Score, Verdict, Verifier
from pondera.runtime import Run
from pondera.thought import Question, Thought
from pondera.verifiers.combine import logistic, mean, product, weighted
from pondera.verifiers.gold import equals
from pondera.verifiers.keys import keys


def fixed(*scores: Any) -> Any:
    """A factory of a verifier that gives these scores; an exception among them is raised."""

    def make() -> Verifier:
        async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
            for score in scores:
                if isinstance(score, Exception):
                    raise score
            return list(scores)

        return verifier

    return make


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "high": fixed(0.9, 0.8),
        "low": fixed(Verdict(0.1, "a slip"), Verdict(0.2, "a gap")),
        "half": fixed(None, 0.6),
        "silent": fixed(None, None),
        "nan": fixed(math.nan, 0.5),
        "minus": fixed(-3.0, 0.5),
        "broken": fixed(RuntimeError("boom")),
        "down": fixed(ModelError("down")),
        "short": fixed(0.5),
        "both": weighted,
    }
    monkeypatch.setattr(verifiers, "VERIFIERS", dict(verifiers.VERIFIERS) | table)


async def scored(verifier: Verifier, replies: Sequence[str] = ("a", "b"), kind: Any = "exact") -> list[Verdict | None]:
    async def strategy(root: Thought) -> Thought:
        nodes = [(await Expand(root, temperature=i / 10))[0] for i in range(len(replies))]
        found.append(await Score(tuple(nodes), "v"))
        return nodes[0]

    found: list[list[Verdict | None]] = []
    run = Run(models={"think": Fake(list(replies))}, keyer=keys, verifiers={"v": verifier})
    answer = await run.solve(Question.of("What?", kind=kind), strategy, ledger=Ledger())
    cuts.clear()
    cuts.extend(answer.cut)
    return found[0]


cuts: list[str] = []
near = pytest.approx


async def test_mean_and_product() -> None:
    assert await scored(mean(of="high, low")) == near([0.5, 0.5])
    assert await scored(product(of="high, low")) == near([0.3, 0.4])
    assert await scored(product(of="high, minus")) == near([0.0, math.sqrt(0.4)])


async def test_no_opinion_is_left_out() -> None:
    assert await scored(mean(of="high, half")) == near([0.9, 0.7])
    assert await scored(product(of="high, half")) == near([0.9, math.sqrt(0.48)])
    assert await scored(mean(of="nan, half")) == [None, near(0.55)]
    assert await scored(mean(of="silent")) == [None, None]
    assert await scored(weighted(of="high, half", weights="1, 3")) == near([0.9, 0.65])
    assert await scored(weighted(of="high, half", weights="0, 1")) == [None, near(0.6)]


@pytest.mark.parametrize("bad", ["broken", "down", "short"])
async def test_a_part_that_fails_is_left_out_and_recorded(bad: str) -> None:
    assert await scored(mean(of=f"high, {bad}")) == near([0.9, 0.8])
    assert len(cuts) == 1
    assert await scored(mean(of=f"{bad}, {bad}")) == [None, None]


async def test_learned_weights() -> None:
    assert await scored(logistic(of="high, low", weights="2, -1", bias=0.5)) == near([1 / (1 + math.exp(-2.2)), 1 / (1 + math.exp(-1.9))])
    assert await scored(logistic(of="high, half", weights="1, 1", bias=0.0)) == near([1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(-1.4))])
    assert await scored(logistic(of="high, silent", weights="1, 1")) == [None, None]
    assert await scored(logistic(of="high", weights="-1e9")) == near([0.0, 0.0])


async def test_reasons_are_kept() -> None:
    first, second = await scored(mean(of="high, low, low"))
    assert first is not None
    assert second is not None
    assert (first.why, second.why) == ("a slip\na slip", "a gap\na gap")


async def test_parts_have_arguments_and_may_be_combinations() -> None:
    assert await scored(mean(of="high, both(of='low, low', weights='1, 3')")) == near([0.5, 0.5])
    whole = await scored(mean(of="confidence(how='tail', window=4), high"))
    assert all(score is not None and 0.5 < score < 1 for score in whole)


async def test_nothing_to_score() -> None:
    with pytest.raises(StopIteration) as end:
        mean(of="high")(()).send(None)
    assert end.value.value == []


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (mean, {"of": ""}),
        (mean, {"of": "nobody"}),
        (mean, {"of": "high, low("}),
        (mean, {"of": "high; low"}),
        (product, {"of": "confidence(windw=3)"}),
        (weighted, {"weights": "1"}),
        (weighted, {"weights": "1, x"}),
        (weighted, {"weights": "1, -1"}),
        (weighted, {"weights": "0, 0"}),
        (weighted, {"weights": "1, nan"}),
        (logistic, {"weights": "1, 2, 3"}),
    ],
)
def test_bad_arguments(make: Any, arguments: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        make(**arguments)


# ---------------------------------------------------------------- the one that knows the answer


async def test_equality_with_the_gold_answer() -> None:
    replies = ["So it is \\boxed{0.5}.", "The answer is 1/2", "\\boxed{\\frac{2}{4}}", "\\boxed{5}", "No idea."]
    for gold in ("1/2", "\\frac{1}{2}", "It follows that \\boxed{0.50}", "2 + 2 = 4\n#### 0.5"):
        assert await scored(equals(gold=gold), replies, "math") == [1.0, 1.0, 1.0, 0.0, 0.0]
    algebra = ["\\boxed{(x+1)^2}", "\\boxed{x^2 + 2x + 1}", "\\boxed{x^2 + 1}"]
    assert await scored(equals(gold="x^2+2x+1"), algebra, "math") == [1.0, 1.0, 0.0]
    assert await scored(equals(gold="Paris"), ["The answer is: paris.", "Rome"], "exact") == [1.0, 0.0]
    assert await scored(equals(gold='{"a": 1}'), ['```json\n{"a": 1.0}\n```', '{"a": 2}'], "json") == [1.0, 0.0]


async def test_without_a_gold_answer_there_is_no_opinion() -> None:
    assert await scored(equals(), ["\\boxed{1}"], "math") == [None]
    assert await scored(equals(gold="not json"), ["{}"], "json") == [None]
