"""Chains that are made longer, cut short, or ended as soon as their answer has settled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pondera.errors import BadInput, ModelError, Unsupported
from pondera.ledger import Ledger
from pondera.models.fake import Fake, Reply, Script
from pondera.ops import Expand
from pondera.ports import Sample
from pondera.strategies.forcing import CHECK, budget_forcing, certainty, early_exit, settled
from pondera.strategies.steps import ANSWER
from pondera.strategies.think import CHAIN
from pondera.strategies.underthinking import steady
from pondera.thought import CLOSE, OPEN, Answer, Budget, Thought, dialogue
from tests.test_laws import QUESTION, run_of


def strategy(function: Any, **given: Any) -> Any:
    return lambda root: function(root, **given)


async def solve(thinking: Any, script: Script, budget: Budget | None = None) -> tuple[Answer, Fake, Ledger]:
    """Solved twice: once by a model, once by the ledger alone."""
    model, ledger = Fake(script), Ledger()
    answer = await run_of(model, budget).solve(QUESTION, thinking, ledger=ledger)
    again = await run_of(None).solve(QUESTION, thinking, ledger=Ledger(list(ledger.rows)))
    assert (again.text, again.key, again.confidence) == (answer.text, answer.key, answer.confidence)
    return answer, model, ledger


def reciting(chain: str, probe: str = "7}.", then: str = "") -> Script:
    """A model that says `chain`, `probe` where its answer is forced, and `then` when it is told to wait."""

    def script(op: Expand, index: int, seed: int) -> Reply:
        if op.force.endswith(ANSWER):
            return probe
        if op.force:
            return then
        return chain[len(op.node.reply) :]

    return script


SHORT = "It is 17 + 25. So \\boxed{41}."


async def test_a_chain_that_ends_early_is_told_to_wait_and_its_last_box_counts() -> None:
    answer, model, _ = await solve(strategy(budget_forcing, least=8, most=50, waits=3), reciting(SHORT, then=" I forgot one: \\boxed{42}."))
    assert answer.text == f"{SHORT}\n\n{CHECK} I forgot one: \\boxed{{42}}."
    assert (answer.key, answer.stopped, answer.cut) == ("42", "done", ())
    assert [(op.say, op.force) for op in model.asked] == [(CHAIN, ""), ("", f"\n\n{CHECK}")], "8 tokens are enough after one"
    assert all(isinstance(op.until, int) and op.until <= 50 for op in model.asked)


async def test_a_box_before_the_wait_counts_where_none_follows() -> None:
    answer, model, _ = await solve(strategy(budget_forcing, least=100, most=100, waits=2), reciting(SHORT, then=" Yes."))
    assert answer.text.count(f"\n\n{CHECK}") == 2
    assert answer.key == "41"
    assert len(model.asked) == 3


async def test_what_it_is_told_to_wait_with_can_be_chosen() -> None:
    told = strategy(budget_forcing, least=8, most=50, waits=1, word="Alternatively,")
    answer, _, _ = await solve(told, reciting(SHORT, then=" \\boxed{42}."))
    assert answer.text == f"{SHORT}\n\nAlternatively, \\boxed{{42}}."
    answer, _, _ = await solve(strategy(early_exit, patience=2, waits=1, word="Hmm"), reciting(SHORT, then=": \\boxed{42}."))
    assert answer.text.endswith("\n\nHmm: \\boxed{42}.")


async def test_at_the_maximum_the_answer_is_forced() -> None:
    answer, model, _ = await solve(strategy(budget_forcing, least=0, most=5), reciting(" so" * 300))
    assert answer.text == " so so so so so" + ANSWER + "7}."
    assert (answer.key, len(model.asked)) == ("7", 2)


async def test_a_wait_that_cannot_be_paid_or_made_leaves_the_chain_as_it_was() -> None:
    answer, _, _ = await solve(strategy(budget_forcing, least=90, most=100), reciting(SHORT, then=" or not"), Budget(tokens=90))
    assert (answer.key, answer.stopped) == ("41", "budget")

    def script(op: Expand, index: int, seed: int) -> Reply:
        return Unsupported("The server cannot continue a partial answer.") if op.force else SHORT

    answer, _, _ = await solve(strategy(budget_forcing), script)
    assert (answer.key, answer.text) == ("41", SHORT)
    assert any("cannot continue" in line for line in answer.cut)


async def test_with_hardly_a_budget_the_answer_is_forced_at_once() -> None:
    for function in (budget_forcing, early_exit):
        answer, model, _ = await solve(strategy(function), reciting(" so" * 300), Budget(tokens=40))
        assert (answer.key, answer.spend.tokens) == ("7", 1)
        assert model.asked[0].say == CHAIN


def thinker(thought: str, told: str) -> Script:
    """A model that thinks between tags, and is a little shorter at each return."""

    def script(op: Expand, index: int, seed: int) -> Reply:
        begun = dialogue(op.node, op.say)[1] + op.force
        if begun.endswith(ANSWER):
            return "7}."
        if begun.rstrip().endswith(CLOSE):
            return told
        if begun.endswith("Wait"):
            return f", 42 it is.{CLOSE}{told}"
        done = begun.removeprefix(OPEN)
        return f"{'' if begun else OPEN}{thought[len(done) :]}{CLOSE}{told}"

    return script


async def test_a_thinking_model_goes_on_inside_its_thought_and_closes_it_before_it_answers() -> None:
    answer, model, _ = await solve(strategy(budget_forcing, least=8, most=50), thinker("17 + 25 is 41.", "It is \\boxed{42}."))
    node = answer.thought
    assert (answer.text, answer.key) == ("It is \\boxed{42}.", "42")
    assert "".join(step.thinking for step in node.turn).split() == ["17", "+", "25", "is", "41.", "Wait,", "42", "it", "is."]
    assert answer.spend.thinking == 5 + 4
    assert dialogue(node)[1].count(OPEN) == dialogue(node)[1].count(CLOSE) == 1
    assert len(model.asked) == 3


async def test_a_thought_beyond_its_maximum_is_closed_and_the_answer_forced() -> None:
    answer, _, _ = await solve(strategy(budget_forcing, least=0, most=6), thinker(" so" * 300, "never"))
    assert (answer.text.strip(), answer.key) == (f"{ANSWER}7}}.".strip(), "7")
    assert answer.thought.path[1].thinking.split() == ["so"] * 6


async def test_a_chain_stops_when_its_answer_has_settled() -> None:
    probes = {4: "1}.", 8: "2}.", 12: "3}.", 16: "3}.", 20: "9}."}

    def script(op: Expand, index: int, seed: int) -> Reply:
        at = len(op.node.reply.split())
        return probes[at] if op.force else " so" * 300

    answer, model, _ = await solve(strategy(early_exit, every=4, patience=2), script)
    assert answer.text.split() == ["so"] * 16 + [*f"{ANSWER}3}}.".split()]
    assert (answer.key, answer.spend.tokens) == ("3", 16 + 4)
    assert all(ANSWER not in op.node.reply for op in model.asked), "the chain knows nothing of the probes"


async def test_a_chain_that_ends_by_itself_keeps_its_answer() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        return f"{len(op.node.reply)}}}." if op.force else SHORT[len(op.node.reply) :]

    answer, _, _ = await solve(strategy(early_exit, every=3, patience=2), script)
    assert (answer.text, answer.key) == (SHORT, "41")


async def test_a_chain_that_ends_unsettled_is_told_to_wait_and_its_own_answers_are_probes() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        told = op.node.reply.count("Wait") + ("Wait" in op.force)
        said = f"{SHORT}{''.join(f'{chr(10)}{chr(10)}Wait, so {chr(92)}boxed{{{box}}}.' for box in (42, 43, 43)[:told])}"
        return said[len(op.node.reply + op.force) :]

    answer, model, _ = await solve(strategy(early_exit, patience=2, waits=5, word="Wait"), script)
    assert answer.text.split("\n\n") == [SHORT, "Wait, so \\boxed{42}.", "Wait, so \\boxed{43}.", "Wait, so \\boxed{43}."]
    assert (answer.key, len(model.asked)) == ("43", 4)
    answer, model, _ = await solve(strategy(early_exit, patience=2, waits=1, word="Wait"), script)
    assert (answer.key, len(model.asked)) == ("42", 2), "unsettled, but told to wait once only"


async def test_probes_that_doubt_or_say_nothing_or_fail_settle_nothing() -> None:
    for probe in ("7}. Wait, no.", "none}.", ModelError("the probe was lost"), "7 " * 99):

        def script(op: Expand, index: int, seed: int, probe: Reply = probe) -> Reply:
            return probe if op.force else SHORT[len(op.node.reply) :]

        answer, _, _ = await solve(strategy(early_exit, every=2, patience=2), script)
        assert (answer.text, answer.key) == (SHORT, "41")


async def test_a_thinking_model_is_probed_behind_its_closed_thought() -> None:
    answer, model, _ = await solve(strategy(early_exit, every=4, patience=2), thinker(" so" * 300, "never"))
    probes = [op for op in model.asked if op.force]
    assert [op.force for op in probes] == [f"\n{CLOSE}{ANSWER}"] * 2
    assert (answer.text.strip(), answer.key, answer.spend.thinking) == (f"{ANSWER}7}}.".strip(), "7", 8)


async def test_many_chains_exit_each_by_itself_and_vote() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        mine = seed % 3 if op.node.parent is None else int(op.node.reply[0])
        return f"{7 if mine else 8}}}." if op.force else f"{mine} " * 40

    answer, model, _ = await solve(strategy(early_exit, n=6, every=4, patience=2, temperature=0.6), script)
    first = [int(node.reply[0]) for node in {op.node.id: op.node for op in model.asked if op.node.parent}.values() if node.tokens == 4]
    sevens = sum(mine > 0 for mine in first[:6])
    assert answer.key == ("7" if sevens >= 3 else "8")
    assert answer.confidence == max(sevens, 6 - sevens) / 6


async def test_near_the_end_of_a_budget_the_answer_is_forced() -> None:
    def script(op: Expand, index: int, seed: int) -> Reply:
        return f"{len(op.node.reply.split())}}}." if op.force else " so" * 900

    answer, _, _ = await solve(strategy(early_exit, every=64, max_tokens=900), script, Budget(tokens=300))
    assert (answer.key, answer.stopped) == ("192", "budget")
    assert answer.spend.tokens == 192 + 4


def probe(text: str, *logprobs: float) -> Thought:
    return Thought("0.0/0", text=ANSWER + text, forced=ANSWER, finish="done", logprobs=logprobs)


def test_what_settles() -> None:
    two = [probe("7}.", -0.1), probe("7}.", -0.2)]
    assert settled(two, ["7", "7"], 2, 0.8)
    assert not settled(two, ["7", "7"], 2, 0.9), "one of them is not sure"
    assert not settled(two, ["7", "8"], 2, 0.0)
    assert not settled(two, [None, "7"], 2, 0.0)
    assert not settled(two, ["7", "7"], 3, 0.0)
    assert settled(two[:1], ["7"], 1, 0.9), "DEER's rule"
    assert certainty(probe("7}.")) == 1.0, "a model that tells no probabilities is believed"


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (budget_forcing, {"least": 9, "most": 8}),
        (budget_forcing, {"least": -1}),
        (budget_forcing, {"least": 0, "most": 0}),
        (budget_forcing, {"waits": -1}),
        (early_exit, {"every": 0}),
        (early_exit, {"patience": 0}),
        (early_exit, {"sure": 1.5}),
        (early_exit, {"sure": float("nan")}),
        (early_exit, {"waits": -1}),
        (early_exit, {"n": 3}),
    ],
)
async def test_what_cannot_be_meant_is_refused(function: Any, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        await run_of(Fake()).solve(QUESTION, strategy(function, **given))


@pytest.mark.parametrize("function", [budget_forcing, early_exit, steady])
async def test_a_deadline_leaves_what_was_thought_until_then(function: Any) -> None:
    model = Fake(lambda op, index, seed: "so " * 100_000, latency=0.002)
    answer = await run_of(model, Budget(seconds=0.4)).solve(QUESTION, strategy(function, max_tokens=100_000))
    assert answer.stopped == "deadline"
    assert answer.text.startswith("so so")


@pytest.mark.parametrize("function", [budget_forcing, early_exit, steady])
async def test_a_chain_that_says_the_same_for_ever_is_ended_and_its_answer_forced(function: Any) -> None:
    class Caught(Fake):
        """As a model that finds loops."""

        async def sample(self, op: Expand, seeds: Any) -> Any:
            async for one in super().sample(op, seeds):
                yield replace(one, finish="loop") if isinstance(one, Sample) and not op.force else one

    model = Caught(reciting("so " * 300))
    answer = await run_of(model).solve(QUESTION, strategy(function))
    assert (answer.key, len(model.asked)) == ("7", 2)
