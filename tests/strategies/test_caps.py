"""Whatever cap ends a search, what it takes to force an answer was set aside: tokens, a call and dollars, from verifiers too."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from pondera.errors import BadInput, ModelError, Unsupported
from pondera.events import Event, Grown
from pondera.judging import verdicts
from pondera.ledger import Ledger, Row
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.strategies import strategy
from pondera.strategies.cascade import mixture
from pondera.strategies.forcing import CHECK
from pondera.strategies.refine import refine, split
from pondera.thought import Budget, Finish, Price, Spend, Thought, dialogue
from tests.strategies.planted import QUESTION, script, search, solve

STEPWISE = ("beam", "lookahead", "dvts", "rebase", "particles", "gibbs", "mcts")
SEARCHES = [
    *(f"{name}(by={by!r})" for name in STEPWISE for by in ("confidence", "judge")),
    *("mcts(value='verifier', by='judge')", "mcts(value='both', by='judge')", "abmcts(by='judge')"),
    *(f"{name}(over='programs')" for name in STEPWISE),
    *("steady", "early_exit", "early_exit(n=3, temperature=0.6)", "budget_forcing(least=300, most=900)"),
    "refine(by='judge', max_tokens=200)",
]


def wordy(op: Expand, index: int, seed: int) -> str:
    """Never comes to an end that is not forced, within the budgets here."""
    if op.by == "judge":
        return "Yes"
    return "5}.\n" if op.force.endswith("boxed{") else "\n\n".join([*[f"{'so ' * 30}{seed}"] * 20, "\\boxed{5}"])


@pytest.mark.parametrize("text", SEARCHES)
@pytest.mark.parametrize("calls", [2, 3, 4, 5, 9])
async def test_any_number_of_calls_gives_an_answer(text: str, calls: int) -> None:
    answer = await solve(strategy(text), Fake(wordy), Budget(calls=calls))
    assert answer.key == "5"
    assert answer.spend.calls <= calls


@pytest.mark.parametrize("text", SEARCHES)
@pytest.mark.parametrize("usd", [300e-6, 800e-6, 2500e-6])
async def test_any_sum_of_dollars_gives_an_answer(text: str, usd: float) -> None:
    answer = await solve(strategy(text), Fake(wordy, price=Price(1.0, 3.0)), Budget(usd=usd))
    assert answer.key == "5"
    assert answer.spend.usd <= usd


async def test_the_only_call_is_for_a_whole_answer_where_that_may_be_had() -> None:
    def scripted(op: Expand, index: int, seed: int) -> str:
        return "7}.\n" if op.force else "So it is \\boxed{5}."

    for text in ("refine", "abmcts", "mixture"):
        assert (await solve(strategy(text), Fake(scripted), Budget(calls=1))).key == "5"


async def test_a_mixture_leaves_a_call_for_the_model_that_reads() -> None:
    def scripted(op: Expand, index: int, seed: int) -> str:
        return "\\boxed{1}" if op.by == "draft" else "\\boxed{2}"

    assert (await solve(partial(mixture, n=4), Fake(scripted), Budget(calls=4))).key == "2"


async def test_a_forced_draft_is_known_before_it_is_judged() -> None:
    stop = asyncio.Event()

    def watch(event: Event) -> None:
        if isinstance(event, Grown) and event.thought.forced:
            stop.set()

    answer = await solve(partial(refine, by="judge", max_tokens=40), Fake(wordy), watch=watch, stop=stop)
    assert (answer.key, answer.stopped) == ("5", "cancelled")


async def test_a_forced_answer_that_goes_on_after_its_box_is_an_answer() -> None:
    def chatty(op: Expand, index: int, seed: int) -> str:
        rest = "and so it is " * 40
        return f"\\frac{{5}}{{2}}}} {rest}" if op.force.endswith("boxed{") else f"{'so ' * 30}{seed}\n\n" * 40

    for text in ("beam", "abmcts", "early_exit", "budget_forcing(least=0, most=60)"):
        answer = await solve(strategy(text), Fake(chatty), Budget(tokens=600))
        assert answer.thought.done
        assert "boxed{\\frac{5}{2}}" in answer.text


async def test_a_forced_answer_whose_box_stays_open_is_none() -> None:
    model = Fake(lambda op, index, seed: "{so} " * 99 if op.force else f"{'so ' * 30}{seed}\n\n" * 40)
    answer = await solve(strategy("beam"), model, Budget(tokens=600))
    assert answer.key is None
    assert answer.thought.cut


async def test_a_sweep_that_cannot_be_paid_does_not_vote() -> None:
    """The path that the last sweep kept is one draw of many; alone it would be its own majority."""

    def scripted(op: Expand, index: int, seed: int) -> str:
        return f"{'so ' * 60}\\boxed{{{seed}}}"

    answer = await solve(strategy("gibbs(n=3, sweeps=9)"), Fake(scripted), Budget(calls=4))
    assert sorted(answer.votes.values()) == [1, 1, 1]
    assert answer.confidence is not None
    assert answer.confidence < 0.5


async def test_a_search_whose_budget_ends_midway_brings_its_best_path_to_an_end() -> None:
    """An answer forced midway is a guess; the end of one path is worth more than one more step of two."""

    def scripted(op: Expand, index: int, seed: int) -> str:
        return "4}." if op.force else f"{'so ' * 40}{seed}\n\n" * 9 if op.until == "step" else f"{'so ' * 150}\\boxed{{5}}"

    for text in ("beam", "lookahead", "dvts", "rebase", "particles", "gibbs", "mcts(value='verifier')"):
        answer = await solve(strategy(text), Fake(scripted), Budget(tokens=600))
        assert (answer.key, answer.thought.finish, answer.stopped) == ("5", "done", "budget"), text
        assert answer.spend.tokens > 400
        answer = await solve(strategy(text), Fake(scripted), Budget(tokens=100))
        assert answer.key == "4", f"{text}: not even one path can be paid"


async def test_a_model_that_says_nothing_for_ever_is_left() -> None:
    class Mute(Fake):
        async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
            self.asked.append(op)
            for index in range(op.n):
                cut = op.until == "step" or isinstance(op.until, int)
                finish: Finish = "step" if op.until == "step" else "tokens" if cut else "done"
                yield Sample(index, "" if cut else "5}.", finish, Spend(answer=0 if cut else 2))

    for text in ("steady", "early_exit(patience=9)", "beam", "mcts"):
        model = Mute()
        assert (await solve(strategy(text), model, Budget(calls=500))).thought.done
        assert len(model.asked) < 200, text


async def test_a_first_step_without_a_bias_is_paid_or_forced() -> None:
    def scripted(op: Expand, index: int, seed: int) -> Any:
        return Unsupported("no bias here") if op.bias else wordy(op, index, seed)

    assert (await solve(strategy("steady"), Fake(scripted), Budget(calls=2))).key == "5"


@pytest.mark.parametrize("text", ["cot(temperature=-1.0)", "vote(temperature=1e999)", "mcts(temperature=-0.1)"])
async def test_a_temperature_is_a_number_that_is_not_negative(text: str) -> None:
    with pytest.raises(BadInput, match="temperature"):
        await solve(strategy(text))


async def test_more_branches_than_can_be_kept_in_mind_are_refused() -> None:
    with pytest.raises(BadInput, match="100,000"):
        await solve(strategy("beam(width=10000000000)"), budget=Budget(tokens=500))


@pytest.mark.parametrize("text", ["mcts(c=-1)", "mcts(c=1e999)", "budget_forcing(max_tokens=0)", "steady(alpha=1e999)"])
async def test_numbers_out_of_range_are_one_sentence(text: str) -> None:
    with pytest.raises(BadInput, match=r"give|has|have"):
        await solve(strategy(text))


async def test_the_smallest_share_of_votes_is_one() -> None:
    answer = await solve(strategy("vote(n=3, over='chains', by='confidence', top=1e-12)"), Fake(["\\boxed{5}"]))
    assert answer.key == "5"


async def test_dollars_are_set_aside_at_the_price_of_the_model_that_answers() -> None:
    models = {"think": Fake(wordy, price=Price(1.0, 3.0)), "judge": Fake(wordy, price=Price(0.01, 0.01))}
    for usd in (400e-6, 800e-6, 1600e-6):
        run = replace(search(None), models=models, budget=Budget(usd=usd))
        assert (await run.solve(QUESTION, strategy("rebase(by='judge')"))).key == "5"


def test_any_ratio_above_0_splits() -> None:
    assert split(8, 5e-324) == [1] * 8
    assert split(8, math.inf) == [8]


async def test_scores_too_large_to_be_added_are_no_opinion() -> None:
    assert verdicts([10**400, -1e300, True, 3]) == [None, None, 1.0, 3.0]


async def test_the_foremost_are_told_apart_below_0_too() -> None:
    async def logit(nodes: tuple[Thought, ...]) -> list[float | None]:
        return [-1.0 if "boxed{0}" in node.reply else -5.0 for node in nodes]

    model = Fake(lambda op, index, seed: f"\\boxed{{{index}}}")
    run = replace(search(model), verifiers={"logit": logit})
    assert (await run.solve(QUESTION, strategy("vote(n=4, over='chains', by='logit', top=0.25)"))).key == "0"


@pytest.mark.parametrize("text", ["early_exit(patience=9)", "budget_forcing(least=200, most=300)"])
async def test_an_earlier_answer_stays_where_the_last_one_fails(text: str) -> None:
    forced = 0

    def scripted(op: Expand, index: int, seed: int) -> Any:
        nonlocal forced
        if op.force.endswith("boxed{"):
            forced += 1
            return "5}." if forced == 1 and "early" in text else ModelError("down")
        if CHECK in op.force:
            return f"{'so ' * 30}{seed} " * 40
        return f"{'so ' * 40} \\boxed{{5}}" if "forcing" in text else f"{'so ' * 30}{seed} " * 40

    answer = await solve(strategy(text), Fake(scripted))
    assert answer.key == "5"
    assert any("down" in line for line in answer.cut)


@pytest.mark.parametrize("text", [*STEPWISE, "mcts(value='verifier')", "gibbs(n=4, sweeps=3)"])
async def test_a_path_that_ends_inside_its_thought_is_answered(text: str) -> None:
    def scripted(op: Expand, index: int, seed: int) -> Any:
        if op.force.endswith("boxed{"):
            return "5}.\n"
        if op.force:  # the thought is closed
            return ModelError("down") if seed % 4 == 0 else ""
        begun = dialogue(op.node, op.say)[1]
        return "and so" if begun and seed % 2 else "and then\n\nmore" if begun else f"<think>\nsome thought {seed}\n\nmore"

    answer = await solve(strategy(text), Fake(scripted))
    assert answer.key == "5"


@pytest.mark.parametrize("text", ["beam", "gibbs", "mcts(value='verifier', workers=1)", "abmcts(workers=1)", "steady", "refine"])
async def test_a_search_that_its_budget_ends_says_so_and_goes_on_with_more(text: str) -> None:
    ledger = Ledger()
    short = await solve(strategy(text), Fake(script), Budget(tokens=100), ledger=ledger)
    assert short.stopped == "budget"
    more = await solve(strategy(text), Fake(script), ledger=Ledger([*ledger.rows, Row("resume", "0", {})]))
    assert more.stopped == "done"
    assert len(more.candidates) > len(short.candidates) or more.spend.tokens > short.spend.tokens


@pytest.mark.parametrize("by", ["broken", "silent"])
async def test_best_of_without_an_opinion_is_the_majority(by: str) -> None:
    model = Fake(lambda op, index, seed: "\\boxed{1}" if index < 4 else f"It must be \\boxed{{{index}}}")
    run = search(model)
    run = replace(run, verifiers={**run.verifiers, "silent": mute})
    for seed in range(3):
        answer = await replace(run, seed=seed).solve(QUESTION, strategy(f"best_of(n=7, over='chains', by={by!r})"))
        assert answer.key == "1"


async def mute(nodes: tuple[Thought, ...]) -> list[float | None]:
    return [None for _ in nodes]
