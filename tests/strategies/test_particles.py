"""Particle filtering and particle Gibbs: the draw, what is kept, and that a sweep ends with an answer whatever its budget is."""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput, ModelError
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies.particles import gibbs, odds, particles, systematic
from pondera.strategies.steps import END
from pondera.thought import Budget
from tests.strategies.planted import found, one_way, replays, solve

every = pytest.mark.parametrize("strategy", [particles, gibbs], ids=lambda strategy: str(strategy.__name__))
weights = st.lists(st.floats(0, 10), min_size=1, max_size=12).filter(lambda w: sum(w) > 1e-3)


@given(weights, st.integers(1, 30), st.floats(0, 1, exclude_max=True))
def test_a_systematic_draw_takes_each_floor_or_ceil_of_its_expected_times(given_: list[float], n: int, u: float) -> None:
    times = Counter(systematic(given_, n, u))
    assert sum(times.values()) == n
    for i, weight in enumerate(given_):
        expected = n * weight / math.fsum(given_)
        assert math.floor(expected - 1e-9) <= times[i] <= math.ceil(expected + 1e-9)


@given(weights, st.integers(1, 8))
def test_a_systematic_draw_is_right_on_average(given_: list[float], n: int) -> None:
    grid = 400
    times = Counter(i for k in range(grid) for i in systematic(given_, n, (k + 0.5) / grid))
    for i, weight in enumerate(given_):
        assert times[i] / grid == pytest.approx(n * weight / math.fsum(given_), abs=2 / grid)


def test_what_weighs_nothing_is_never_drawn() -> None:
    assert all(set(systematic([0.0, 1.0, 0.0, 2.0, 0.0], 3, u / 97)) == {1, 3} for u in range(97))


def test_weights_are_odds_and_finite() -> None:
    assert odds([0.5, 0.75, 0.9]) == pytest.approx([1.0, 3.0, 9.0])
    assert all(math.isfinite(one) and one > 0 for one in odds([0.0, 1.0, -3.0, 7.0]))


@pytest.mark.parametrize(("strategy", "given_"), [(particles, {"n": 8}), (gibbs, {"n": 5})])
async def test_the_planted_path_is_found(strategy: Any, given_: dict[str, Any]) -> None:
    assert await found(strategy, **given_) >= 0.7


@every
@pytest.mark.parametrize("by", ["silent", "broken", "scorer", "judge", "confidence"])
async def test_a_verifier_without_an_opinion_does_not_stop_the_search(strategy: Any, by: str) -> None:
    answer = await solve(partial(strategy, by=by))
    assert answer.key is not None
    assert answer.thought.done


@every
async def test_a_branch_whose_children_all_fail_is_replaced(strategy: Any) -> None:
    answer = await solve(partial(strategy), Fake(one_way))
    assert answer.key == "5"
    with pytest.raises(ModelError, match="down"):
        await solve(partial(strategy), Fake([ModelError("down")]))


@every
@pytest.mark.parametrize("tokens", [35, 100, 150, 300, 700, 2000])
async def test_any_budget_gives_an_answer(strategy: Any, tokens: int) -> None:
    def wordy(op: Expand, index: int, seed: int) -> str:
        return "5}.\n" if op.force else "\n\n".join([f"{'so ' * 30}{seed}"] * 9)

    answer = await solve(partial(strategy), Fake(wordy), Budget(tokens=tokens))
    assert answer.key is not None
    assert answer.spend.tokens <= tokens


@every
async def test_a_step_that_never_ends_is_bounded(strategy: Any) -> None:
    model = Fake(lambda op, index, seed: "5}.\n" if op.force else f"so{seed % 9} " * 10_000)
    assert (await solve(partial(strategy, depth=3, step=10), model)).key == "5"
    assert max(op.max_tokens for op in model.asked) == END


@every
@pytest.mark.parametrize("tokens", [90.0, 400.0, math.inf])
async def test_a_replay_says_the_same(strategy: Any, tokens: float) -> None:
    await replays(partial(strategy), Budget(tokens=tokens))


@pytest.mark.parametrize(
    ("strategy", "given_"),
    [(particles, {"n": 0}), (particles, {"depth": 0}), (particles, {"step": -1}), (gibbs, {"sweeps": 0}), (gibbs, {"n": 1})],
)
async def test_bad_arguments_are_one_sentence(strategy: Any, given_: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="give"):
        await solve(partial(strategy, **given_))


async def test_particles_at_one_node_are_asked_for_together() -> None:
    """One of four first steps is as good as sure, so that all four particles go on from it."""

    def script(op: Expand, index: int, seed: int) -> str:
        if op.node.reply:
            return "It is \\boxed{42}."
        return "right\n\nmore" if index == 2 else "wrong\n\nmore"

    model = Fake(script)
    answer = await solve(partial(particles, n=4, by="sure"), model)
    assert [op.n for op in model.asked] == [4, 4]
    assert model.asked[1].node.text.startswith("right")
    assert dict(answer.votes) == {"42": 4}


async def test_the_kept_path_lives_on_whatever_it_weighs() -> None:
    """Sweep 2 finds better paths only, and still the kept one of sweep 1 is among its ends and can be branched off."""
    sweeps: list[int] = []

    def script(op: Expand, index: int, seed: int) -> str:
        if not op.node.reply:
            sweeps.append(op.n)
        if op.node.reply:
            return "It is \\boxed{1}." if "wrong" in op.node.reply else "It is \\boxed{2}."
        return "wrong\n\nmore" if sweeps[0] == op.n else "right\n\nmore"

    model = Fake(script)
    answer = await solve(partial(gibbs, n=3, sweeps=2, by="sure"), model)
    assert [op.n for op in model.asked if op.node.parent is None] == [3, 2], "one particle of the second sweep is the kept path"
    assert (answer.key, dict(answer.votes)) == ("2", {"1": 3, "2": 2})


async def test_the_order_of_particles_does_not_matter() -> None:
    def script(flip: bool, op: Expand, index: int, seed: int) -> str:
        i = op.n - 1 - index if flip else index
        depth = op.node.reply.count("\n\n")
        return f"{'x' * (i + 1)} {depth}\n\nmore" if depth < 3 else f"\\boxed{{{len(op.node.reply)}{i}}}"

    for strategy in (particles, gibbs):
        one, other = [await solve(partial(strategy, by="whim"), Fake(partial(script, flip))) for flip in (False, True)]
        assert (one.key, one.confidence, dict(one.votes)) == (other.key, other.confidence, dict(other.votes))


def test_a_draw_of_one_follows_the_weights() -> None:
    rng = random.Random(5)
    times = Counter(systematic([1.0, 3.0], 1, rng.random())[0] for _ in range(2000))
    assert times[1] / 2000 == pytest.approx(0.75, abs=0.05)
