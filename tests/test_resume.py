"""Stopped, killed and resumed in several rounds: the whole is what it would have been at once, nothing is paid twice, replay is exact."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import ModelError, PonderaError
from pondera.events import Event
from pondera.ledger import Ledger, Row, bills
from pondera.models.fake import Fake
from pondera.ops import Expand, Key, Offer, Score, both
from pondera.thought import Answer, Budget, Spend, Thought
from tests.test_laws import QUESTION, SHARED, STRATEGIES_TEXT, flaky, run_of, slow, strategy_of


async def nested(root: Thought) -> Thought:
    """Coroutines in coroutines, one of which fails, and a judge over what is left."""

    async def leaf(length: int) -> list[Thought]:
        return await Expand(root, 1, max_tokens=length)

    async def inner(i: int) -> list[Thought]:
        if i == 1:
            raise ModelError("this one fails")
        await Score((root,), "scorer")
        return [node for nodes in await both(leaf(12), leaf(13)) for node in nodes]

    async def outer(i: int) -> list[Thought]:
        grown = [node for nodes in await both(leaf(10), inner(i), leaf(11)) for node in nodes]
        await Key(tuple(grown))
        return grown

    pool = [node for nodes in await both(*(outer(i) for i in range(3))) for node in nodes]
    await Offer(pool[0])
    scores = await Score(tuple(pool), "judge")
    return max(zip(scores, pool, strict=True), key=lambda pair: (pair[0] or 0.0, pair[1].id))[1]


def run(
    model: Fake | None, text: str, seed: int, ledger: Ledger, after: int = 0, gently: bool = True, **given: Any
) -> tuple[Answer | None, str]:
    """What a run came to, where it was interrupted `after` so many events (0: not at all)."""

    async def go() -> Answer:
        stop, heard = asyncio.Event(), 0

        def watch(event: Event) -> None:
            nonlocal heard
            heard += 1
            if heard == after:
                stop.set() if gently else task.cancel()

        strategy = nested if text == "nested" else strategy_of(text)
        solving = run_of(model, seed=seed, **given).solve(QUESTION, strategy, ledger=ledger, watch=watch, stop=stop)
        task = asyncio.ensure_future(solving)
        return await task

    try:
        answer = asyncio.run(go())
    except asyncio.CancelledError:
        return None, "killed"
    except PonderaError as error:
        return None, f"{type(error).__name__}: {error}".split(" and ")[0]
    scores = sorted((candidate.thought.id, candidate.key or "", str(candidate.scores)) for candidate in answer.candidates)
    return answer, f"{answer.text!r} {answer.key} {answer.confidence} {dict(answer.votes)} {scores}"


def resumed(ledger: Ledger) -> Ledger:
    return Ledger([*ledger.rows, Row("resume", "0", {})])


# Those with shared state are fixed by their ledger alone: what is stopped in flight and asked again comes at another time.
TEXTS = [*(text for text in STRATEGIES_TEXT if text not in SHARED), "vote(n=6, by='judge')", "nested"]
interruptions = st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=4)


@slow
@given(st.sampled_from(TEXTS), st.sampled_from([1, 4, 64]), interruptions, st.integers(0, 50), st.sampled_from([0.0, 0.3]))
def test_rounds_of_stops_and_kills_come_to_the_same(
    text: str, parallel: int, rounds: list[tuple[int, bool]], seed: int, rate: float
) -> None:
    script, ledger = flaky(rate), Ledger()
    _, whole = run(Fake(script), text, seed, Ledger(), parallel=parallel)
    for after, gently in rounds:
        answer, said = run(Fake(script), text, seed, ledger, after, gently, parallel=parallel)
        again = Ledger(list(ledger.rows))
        if said != "killed":
            replayed, repeated = run(None, text, seed, again)
            assert repeated == said
            if answer and replayed:
                assert again.rows == ledger.rows
                assert (replayed.stopped, replayed.cut) == (answer.stopped, answer.cut)
        ledger = resumed(ledger)
    assert run(Fake(script), text, seed, ledger, parallel=parallel)[1] == whole
    answered = [row.key for row in ledger.rows if row.kind == "sample" and row.body["status"] == "answered"]
    assert len(answered) == len(set(answered)), "nothing is paid twice"


@slow
@given(st.integers(0, 50), st.sampled_from([1, 3, 64]), interruptions, st.sampled_from([50, 150, 400, 10**6]))
def test_with_shared_state_too_every_round_is_within_its_budget_and_replayed(
    seed: int, parallel: int, rounds: list[tuple[int, bool]], more: int
) -> None:
    ledger = Ledger()
    for after, gently in rounds:
        budget = Budget(tokens=sum(bills(ledger.rows).values(), Spend()).tokens + more)
        _, said = run(Fake(flaky(0.2)), "shared", seed, ledger, after, gently, parallel=parallel, budget=budget)
        assert sum(bills(ledger.rows).values(), Spend()).tokens <= budget.tokens
        if said != "killed":
            assert run(None, "shared", seed, Ledger(list(ledger.rows)))[1] == said
        ledger = resumed(ledger)


def test_a_run_that_failed_is_tried_again() -> None:
    """A server that was down is asked again, and what it had answered before is not paid twice."""
    down = Fake(lambda op, index, seed: ModelError("down") if op.force or index else "\\boxed{42}")
    for text in ("cot", "vote(n=4)", "beam(by='scorer')"):
        ledger = Ledger()
        first, said = run(Fake([ModelError("down")]), text, 0, ledger)
        assert first is None
        assert "down" in said
        answer, _ = run(
            Fake(lambda op, index, seed: "\nprint(42)\n```" if op.force.startswith("```") else "\\boxed{42}"), text, 0, resumed(ledger)
        )
        assert answer is not None
        assert answer.key == "42"
    half = Ledger()
    run(down, "vote(n=4, over='chains')", 0, half)
    assert sum(row.body["status"] == "answered" for row in half.rows if row.kind == "sample") == 1
