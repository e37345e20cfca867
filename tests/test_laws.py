"""The six laws of a run, over every strategy, at any parallelism, with failures injected.

1 a run ends · 2 it never spends more than its budget · 3 it ends by its deadline with the best offered · 4 replay gives the same answer
with no model call, resuming pays only for what is missing · 5 an error is never text, vote or score · 6 cancelling leaves nothing behind
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pondera.errors import CallFailed, ModelError, NoAnswer, PonderaError
from pondera.events import Event, Grown
from pondera.ledger import Ledger, Row, bills
from pondera.models.fake import Fake, Script
from pondera.ops import Expand, Key, Left, Offer, Rng, both
from pondera.runtime import Run
from pondera.strategies import STRATEGIES, strategy
from pondera.thought import Answer, Budget, Price, Question, Spend, Thought

QUESTION = Question.of("What is 17 + 25?")
EXAMPLES = int(os.environ.get("PONDERA_LAWS", "60"))  # `PONDERA_LAWS=10000` for the long run of docs/lab-notes.md
slow = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


async def keyer(question: Question, texts: Any) -> list[str | None]:
    """Quick keys for tests: what stands in the box, or a text that is a number."""
    boxed = [text.rsplit("\\boxed{", 1)[-1].split("}")[0] if "\\boxed{" in text else text.strip() for text in texts]
    return [box if box.lstrip("-").isdigit() else None for box in boxed]


async def tool(code: str) -> str:
    inside = code.split("print(", 1)[-1].split(")")[0]
    if not inside.lstrip("-").isdigit() or int(inside) % 5 == 0:
        raise CallFailed("the program raised ZeroDivisionError")
    return inside


async def scorer(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [None if len(node.reply) % 5 == 0 else len(node.reply) / 100 for node in nodes]


async def judge(nodes: tuple[Thought, ...]) -> list[float | None]:
    async def one(i: int, node: Thought) -> tuple[int, float | None]:
        [verdict] = await Expand(node, 1, say="Is it right?", by="judge", max_tokens=4)
        return i, {"Yes": 1.0, "No": 0.0}.get(verdict.reply)

    said = dict(await both(*(one(i, node) for i, node in enumerate(nodes))))
    return [said.get(i) for i in range(len(nodes))]


async def shared(root: Thought, *, workers: int = 4, rounds: int = 5) -> Thought:
    """Workers that share a table, draw chance and look at the budget: the hardest to replay."""
    found: dict[str, list[Thought]] = {}
    order: list[str] = []

    async def work(i: int) -> None:
        rng = await Rng()
        for _ in range(rounds):
            left = await Left()
            node = rng.choice([t for ts in found.values() for t in ts if not t.done and not t.cut] or [root])
            grown = await Expand(node, 1 + (len(order) + i) % 3, "step", max_tokens=8 if left.tokens < 200 else 16)
            for thought, key in zip(grown, await Key(tuple(grown)), strict=True):
                found.setdefault(str(key), []).append(thought)
                order.append(thought.id)
            await Offer(found[str(key)][0], len(order) / 1000)

    await both(*(work(i) for i in range(workers)))
    return found[max(found, key=lambda key: (len(found[key]), key))][0]


STRATEGIES_TEXT = [
    "cot",
    "few_shot(k=2)",
    "program",
    "budget_forcing(least=30, most=60, waits=2)",
    "early_exit(n=2, every=16, max_tokens=48, temperature=0.6)",
    "steady(beta=20, step=12)",
    "vote(n=5)",
    "vote(n=6, over='chains', by='judge')",
    "vote(n=3, over='programs')",
    "vote(n=4, by='scorer', top=0.5)",
    "vote(n=6, first=3)",
    "best_of(n=4, by='scorer')",
    "best_of(n=3, by='scorer', process='min')",
    "tournament(n=4, by='judge')",
    "beam(by='scorer', step=12)",
    "lookahead(by='scorer', step=12)",
    "dvts(by='scorer', step=12)",
    "rebase(by='scorer', step=12)",
    "dvts(by='scorer', step=12, over='programs')",
    "beam(by='scorer', step=12, even=True)",
    "particles(by='scorer', step=12)",
    "gibbs(by='scorer', step=12, n=2)",
    "mcts(by='scorer', rounds=6, step=12, workers=1)",
    "mcts(by='judge', value='both', prior=False, workers=2, rounds=4, step=12)",
    "mcts(by='votes', rounds=6, step=12)",
    "mcts(by='scorer', rounds=6, step=12, workers=1, over='programs')",
    "mcts(by='scorer', rounds=6, step=12, workers=1, over='programs', even=True)",
    "abmcts(by='scorer', rounds=6, workers=1)",
    "abmcts(by='scorer', rounds=6)",
    "refine(turns=2)",
    "refine(turns=2, by='judge')",
    "revise(n=4)",
    "cascade(n=3, m=2)",
    "auto(most=12, by='scorer')",
    "auto(effort='max', most=9)",
    "mixture(n=3)",
]


# With shared state, and where the first to end are enough, it is the ledger that fixes a run, and a cut one may go on otherwise.
SHARED = {"shared", *(text for text in STRATEGIES_TEXT if ("mcts" in text and "workers=1" not in text) or "first=" in text)}


def strategy_of(text: str) -> Any:
    return shared if text == "shared" else strategy(text)


def flaky(rate: float) -> Script:
    """Chance, with failures at a rate, from the seed alone."""
    plain = Fake()

    def script(op: Expand, index: int, seed: int) -> Any:
        if random.Random(seed ^ 0x5EED).random() < rate:
            return ModelError(f"branch {seed} failed")
        return plain._reply(replace(op), index, seed)

    return script


def run_of(
    model: Fake | None, budget: Budget | None = None, seed: int = 0, parallel: int = 64, verifiers: Mapping[str, Any] | None = None
) -> Run:
    return Run(
        models={"think": model} if model else {},
        keyer=keyer,
        verifiers={"scorer": scorer, "judge": judge, **(verifiers or {})},
        tools={"python": tool},
        budget=budget or Budget(),
        seed=seed,
        parallel=parallel,
    )


def outcome(run: Run, text: str, ledger: Ledger) -> tuple[Answer | None, str]:
    """What a run came to, as values that can be compared."""

    async def solve() -> Answer:
        before = asyncio.all_tasks()
        try:
            return await run.solve(QUESTION, strategy_of(text), ledger=ledger)
        finally:
            assert asyncio.all_tasks() == before, "a task was left behind"

    try:
        answer = asyncio.run(solve())
        return answer, f"{answer.text!r} {answer.key} {answer.confidence} {dict(answer.votes)} {answer.abstentions}"
    except PonderaError as error:
        return None, f"{type(error).__name__}: {error}".split(" and ")[0]


runs = st.fixed_dictionaries(
    {
        "text": st.sampled_from([*STRATEGIES_TEXT, "shared"]),
        "seed": st.integers(0, 1 << 30),
        "parallel": st.sampled_from([1, 2, 3, 7, 16, 64]),
        "rate": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        "tokens": st.sampled_from([1, 9, 40, 65, 130, 300, 2000, float("inf")]),
        "calls": st.sampled_from([1, 2, 5, 50, float("inf")]),
        "usd": st.sampled_from([1e-7, 1e-5, 1e-4, 1e-3, float("inf")]),
    }
)


@slow
@given(runs)
def test_no_run_spends_more_than_its_budget_and_every_replay_agrees(case: dict[str, Any]) -> None:
    budget = Budget(tokens=case["tokens"], calls=case["calls"], usd=case["usd"])
    model = Fake(flaky(case["rate"]), price=Price(1.0, 3.0))
    run, ledger = run_of(model, budget, case["seed"], case["parallel"]), Ledger()
    answer, said = outcome(run, case["text"], ledger)
    spent = sum(bills(ledger.rows).values(), Spend())
    assert spent.tokens <= budget.tokens
    assert spent.calls <= budget.calls
    assert spent.usd <= budget.usd * (1 + 1e-12)
    assert model.open == 0
    keys = [row.key for row in ledger.rows if row.kind == "sample"]
    assert len(keys) == len(set(keys)) == sum(op.n for op in model.asked), "every child that was asked for ends exactly once"
    if answer:
        assert replace(answer.spend, seconds=0, usd=0) == replace(spent, seconds=0, usd=0)
        assert "failed" not in answer.text
        assert all("failed" not in (c.key or "") for c in answer.candidates)
    again = Ledger(list(ledger.rows))
    replayed, repeated = outcome(run_of(None, budget, case["seed"]), case["text"], again)
    assert repeated == said
    if answer and replayed:
        assert replayed.stopped == answer.stopped
        assert again.rows == ledger.rows, "a replay writes nothing"


@slow
@given(runs, st.data())
def test_a_cut_run_resumes_to_the_same_answer_and_pays_only_for_what_is_missing(case: dict[str, Any], data: st.DataObject) -> None:
    if case["text"] in SHARED:
        case["text"] = "vote(n=5)"
    model = Fake(flaky(case["rate"]))
    ledger = Ledger()
    _, said = outcome(run_of(model, None, case["seed"], case["parallel"]), case["text"], ledger)
    rows = [row for row in ledger.rows if row.kind != "failed"]  # which a process that was killed does not write
    cut = data.draw(st.integers(1, len(rows)))
    kept = Ledger([*rows[:cut], Row("resume", "0", {})])
    second = Fake(flaky(case["rate"]))
    _, repeated = outcome(run_of(second, None, case["seed"], case["parallel"]), case["text"], kept)
    assert repeated == said
    have = {row.key for row in rows[:cut] if row.kind == "sample" and row.body["status"] == "answered"}
    delivered = {row.key for row in rows[:cut] if row.kind == "op"}
    settled = {row.key for row in rows[:cut] if row.kind == "sample" and row.key.rsplit("/", 1)[0] in delivered}
    whole = {row.key for row in rows if row.kind == "sample"}
    assert sum(op.n for op in second.asked) == len(whole - have - settled)


@slow
@given(st.sampled_from([*STRATEGIES_TEXT, "shared"]), st.sampled_from([1, 4, 64]), st.integers(0, 99), st.booleans())
def test_a_cancelled_run_leaves_nothing_behind(text: str, parallel: int, after: int, gently: bool) -> None:
    async def go() -> None:
        model, ledger, stop = Fake(latency=0.0), Ledger(), asyncio.Event()
        heard = 0
        before = asyncio.all_tasks()

        def watch(event: Event) -> None:
            nonlocal heard
            heard += 1
            if heard == after:
                stop.set() if gently else task.cancel()

        solving = run_of(model, None, 0, parallel).solve(QUESTION, strategy_of(text), ledger=ledger, watch=watch, stop=stop)
        task = asyncio.ensure_future(solving)
        try:
            answer = await task
            assert answer.stopped in ("done", "cancelled")
        except (asyncio.CancelledError, PonderaError):
            answer = None
        assert asyncio.all_tasks() == before
        assert model.open == 0
        asked = sum(op.n for op in model.asked)
        ended = [row for row in ledger.rows if row.kind == "sample"]
        assert asked == len(ended), "every child that was asked for ends exactly once"
        replay = run_of(None)
        if answer:
            assert (await replay.solve(QUESTION, strategy_of(text), ledger=Ledger(list(ledger.rows)))).text == answer.text

    asyncio.run(go())


@pytest.mark.parametrize("text", [*STRATEGIES_TEXT, "shared"])
@pytest.mark.parametrize("parallel", [1, 64])
async def test_a_run_ends_by_its_deadline(text: str, parallel: int) -> None:
    """Loose on purpose: the law is that it ends, and does not wait for the model."""
    model = Fake(latency=0.02)
    began = time.monotonic()
    with contextlib.suppress(NoAnswer):
        answer = await run_of(model, Budget(seconds=0.5), 3, parallel).solve(QUESTION, strategy_of(text))
        assert answer.stopped in ("done", "deadline")
    assert time.monotonic() - began < 5
    assert model.open == 0


async def test_what_survived_the_deadline_is_counted() -> None:
    def script(op: Expand, index: int, seed: int) -> str:
        return "\\boxed{42}" if index < 3 else "so " * 100_000

    run = run_of(Fake(script, latency=0.001), Budget(seconds=1.0))
    answer = await run.solve(QUESTION, strategy("vote(n=5, over='chains', max_tokens=100000)"))
    assert (answer.key, dict(answer.votes), answer.stopped) == ("42", {"42": 3}, "deadline")
    assert any("cut off in flight (deadline)" in line for line in answer.cut)


async def test_an_error_is_never_an_answer() -> None:
    model = Fake([ModelError("Internal Server Error 42")])
    with pytest.raises(ModelError, match="Internal Server Error"):
        await run_of(model).solve(QUESTION, strategy("cot"))
    down = Fake(lambda op, index, seed: ModelError("500: 42") if index % 2 else "\\boxed{41}")
    answer = await run_of(down).solve(QUESTION, strategy("vote(n=8, over='chains')"))
    assert dict(answer.votes) == {"41": 4}
    assert sum("500" in line for line in answer.cut) == 4


async def test_listeners_hear_every_child_and_cannot_change_the_run() -> None:
    heard: list[Event] = []
    four = strategy("vote(n=4, over='chains')")
    answer = await run_of(Fake()).solve(QUESTION, four, watch=heard.append)
    assert sum(isinstance(event, Grown) for event in heard) == 4
    unheard = await run_of(Fake()).solve(QUESTION, four)
    assert answer == replace(unheard, spend=answer.spend, by_role=answer.by_role)


async def test_an_op_that_cannot_be_paid_waits_for_refunds() -> None:
    model = Fake(lambda op, index, seed: "\\boxed{42}")
    answer = await run_of(model, Budget(tokens=100)).solve(QUESTION, strategy("vote(n=8, over='chains', max_tokens=90)"))
    assert dict(answer.votes) == {"42": 8}
    assert answer.spend.tokens == 8


async def test_a_strategy_may_await_only_ops() -> None:
    async def wrong(root: Thought) -> Thought:
        await asyncio.sleep(0)
        return root

    with pytest.raises(TypeError, match="only ops"):
        await run_of(Fake()).solve(QUESTION, wrong)


async def test_a_strategy_that_swallows_stop_is_closed() -> None:
    async def stubborn(root: Thought) -> Thought:
        while True:
            try:
                await Expand(root, 1, max_tokens=70)
            except BaseException as error:
                if isinstance(error, GeneratorExit):
                    raise

    with pytest.raises(NoAnswer):
        await run_of(Fake(["so " * 70]), Budget(tokens=200)).solve(QUESTION, stubborn)


async def test_free_ops_for_ever_do_not_outrun_the_deadline() -> None:
    async def spinning(root: Thought) -> Thought:
        while True:
            await Rng()
            await both(*(idle() for _ in range(2)))

    async def idle() -> None:
        await Left()

    async with asyncio.timeout(5):
        with pytest.raises(NoAnswer, match="deadline"):
            await run_of(Fake(), Budget(seconds=0.3)).solve(QUESTION, spinning)


def test_every_strategy_is_under_the_laws() -> None:
    named = {text.split("(")[0] for text in STRATEGIES_TEXT}
    assert named == set(STRATEGIES)
