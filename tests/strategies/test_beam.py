"""Beam search, DVTS and REBASE: what goes on, what is dropped, and that a search ends with an answer whatever its budget is."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput, ModelError
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies.beam import balanced, beam, dvts, lookahead, rebase
from pondera.strategies.mcts import mcts
from pondera.strategies.particles import gibbs, particles
from pondera.strategies.search import distinct, ranked
from pondera.strategies.steps import END
from pondera.strategies.think import cot
from pondera.thought import Budget, Thought
from tests.strategies.planted import found, one_way, replays, script, solve

ALL = [beam, lookahead, dvts, rebase]
every = pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: str(strategy.__name__))


@pytest.mark.parametrize(
    ("strategy", "given"), [(beam, {"fanout": 4}), (lookahead, {"fanout": 4}), (dvts, {"fanout": 4}), (rebase, {"width": 8})]
)
async def test_the_planted_path_is_found(strategy: Any, given: dict[str, Any]) -> None:
    assert (await solve(partial(cot))).key != "42"
    assert await found(strategy, **given) >= 0.7


@every
@pytest.mark.parametrize("by", ["silent", "broken", "scorer", "judge", "confidence"])
async def test_a_verifier_without_an_opinion_does_not_stop_the_search(strategy: Any, by: str) -> None:
    answer = await solve(partial(strategy, by=by))
    assert answer.key is not None
    assert answer.thought.done


@every
async def test_a_branch_whose_children_all_fail_is_dropped(strategy: Any) -> None:
    answer = await solve(partial(strategy), Fake(one_way))
    assert answer.key == "5"
    assert any("no way on" in line for line in answer.cut)
    with pytest.raises(ModelError, match="down"):
        await solve(partial(strategy), Fake([ModelError("down")]))


@every
async def test_when_every_way_on_fails_the_best_path_concludes(strategy: Any) -> None:
    def wall(op: Expand, index: int, seed: int) -> Any:
        if op.force:
            return "5}.\n"
        return ModelError("a wall") if op.node.reply else "start\n\nmore"

    answer = await solve(partial(strategy), Fake(wall))
    assert (answer.key, answer.stopped) == ("5", "done")
    assert answer.text.startswith("start\n\n")


@every
async def test_a_step_that_never_ends_is_bounded(strategy: Any) -> None:
    def endless(op: Expand, index: int, seed: int) -> str:
        return "5}.\n" if op.force else f"so{seed % 9} " * 10_000

    model = Fake(endless)
    answer = await solve(partial(strategy, depth=3, step=10), model)
    assert answer.key == "5"
    assert answer.spend.tokens <= sum(op.n * op.max_tokens for op in model.asked)
    assert max(op.max_tokens for op in model.asked) == END


@pytest.mark.parametrize("strategy", [*ALL, particles, gibbs, mcts], ids=lambda strategy: str(strategy.__name__))
async def test_a_path_that_says_the_same_step_over_and_over_is_left(strategy: Any) -> None:
    """Its model is surer and surer of it, so that a search by confidence would follow it to the last level."""

    def stuck(op: Expand, index: int, seed: int) -> str:
        return "5}.\n" if op.force else "So we add the two numbers again, and then we go on as we did before.\n\n" * 99

    model = Fake(stuck)
    answer = await solve(strategy, model)
    assert answer.key == "5"
    assert max(len(op.node.path) for op in model.asked) < 10


@every
@pytest.mark.parametrize("tokens", [35, 100, 150, 300, 700, 2000])
async def test_any_budget_gives_an_answer(strategy: Any, tokens: int) -> None:
    def wordy(op: Expand, index: int, seed: int) -> str:
        return "5}.\n" if op.force else "\n\n".join([f"{'so ' * 30}{seed}"] * 9)

    answer = await solve(partial(strategy), Fake(wordy), Budget(tokens=tokens))
    assert answer.key is not None
    assert answer.spend.tokens <= tokens


@every
async def test_the_order_of_children_does_not_matter(strategy: Any) -> None:
    def ordered(op: Expand, index: int, seed: int) -> str:
        if op.force:
            return "5}.\n"
        depth = op.node.reply.count("\n\n")
        return f"{'x' * (index + 1)} {depth}\n\nmore" if depth < 3 else f"\\boxed{{{len(op.node.reply)}{index}}}"

    def reversed_(op: Expand, index: int, seed: int) -> str:
        return ordered(op, op.n - 1 - index, seed)

    one, other = [await solve(partial(strategy, by="whim"), Fake(model)) for model in (ordered, reversed_)]
    assert (one.key, one.confidence, dict(one.votes)) == (other.key, other.confidence, dict(other.votes))


@every
@pytest.mark.parametrize("tokens", [90.0, 400.0, math.inf])
async def test_a_replay_says_the_same(strategy: Any, tokens: float) -> None:
    await replays(partial(strategy), Budget(tokens=tokens))


@pytest.mark.parametrize(
    ("strategy", "given"),
    [
        *((beam, {name: 0}) for name in ("width", "fanout", "depth", "step")),
        *((beam, {"lookahead": -1}), (lookahead, {"k": -1}), (dvts, {"trees": 0}), (dvts, {"fanout": -1})),
        *((rebase, {"width": -1}), (rebase, {"balance": 0.0}), (rebase, {"balance": math.nan})),
    ],
)
async def test_bad_arguments_are_one_sentence(strategy: Any, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"give"):
        await solve(partial(strategy, **given))


async def test_the_beam_asks_the_children_of_a_node_together_and_keeps_the_best() -> None:
    model = Fake(script)
    await solve(partial(beam, width=3, fanout=2, by="honest"), model)
    assert model.asked[0].n == 6
    levels = [[op for op in model.asked if len(op.node.path) == depth + 1] for depth in range(1, 4)]
    for ops in levels:
        assert 1 <= len(ops) <= 3
        assert {op.n for op in ops} == {2}
    assert all(not op.say for op in model.asked[1:]), "a path is continued, the question is not asked again"


@pytest.mark.parametrize("strategy", [partial(beam, fanout=1), partial(rebase, width=2), partial(particles, n=2)])
@pytest.mark.parametrize(("ended", "open_", "levels"), [("gold", "dull", 1), ("shiny", "gold", 2), ("dull", "dull", 2)])
async def test_a_search_ends_when_no_open_path_could_overtake_the_ended_ones(strategy: Any, ended: str, open_: str, levels: int) -> None:
    def two(op: Expand, index: int, seed: int) -> str:
        if op.node.reply:
            return "\\boxed{42} gold"
        return f"{open_}\n\nmore" if index else f"\\boxed{{7}} {ended}"

    model = Fake(two)
    answer = await solve(partial(strategy, by="taste"), model)
    assert (len({len(op.node.path) for op in model.asked if op.temperature}), answer.key) == (levels, "7" if levels == 1 else "42")


async def test_lookahead_scores_where_a_step_leads_and_keeps_the_step() -> None:
    """The step that looks best leads to the worst: one look ahead sees it."""

    def trap(op: Expand, index: int, seed: int) -> str:
        if op.force:
            return "1}.\n"
        if not op.node.reply:
            return "shiny\n\nmore" if index == 0 else "dull\n\nmore"
        if op.node.reply == "shiny\n\n":
            return "mud\n\nmore"
        return "gold \\boxed{42}" if op.node.reply == "dull\n\n" else "\\boxed{7}"

    greedy = partial(beam, width=1, fanout=2, by="taste")
    assert (await solve(greedy, Fake(trap))).key == "7"
    model = Fake(trap)
    assert (await solve(partial(greedy, lookahead=1), model)).key == "42"
    rolled = [op for op in model.asked if op.temperature == 0 and not op.force]
    assert rolled
    assert all(op.n == 1 for op in rolled)


async def test_the_trees_of_dvts_never_meet() -> None:
    model = Fake(script)
    answer = await solve(partial(dvts, trees=3, fanout=2, by="honest"), model)
    assert model.asked[0].n == 6
    firsts = {op.node.path[1].id for op in model.asked[1:] if not op.force}
    assert 2 <= len(firsts) <= 3
    assert len({candidate.thought.path[1].id for candidate in answer.candidates}) >= 2, "each tree has a vote"


rewards = st.lists(st.floats(0, 1), min_size=1, max_size=9)


@given(rewards, st.integers(1, 40), st.floats(0.01, 100))
def test_balanced_shares_keep_the_sum_and_the_order(scores: list[float], places: int, balance: float) -> None:
    shares = balanced(scores, places, balance)
    assert sum(shares) == places
    assert all(share >= 0 for share in shares)
    for one, a in zip(scores, shares, strict=True):
        for other, b in zip(scores, shares, strict=True):
            assert a >= b - 1 if one >= other else True


def test_balanced_shares_by_hand() -> None:
    assert balanced([math.log(3), 0.0], 8, 1.0) == [6, 2]
    assert balanced([0.5, 0.5, 0.5], 4, 0.2) == [2, 1, 1]
    assert balanced([1.0, 0.0], 4, 0.01) == [4, 0]
    assert balanced([900.0, -900.0], 3, 0.01) == [3, 0]


async def test_rebase_gives_the_promising_more_children() -> None:
    model = Fake(script)
    await solve(partial(rebase, width=8, by="honest", balance=0.5), model)
    second = {op.node.reply.split()[0]: op.n for op in model.asked if len(op.node.path) == 2}
    assert second["right"] > second["wrong"]


def test_paths_that_say_the_same_go_on_once() -> None:
    texts = [Thought(f"0/{i}", text=text, finish="step") for i, text in enumerate("aab")]
    assert [node.id for node in distinct([*texts, Thought("1", text="a", finish="done")])] == ["0/0", "0/2", "1"]


def test_thoughts_of_a_thinking_model_are_told_apart() -> None:
    root = Thought("0")
    inside = [Thought(f"0/{i}", root, thinking=thinking, finish="step") for i, thinking in enumerate(["hm", "so", "hm"])]
    assert [node.id for node in distinct(inside)] == ["0/0", "0/1"]
    assert [node.id for node in ranked(inside[:2], dict.fromkeys(inside, 0.5))] == ["0/0", "0/1"]
