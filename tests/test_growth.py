"""Growing thoughts: every child is billed for what it was, and only what was asked before is taken from the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count

import pytest

from pondera.errors import BadInput, BranchesFailed, ModelError, NoAnswer
from pondera.ledger import Ledger, bills
from pondera.models.fake import Fake, Reply
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.strategies import strategy
from pondera.thought import Budget, Spend, Thought
from tests.test_laws import QUESTION, run_of


async def test_what_was_judged_after_a_stop_is_not_taken_for_another_node() -> None:
    """A child fails, the budget ends, survivors are judged; on resumption the child is there, and all behind it have other places."""

    def model(down: bool) -> Fake:
        turns = count()

        def say(op: Expand, index: int, seed: int) -> Reply:
            if op.by == "judge":
                return "Yes" if "41" in op.node.reply else "No"
            turn = next(turns)
            return ModelError("503") if turn == 1 and down else f"{'so ' * 30}\\boxed{{{41 + turn % 2}}}"

        return Fake(say)

    ledger, judged = Ledger(), strategy("vote(n=6, over='chains', by='judge', max_tokens=64)")
    cut = await run_of(model(down=True), Budget(tokens=130), 0, 1).solve(QUESTION, judged, ledger=ledger)
    assert ([candidate.thought.id[-1] for candidate in cut.candidates], cut.stopped) == (["0", "2", "3"], "budget")
    ledger.append("resume", "0", {})
    whole = await run_of(model(down=False), None, 0, 1).solve(QUESTION, judged, ledger=ledger)
    assert len(whole.candidates) == 6
    assert all(candidate.scores == {"judge": float("41" in candidate.thought.reply)} for candidate in whole.candidates)
    again = await run_of(None).solve(QUESTION, judged, ledger=Ledger(list(ledger.rows)))
    assert (again.text, again.candidates) == (whole.text, whole.candidates)


async def test_a_call_that_breaks_is_billed_for_what_was_seen_of_it() -> None:
    @dataclass(eq=False)
    class Breaking(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            self.asked.append(op)
            for _ in range(40):
                yield Piece(0, "so ", 1)
            raise ModelError("The connection broke.")

    async def patient(root: Thought) -> Thought:
        while True:
            try:
                return (await Expand(root, 1, max_tokens=50))[0]
            except ModelError:
                continue

    model, ledger = Breaking(), Ledger()
    with pytest.raises(NoAnswer):
        await run_of(model, Budget(tokens=200, calls=50)).solve(QUESTION, patient, ledger=ledger)
    assert 0 < 40 * len(model.asked) == sum(bills(ledger.rows).values(), Spend()).tokens <= 200


async def test_a_child_ends_once_whatever_the_model_says_of_it_later() -> None:
    @dataclass(eq=False)
    class Chatty(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            for index in range(op.n):
                yield Sample(index, "\\boxed{42}", "done", Spend(answer=1))
                yield Sample(index, "\\boxed{43}", "done", Spend(answer=1))
                yield Failure(index, ModelError("late"))

    answer = await run_of(Chatty()).solve(QUESTION, strategy("vote(n=4, over='chains')"))
    assert (dict(answer.votes), answer.spend.calls, answer.spend.tokens) == ({"42": 4}, 4, 4)


async def test_a_model_that_says_nothing_fails_its_branches() -> None:
    @dataclass(eq=False)
    class Silent(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            if op.n < 1:
                yield Piece(0, "never", 1)

    with pytest.raises(BranchesFailed, match="ended its call without an answer"):
        await run_of(Silent()).solve(QUESTION, strategy("vote(n=4, over='chains')"))


async def test_no_token_is_not_a_length() -> None:
    async def nothing(root: Thought) -> Thought:
        return (await Expand(root, 1, until=0))[0]

    with pytest.raises(BadInput, match="asks for nothing"):
        await run_of(Fake()).solve(QUESTION, nothing)
