"""Growing thoughts: every child is billed for what it was, and only what was asked before is taken from the ledger."""

from __future__ import annotations

import asyncio
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


@dataclass(eq=False)
class Racing(Fake):
    """All children write a word in turn; child i ends after `lengths[i]`, by itself or, where that is negative, in a loop."""

    lengths: tuple[int, ...] = (9, 2, -1, 5, 30)

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        self.asked.append(op)
        self.open += 1
        try:
            for turn in range(1, 1 + max(map(abs, self.lengths[: op.n]))):
                for index, length in enumerate(self.lengths[: op.n]):
                    if turn <= abs(length):
                        yield Piece(index, "so ", 1)
                    if turn == abs(length):
                        bill = Spend(prompt=7, answer=turn, calls=1)
                        yield Sample(index, f"\\boxed{{{turn}}}", "done" if length > 0 else "loop", bill)
                await asyncio.sleep(0)
        finally:
            self.open -= 1


async def test_the_first_to_end_are_enough() -> None:
    """A loop is no end; what is cut off is billed for what it wrote, once, and its call is closed; a replay tells the same."""
    model, ledger = Racing(), Ledger()
    answer = await run_of(model).solve(QUESTION, strategy("vote(n=5, over='chains', first=2)"), ledger=ledger)
    assert (dict(answer.votes), answer.abstentions, answer.confidence) == ({"2": 1, "5": 1}, 1, 0.5)
    assert answer.stopped == "done"
    assert sum("enough others had ended" in one for one in answer.cut) == 2
    rows = {row.key[-1]: row.body for row in ledger.rows if row.kind == "sample"}
    assert [rows[i]["status"] for i in "01234"] == ["lost", "answered", "answered", "answered", "lost"]
    assert [rows[i]["spend"]["answer"] for i in "01234"] == [5, 2, 1, 5, 4]
    assert answer.spend.tokens == 17
    assert (len(model.asked), model.open) == (1, 0)
    again = await run_of(None).solve(QUESTION, strategy("vote(n=5, over='chains', first=2)"), ledger=Ledger(list(ledger.rows)))
    assert (again.text, again.candidates, again.spend.tokens) == (answer.text, answer.candidates, answer.spend.tokens)


async def test_a_run_that_was_cut_asks_for_the_first_that_are_missing() -> None:
    """One of two that are wanted had ended when the run died: the next to end is enough."""
    ledger, strategy_ = Ledger(), strategy("vote(n=5, over='chains', first=2)")
    await run_of(Racing()).solve(QUESTION, strategy_, ledger=ledger)
    kept = [row for row in ledger.rows if row.kind in ("run", "sample")]
    until = 1 + next(i for i, row in enumerate(kept) if row.body.get("tokens") == 2)
    model = Racing(lengths=(3, 20, 20, 20, 20))
    answer = await run_of(model).solve(QUESTION, strategy_, ledger=Ledger(kept[:until]))
    assert dict(answer.votes) == {"2": 1, "3": 1}
    assert [op.n for op in model.asked] == [3]


async def test_a_run_that_died_before_the_others_were_cut_off_asks_nobody() -> None:
    """Enough had ended: who was still writing then is owed to nobody."""
    ledger, strategy_ = Ledger(), strategy("vote(n=5, over='chains', first=2)")
    whole = await run_of(Racing()).solve(QUESTION, strategy_, ledger=ledger)
    kept = [row for row in ledger.rows if row.kind == "run" or row.body.get("status") == "answered"]
    model = Racing()
    answer = await run_of(model).solve(QUESTION, strategy_, ledger=Ledger(kept))
    assert (answer.text, dict(answer.votes), model.asked) == (whole.text, dict(whole.votes), [])


async def test_children_that_nobody_waits_for_are_not_asked() -> None:
    model = Racing(lengths=(1,))
    answer = await run_of(model, None, 0, 1).solve(QUESTION, strategy("vote(n=9, over='chains', first=3)"))
    assert (len(model.asked), dict(answer.votes), answer.confidence) == (3, {"1": 3}, 1.0)


@pytest.mark.parametrize("first", [-1, 5])
async def test_no_more_can_be_first_than_there_are(first: int) -> None:
    with pytest.raises(BadInput, match=f"first={first} of n=4"):
        await run_of(Fake()).solve(QUESTION, strategy(f"vote(n=4, first={first})"))


@pytest.mark.parametrize(("n", "first"), [(6, 3), (5, 2), (5, 4), (7, 7)])
async def test_of_two_sorts_as_many_as_are_waited_for_end(n: int, first: int) -> None:
    """All of them say the same, so the confidence is whole, and no more than that."""
    model = Fake(lambda op, index, seed: "\nprint(7)\n```" if op.force else "so so so \\boxed{7}")
    answer = await run_of(model, None, 0, 1).solve(QUESTION, strategy(f"vote(n={n}, first={first})"))
    assert (dict(answer.votes), answer.confidence) == ({"7": first}, 1.0)
    assert {op.force != "" for op in model.asked} == {True, False}


async def test_one_is_not_one_of_each_sort() -> None:
    with pytest.raises(BadInput, match="first=1 cannot be one of each sort"):
        await run_of(Fake()).solve(QUESTION, strategy("vote(n=6, first=1)"))
