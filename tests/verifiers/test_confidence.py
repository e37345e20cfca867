"""Confidence is a probability of the model's own words, and silence has none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput
from pondera.ops import Verifier
from pondera.thought import Question, Thought, root_of
from pondera.verifiers import confidence, lowest, tail

ROOT = root_of(Question.of("What is 1 + 1?"))


def scores(verifier: Verifier, *nodes: Thought) -> list[float | None]:
    try:
        verifier(nodes).send(None)
    except StopIteration as done:
        answer: list[float | None] = done.value
        return answer
    raise AssertionError("confidence asks nothing of the runtime")


def node(*logprobs: float, parent: Thought = ROOT, said: str = "") -> Thought:
    return Thought(parent.id + "/x", parent, said=said, text="x", logprobs=logprobs)


def test_mean_lowest_and_tail() -> None:
    one = node(*map(math.log, (0.5, 0.5, 0.1, 0.4, 0.9, 0.8)))
    assert scores(confidence(), one) == [pytest.approx((0.5 * 0.5 * 0.1 * 0.4 * 0.9 * 0.8) ** (1 / 6))]
    assert scores(lowest(window=2), one) == [pytest.approx((0.1 * 0.4) ** 0.5)]
    assert scores(tail(window=2), one) == [pytest.approx((0.9 * 0.8) ** 0.5)]


def test_the_reply_is_all_since_the_last_user_turn() -> None:
    first = node(math.log(0.1))
    second = node(math.log(0.5), parent=first, said="Go on.")
    tool = Thought("t", second, text="42")
    third = node(math.log(0.5), parent=tool)
    assert scores(confidence(), first, third) == [pytest.approx(0.1), pytest.approx(0.5)]


def test_no_logprobs_is_no_score() -> None:
    assert scores(confidence(), ROOT, node(), node(math.nan)) == [None, None, None]
    assert scores(confidence()) == []


def test_impossible_tokens_still_give_a_probability() -> None:
    found = scores(confidence(), node(-math.inf, 0.0), node(1e-9))
    assert found[0] is not None
    assert 0 < found[0] < 1e-9
    assert found[1] == 1.0


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=40), st.integers(1, 50))
def test_bounds(values: list[float], window: int) -> None:
    (mean,), (least,), (last,) = (scores(v, node(*values)) for v in (confidence(), lowest(window), tail(window)))
    assert mean is not None
    assert least is not None
    assert last is not None
    assert 0 < least <= last * (1 + 1e-9) <= 1 + 1e-8
    assert least <= mean * (1 + 1e-9) or len(values) % window  # windows that tile the reply cannot all be above its mean
    slow = min(sum(values[i : i + window]) for i in range(max(1, len(values) - window + 1))) / min(window, len(values))
    assert least == pytest.approx(math.exp(slow), rel=1e-6)


@pytest.mark.parametrize("arguments", [{"how": "median"}, {"window": 0}, {"window": -3}])
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        confidence(**arguments)  # type: ignore[arg-type]
