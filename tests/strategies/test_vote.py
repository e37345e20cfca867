"""Voting and best-of-N: who wins, who abstains, and that order never matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput, BranchesFailed, CallFailed, ModelError, Stop
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies import strategy
from pondera.strategies.vote import elect
from pondera.thought import Answer, Thought
from tests.test_laws import QUESTION, run_of


async def solve(text: str, model: Fake) -> Answer:
    return await run_of(model).solve(QUESTION, strategy(text))


def node(i: int, key: str, *logprobs: float) -> Thought:
    return Thought(f"0.0/{i}", text=key, finish="done", logprobs=logprobs or (-0.1,))


ballots = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3", None]), st.floats(-2, 0), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=9
)


@given(ballots, st.randoms(use_true_random=False))
def test_the_order_of_branches_never_matters(cast: list[Any], rng: Any) -> None:
    def won(order: list[Any]) -> tuple[str, float]:
        pool = [Thought(f"0.0/{i}", text=f"{key} {p}", finish="done", logprobs=(p,)) for i, (key, p, _) in enumerate(order)]
        winner, share = elect(pool, [key for key, _, _ in order], [weight for _, _, weight in order])
        return winner.text, round(share, 9)

    shuffled = list(cast)
    rng.shuffle(shuffled)
    assert won(shuffled) == won(cast)


def test_ties_go_by_trust() -> None:
    pool = [node(0, "1", -0.9), node(1, "2", -0.1), node(2, "1", -0.9), node(3, "2", -0.2)]
    winner, share = elect(pool, ["1", "2", "1", "2"], [1.0] * 4)
    assert (winner.text, share) == ("2", 0.5)


def test_abstentions_lower_the_share() -> None:
    pool = [node(i, "7") for i in range(4)]
    assert elect(pool, ["7", None, "7", None], [1.0] * 4)[1] == 0.5
    assert elect(pool, [None] * 4, [1.0] * 4)[1] == 0.0


async def test_a_majority_wins_and_a_cut_branch_abstains() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        return ["\\boxed{1}", "\\boxed{2}", "\\boxed{2}", "so " * 50 + "\\boxed{1}", "so " * 50 + "\\boxed{1}"][index]

    answer = await solve("vote(n=5, over='chains', max_tokens=20)", Fake(script))
    assert (answer.key, dict(answer.votes), answer.abstentions, answer.confidence) == ("2", {"2": 2, "1": 1}, 2, 0.4)
    assert sum("cut off after 20 tokens" in line for line in answer.cut) == 2


async def test_a_weighted_vote_can_turn_the_majority() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        if op.by == "judge":
            return "Yes" if "3" in op.node.text else "No"
        return ["\\boxed{1}", "\\boxed{1}", "\\boxed{3}"][index]

    answer = await solve("vote(n=3, over='chains', by='judge')", Fake(script))
    assert answer.key == "3"
    assert answer.by_role["judge"].judging == 3
    assert {c.key: c.scores["judge"] for c in answer.candidates} == {"1": 0.0, "3": 1.0}


async def test_a_judge_without_an_opinion_leaves_the_majority() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        return "Perhaps" if op.by == "judge" else ["\\boxed{1}", "\\boxed{1}", "\\boxed{3}"][index]

    answer = await solve("vote(n=3, over='chains', by='judge')", Fake(script))
    assert (answer.key, answer.confidence) == ("1", pytest.approx(2 / 3))
    assert all(not c.scores for c in answer.candidates)


async def test_best_of_takes_the_highest_score() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        return f"\\boxed{{{index}}} " + "so " * (index * 2 + 1)

    answer = await solve("best_of(n=4, over='chains', by='scorer')", Fake(script))
    assert answer.key == max((c for c in answer.candidates if c.scores), key=lambda c: c.scores["scorer"]).key


async def test_both_sorts_of_branches_vote_together() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        return "\nprint(41)\n```" if op.force else "\\boxed{41}"

    model = Fake(script)
    answer = await solve("vote(n=7)", model)
    assert dict(answer.votes) == {"41": 7}
    assert sorted(op.n for op in model.asked) == [3, 4]


async def test_programs_that_fail_are_dropped_and_recorded() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        return ["\nprint(41)\n```", "\nprint(10)\n```", "\nprint('x')\n```"][index]

    answer = await solve("vote(n=3, over='programs')", Fake(script))
    assert dict(answer.votes) == {"41": 1}
    assert answer.confidence == pytest.approx(1 / 3), "those that failed have not spoken for it"
    assert sum("ZeroDivisionError" in line for line in answer.cut) == 2
    with pytest.raises(CallFailed, match="ZeroDivisionError"):
        await solve("program", Fake(["\nprint(10)\n```"]))


async def test_when_every_branch_fails_the_causes_are_said_once() -> None:
    with pytest.raises(BranchesFailed, match="All 4 branches failed: down") as caught:
        await solve("vote(n=4, over='chains')", Fake([ModelError("down")]))
    assert len(caught.value.causes) == 4
    assert not isinstance(caught.value, Stop)
    with pytest.raises(BranchesFailed, match=r"^All 2 branches failed: down$"):
        await solve("vote(n=4)", Fake([ModelError("down")]))


async def test_one_sort_of_branches_may_fail_altogether() -> None:
    def script(op: Expand, index: int, seed: int) -> Any:
        return ModelError("no code here") if op.force else "\\boxed{5}"

    answer = await solve("vote(n=4)", Fake(script))
    assert dict(answer.votes) == {"5": 2}


@pytest.mark.parametrize(("text", "said"), [("vote(over='trees')", "'chains', 'programs' or 'both'"), ("vote(n=0)", "asks for nothing")])
async def test_bad_arguments_are_one_sentence(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        await solve(text, Fake())
