"""The loop of a run where the world misbehaves: keyers, tools, models and listeners that raise, are cancelled, or come too late."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pondera.errors import CallFailed, LedgerDrift, LedgerError, ModelError, NoAnswer, PonderaError, Stop, Unsupported, VerifierError
from pondera.events import Dropped, Event, Growing
from pondera.ledger import Ledger, Row
from pondera.models.fake import Fake
from pondera.ops import Call, Expand, Left, Offer, Rng, both
from pondera.ports import Failure, Piece, Sample
from pondera.strategies import strategy
from pondera.thought import Budget, Question, Spend, Thought
from tests.test_laws import QUESTION, run_of

FORTY_TWO = "\\boxed{42}"


async def test_a_timeout_error_from_outside_is_not_taken_for_the_clock() -> None:
    async def slow(question: Question, texts: Sequence[str]) -> list[str | None]:
        raise TimeoutError("the keyer's own clock")

    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError, match="own clock"):
            await replace(run_of(Fake()), keyer=slow).solve(QUESTION, strategy("cot"))


async def test_work_that_something_else_cancels_fails_and_does_not_hang() -> None:
    async def cancelled(code: str) -> str:
        raise asyncio.CancelledError

    @dataclass(eq=False)
    class Cancelled(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            yield Piece(0, "a", 1)
            raise asyncio.CancelledError

    async with asyncio.timeout(5):
        with pytest.raises(CallFailed, match="cancelled by something else"):
            await replace(run_of(Fake()), tools={"python": cancelled}).solve(QUESTION, strategy("program"))
        with pytest.raises(ModelError, match="cancelled by something else"):
            await run_of(Cancelled()).solve(QUESTION, strategy("cot"))


async def test_a_listener_that_raises_ends_the_run_and_leaves_nothing_behind() -> None:
    def watch(event: Event) -> None:
        if isinstance(event, Growing | Dropped):
            raise ValueError("listener")

    model, ledger, before = Fake(latency=0.001), Ledger(), asyncio.all_tasks()
    with pytest.raises(ValueError, match="listener"):
        await run_of(model, parallel=4).solve(QUESTION, strategy("vote(n=6)"), watch=watch, ledger=ledger)
    assert asyncio.all_tasks() == before
    assert model.open == 0
    assert sum(op.n for op in model.asked) == sum(row.kind == "sample" for row in ledger.rows)


async def test_a_listener_that_raised_hears_no_more() -> None:
    heard = 0

    def watch(event: Event) -> None:
        nonlocal heard
        heard += 1
        raise ValueError("listener")

    with pytest.raises(ValueError, match="listener"):
        await run_of(Fake()).solve(QUESTION, strategy("vote(n=6)"), watch=watch)
    assert heard == 1


async def test_an_answer_whose_key_comes_too_late_is_still_the_answer() -> None:
    async def slow(question: Question, texts: Sequence[str]) -> list[str | None]:
        await asyncio.sleep(30)
        return []

    answer = await replace(run_of(Fake([FORTY_TWO]), Budget(seconds=0.3)), keyer=slow).solve(QUESTION, strategy("cot"))
    assert (answer.text, answer.key, answer.stopped) == (FORTY_TWO, None, "deadline")


async def test_an_answer_whose_key_cannot_be_read_comes_with_the_error() -> None:
    async def broken(question: Question, texts: Sequence[str]) -> list[str | None]:
        raise VerifierError("The worker does not start.")

    with pytest.raises(VerifierError) as caught:
        await replace(run_of(Fake([FORTY_TWO])), keyer=broken).solve(QUESTION, strategy("cot"))
    assert caught.value.answer.text == FORTY_TWO


async def test_a_tool_that_raises_before_it_can_be_awaited_fails_its_branch() -> None:
    def refuses(code: str) -> Any:
        raise CallFailed("This is no program.")

    model = Fake(lambda op, index, seed: "print(1)" if op.force else FORTY_TWO)
    answer = await replace(run_of(model), tools={"python": refuses}).solve(QUESTION, strategy("vote(n=4)"))
    assert dict(answer.votes) == {"42": 2}


async def test_a_run_that_dies_at_once_leaves_no_coroutine_unawaited() -> None:
    class Full:
        def append(self, n: int, row: Row) -> None:
            if row.body.get("op") == "Left":
                raise LedgerError("The ledger cannot be written.")

        def close(self) -> None: ...

    async def two(root: Thought) -> Thought:
        async def left() -> Thought:
            await Left()
            return root

        async def call() -> Thought:
            return await Call(root, "python", "print(1)")

        return (await both(call(), left()))[0]

    with pytest.raises(LedgerError):
        await run_of(Fake()).solve(QUESTION, two, ledger=Ledger(store=Full()))
    gc.collect()  # a coroutine that was never awaited warns here, and warnings are errors


async def test_a_stubborn_strategy_leaves_no_coroutine_unawaited() -> None:
    async def idle() -> None:
        await Left()

    async def stubborn(root: Thought) -> Thought:
        while True:
            for op in (Expand(root, 1, max_tokens=70), both(idle(), idle())):
                try:
                    await op
                except Stop:
                    continue

    with pytest.raises(NoAnswer):
        await run_of(Fake(["so " * 70]), Budget(tokens=200)).solve(QUESTION, stubborn)
    gc.collect()


async def test_a_strategy_that_awaits_on_its_way_out_can_be_cancelled() -> None:
    async def offering(root: Thought) -> Thought:
        try:
            while True:
                await Expand(root, 1)
        finally:
            await Offer(root)

    before = asyncio.all_tasks()
    task = asyncio.ensure_future(run_of(Fake(latency=0.001)).solve(QUESTION, offering))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


async def test_a_second_cancellation_still_closes_the_strategy() -> None:
    closed = []

    async def closing(root: Thought) -> Thought:
        try:
            return (await Expand(root, 1))[0]
        finally:
            closed.append(True)

    @dataclass(eq=False)
    class Slow(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            try:
                yield Piece(0, "a ", 1)
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0.05)

    task = asyncio.ensure_future(run_of(Slow()).solve(QUESTION, closing))
    for _ in range(2):
        await asyncio.sleep(0.02)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed


async def test_what_was_said_before_the_stop_is_heard_and_billed() -> None:
    stop = asyncio.Event()

    @dataclass(eq=False)
    class Quick(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            yield Piece(0, "so ", 1)
            stop.set()
            await asyncio.sleep(0)
            yield Piece(0, FORTY_TWO, 5)
            yield Sample(0, f"so {FORTY_TWO}", "done", Spend(answer=6))

    answer = await run_of(Quick()).solve(QUESTION, strategy("cot"), stop=stop)
    assert (answer.key, answer.spend.tokens) == ("42", 6)


async def test_a_run_resumed_after_its_deadline_asks_no_model() -> None:
    ledger, second = Ledger(), Fake(latency=0.02)
    for model in (Fake(latency=0.02), second):
        with contextlib.suppress(NoAnswer):
            await run_of(model, Budget(seconds=0.2)).solve(QUESTION, strategy("cot"), ledger=ledger)
        ledger = Ledger([*ledger.rows, Row("resume", "0", {})])
    assert second.asked == []


async def test_another_op_than_a_refused_one_is_drift() -> None:
    async def spinning(root: Thought) -> Thought:
        while True:
            await Rng()

    ledger = Ledger()
    with pytest.raises(NoAnswer):
        await run_of(Fake(), Budget(seconds=0.1)).solve(QUESTION, spinning, ledger=ledger)
    refused = next(row.key for row in ledger.rows if row.kind == "op")

    async def growing(root: Thought) -> Thought:
        for _ in range(int(refused.split(".")[1])):
            await Rng()
        return (await Expand(root))[0]

    with pytest.raises(LedgerDrift):
        await run_of(None).solve(QUESTION, growing, ledger=Ledger(list(ledger.rows)))


async def test_a_replay_tells_of_all_that_was_cut_short() -> None:
    said = strategy("vote(n=8, over='chains', max_tokens=70)")
    ledger = Ledger()
    answer = await run_of(Fake(["so " * 60 + FORTY_TWO]), Budget(tokens=200)).solve(QUESTION, said, ledger=ledger)
    assert any("branches not asked (budget)" in line for line in answer.cut)
    again = await run_of(None).solve(QUESTION, said, ledger=Ledger(list(ledger.rows)))
    assert again.cut == answer.cut


async def test_a_conversation_that_the_model_refuses_fails_its_branch_alone() -> None:
    @dataclass(eq=False)
    class Picky(Fake):
        def prompt_bound(self, op: Expand) -> int:
            if "Python" in op.say:
                raise Unsupported("The model's chat template refuses this conversation.")
            return super().prompt_bound(op)

    ledger, said = Ledger(), strategy("vote(n=4)")
    answer = await run_of(Picky([FORTY_TWO])).solve(QUESTION, said, ledger=ledger)
    assert dict(answer.votes) == {"42": 2}
    again = await run_of(None).solve(QUESTION, said, ledger=Ledger(list(ledger.rows)))
    assert (again.text, again.votes, again.cut) == (answer.text, answer.votes, answer.cut)
    with pytest.raises(PonderaError, match="refuses this conversation"):
        await run_of(Picky([FORTY_TWO])).solve(QUESTION, strategy("program"))


# ---------------------------------------------------------------- verifiers that misbehave


def voters(op: Expand, index: int, seed: int) -> str:
    return ["\\boxed{42}", "\\boxed{42}", "\\boxed{41}"][index % 3]


async def crash(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [1 / len(node.text[:0]) for node in nodes]


async def silent(nodes: tuple[Thought, ...]) -> list[float | None]:
    return []


async def nans(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [float("nan"), float("inf"), None][: len(nodes)]


async def wordy(nodes: tuple[Thought, ...]) -> Any:
    return ["yes"] * len(nodes)


@pytest.mark.parametrize(("verifier", "said"), [(crash, "ZeroDivisionError"), (silent, "one score a node"), (nans, ""), (wordy, "")])
@pytest.mark.parametrize("text", ["vote(n=3, over='chains', by='bad')", "best_of(n=3, over='chains', by='bad')", "beam(by='bad')"])
async def test_a_verifier_that_fails_has_no_opinion_and_the_run_goes_on(verifier: Any, said: str, text: str) -> None:
    answer = await run_of(Fake(voters), verifiers={"bad": verifier}).solve(QUESTION, strategy(text))
    assert answer.key == "42"
    assert not any(candidate.scores for candidate in answer.candidates)
    if said:
        assert any("The verifier 'bad' failed" in line and said in line for line in answer.cut)


async def test_a_verifier_that_comes_too_late_leaves_the_vote() -> None:
    async def late(nodes: tuple[Thought, ...]) -> list[float | None]:
        [verdict] = await Expand(nodes[0], say="Is it right?", by="judge", max_tokens=1000)
        return [None] * 3 if verdict.cut else [0.0, 0.0, 1.0]

    model = Fake(lambda op, index, seed: "well " * 900 if op.by == "judge" else voters(op, index, seed), latency=0.002)
    run = run_of(model, Budget(seconds=0.8), verifiers={"late": late})
    answer = await run.solve(QUESTION, strategy("vote(n=3, over='chains', by='late')"))
    assert (answer.key, answer.stopped) == ("42", "deadline")
    assert model.open == 0
