"""Voting and best-of-N: who wins, who abstains, and that order never matters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput, BranchesFailed, CallFailed, ModelError, Stop, VerifierError
from pondera.models.fake import Fake
from pondera.ops import Expand, Verifier
from pondera.parse import call
from pondera.strategies.think import program
from pondera.strategies.vote import best_of, elect, foremost, prefixes, standings, tournament, vote
from pondera.thought import Answer, Budget, Thought, root_of
from tests.test_laws import QUESTION, run_of

NAMED = {"best_of": best_of, "program": program, "tournament": tournament, "vote": vote}


async def solve(text: str, model: Fake, budget: Budget | None = None, **verifiers: Verifier) -> Answer:
    run = run_of(model, budget)
    return await replace(run, verifiers={**run.verifiers, **verifiers}).solve(QUESTION, call(text, NAMED, "strategy"))


def each(score: Callable[[Thought], float | None]) -> Verifier:
    """A verifier that looks at one node at a time."""

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        return [score(node) for node in nodes]

    return verifier


def boxes(*numbers: int) -> Fake:
    return Fake(lambda op, index, seed: f"\\boxed{{{numbers[index]}}}")


def boxed(node: Thought) -> int:
    return int(node.reply.rsplit("{", 1)[1].rstrip("}"))


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
    assert answer.key == "1"
    assert answer.confidence == pytest.approx(2 / 3)
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


@given(ballots, st.randoms(use_true_random=False))
def test_no_sum_depends_on_the_order_of_its_terms(cast: list[Any], rng: Any) -> None:
    pool = [Thought(f"0.0/{i}", text=f"{key} {p}", finish="done", logprobs=(p,)) for i, (key, p, _) in enumerate(cast)]
    votes = [(one, key, 0.1 + weight / 3) for one, (key, _, weight) in zip(pool, cast, strict=True)]
    shuffled = list(votes)
    rng.shuffle(shuffled)
    table = [[(one.text, share) for one, share in standings(*zip(*order, strict=True))] for order in (votes, shuffled)]
    assert table[0] == table[1]


@given(ballots, st.floats(0.01, 1), st.randoms(use_true_random=False))
def test_who_may_vote_does_not_depend_on_order(cast: list[Any], top: float, rng: Any) -> None:
    pool = [Thought(f"0.0/{i}", text=f"{key} {p}", finish="done", logprobs=(p,)) for i, (key, p, _) in enumerate(cast)]
    votes = [(one, key, weight) for one, (key, _, weight) in zip(pool, cast, strict=True)]
    shuffled = list(votes)
    rng.shuffle(shuffled)

    def voters(order: list[Any]) -> list[str]:
        nodes, keys, weights = zip(*order, strict=True)
        return sorted(nodes[i].text for i in foremost(nodes, keys, weights, top))

    kept = [voters(votes), voters(shuffled)]
    assert kept[0] == kept[1]
    answered = sum(key is not None for _, key, _ in votes)
    assert len(kept[0]) - (len(votes) - answered) == math.ceil(round(top * answered, 6))


async def test_only_the_best_share_votes() -> None:
    model = boxes(1, 1, 1, 2, 2, 3)
    scored = each(lambda one: {1: 0.1, 2: 0.8, 3: 0.9}[boxed(one)])
    assert (await solve("vote(n=6, over='chains', by='v')", model, v=scored)).key == "2"
    assert (await solve("vote(n=6, over='chains', by='v', top=0.5)", model, v=scored)).key == "2"
    assert (await solve("vote(n=6, over='chains', by='v', top=0.1)", model, v=scored)).key == "3"
    unsure = await solve("vote(n=6, over='chains', by='v', top=0.1)", model, v=each(lambda one: math.nan))
    assert (unsure.key, unsure.confidence) == ("1", 0.5), "without any opinion it is a vote of all"


async def test_a_verifier_that_fails_leaves_the_majority() -> None:
    async def broken(nodes: tuple[Thought, ...]) -> list[float | None]:
        raise VerifierError("out of order")

    for text in ("vote(n=3, by='v', top=0.5)", "vote(n=3, by='v', process='min')", "tournament(n=3, by='v')"):
        answer = await solve(text.replace("n=3", "n=3, over='chains'"), boxes(1, 1, 3), v=broken)
        assert answer.key == "1"
        assert any("out of order" in line for line in answer.cut)


async def test_negative_scores_weigh_nothing() -> None:
    answer = await solve("vote(n=3, over='chains', by='v')", boxes(1, 1, 3), v=each(lambda one: -5.0 if boxed(one) == 1 else 0.2))
    assert (answer.key, answer.confidence) == ("3", 1.0)


def grown(text: str, logprobs: tuple[float, ...] = (), forced: str = "") -> Thought:
    return Thought("0.0/3", root_of(QUESTION), said="Think.", text=text, forced=forced, finish="done", logprobs=logprobs)


def test_the_steps_of_a_text_are_its_beginnings() -> None:
    whole = grown("One.\n\nTwo.\n\n\n\nThree.\n\n", tuple(-0.1 * i for i in range(10)))
    first, second, last = prefixes(whole)
    assert (first.id, second.id, last) == ("0.0/3:0", "0.0/3:1", whole)
    assert (first.reply, second.reply) == ("One.\n\n", "One.\n\nTwo.\n\n\n\n")
    assert first.logprobs + second.logprobs == whole.logprobs[: len(first.logprobs) + len(second.logprobs)]
    assert 0 < len(first.logprobs) < len(whole.logprobs)
    assert first.about == QUESTION
    assert (first.said, second.said) == ("Think.", "")


def test_a_forced_beginning_has_no_probabilities() -> None:
    first, _ = prefixes(grown("Given.\n\nMade.", (-0.1, -0.2), forced="Given.\n\n"))
    assert first.logprobs == ()


def test_a_path_that_was_grown_in_steps_has_those() -> None:
    one = replace(grown("One.\n\n"), finish="step")
    two = Thought("0.1/0", one, text="Two.\n\nThree.", finish="done")
    assert [node.id for node in prefixes(two)] == ["0.0/3", "0.1/0:0", "0.1/0"]
    assert [node.reply for node in prefixes(two)] == ["One.\n\n", "One.\n\nTwo.\n\n", "One.\n\nTwo.\n\nThree."]
    output = Thought("0.2", two, text="41", finish="done", tool="python")
    assert prefixes(output) == (output,)


@given(st.lists(st.sampled_from(["a", "\n", "\n\n", " ", "bc."]), max_size=12).map("".join), st.integers(0, 9))
def test_steps_are_never_empty_and_lose_nothing(text: str, n: int) -> None:
    whole = grown(text, (-0.1,) * n)
    *before, last = prefixes(whole)
    assert last == whole
    assert all(node.text.strip() for node in before)
    assert not before or text.startswith(before[-1].reply)
    assert sum(len(node.logprobs) for node in before) <= n
    assert len({node.id for node in before}) == len(before)


@pytest.mark.parametrize(("process", "wins"), [("", "2"), ("min", "1"), ("product", "1"), ("last", "2"), ("mean", "3")])
async def test_best_of_folds_the_scores_of_steps(process: str, wins: str) -> None:
    script = ["a a\n\nb b\n\n\\boxed{1}", "c c\n\nd d\n\n\\boxed{2}", "e e\n\nf f\n\n\\boxed{3}"]
    table = {"a a": 0.6, "b b": 0.6, "{1}": 0.6, "c c": 0.1, "d d": 0.1, "{2}": 0.9, "e e": 1.0, "f f": 0.3, "{3}": 0.7}
    scored = each(lambda one: table[one.reply.strip()[-3:]])
    answer = await solve(f"best_of(n=3, over='chains', by='v', process='{process}')", Fake(script), v=scored)
    assert answer.key == wins


async def test_steps_without_an_opinion_are_left_out() -> None:
    script = ["a a\n\nb b\n\n\\boxed{1}", "c c\n\nd d\n\n\\boxed{2}"]
    scored = each(lambda one: {"a a": math.nan, "b b": None, "{1}": 0.4, "c c": 0.3, "d d": None, "{2}": 0.9}[one.reply.strip()[-3:]])
    assert (await solve("best_of(n=2, over='chains', by='v', process='min')", Fake(script), v=scored)).key == "1"
    silent = await solve("best_of(n=2, over='chains', by='v', process='product')", Fake(script), v=each(lambda one: None))
    assert silent.key in ("1", "2")


async def test_a_weighted_best_of_n_by_process_is_a_vote() -> None:
    script = ["a\n\n\\boxed{1}", "b\n\n\\boxed{1}", "c\n\n\\boxed{3}"]
    scored = each(lambda one: 0.4 if one.reply[0] in "ab" else 0.7)
    assert (await solve("best_of(n=3, over='chains', by='v', process='mean')", Fake(script), v=scored)).key == "3"
    assert (await solve("vote(n=3, over='chains', by='v', process='mean')", Fake(script), v=scored)).key == "1"


async def test_a_knockout_goes_on_with_the_winners_and_merges_what_is_equal() -> None:
    met: list[set[int]] = []

    async def higher(nodes: tuple[Thought, ...]) -> list[float | None]:
        a, b = map(boxed, nodes)
        met.append({a, b})
        return [float(a > b), float(b > a)]

    answer = await solve("tournament(n=8, over='chains', by='v')", boxes(7, 1, 1, 5, 5, 5, 9, 9), v=higher)
    assert answer.key == "9"
    assert len(met) == 3, "four different answers"
    assert {5, 9} <= set().union(*met[:2])
    met.clear()
    assert (await solve("tournament(n=4, over='chains', by='v')", boxes(4, 4, 4, 4), v=higher)).key == "4"
    assert not met


@pytest.mark.parametrize("opinion", [None, math.nan, 0.5])
async def test_without_an_opinion_more_votes_win_a_duel(opinion: float | None) -> None:
    answer = await solve("tournament(n=5, over='chains', by='v')", boxes(8, 2, 2, 6, 7), v=each(lambda one: opinion))
    assert answer.key == "2"


async def test_a_knockout_of_branches_without_answers_asks_nobody() -> None:
    async def never(nodes: tuple[Thought, ...]) -> list[float | None]:
        raise AssertionError

    answer = await solve("tournament(n=3, over='chains', by='v')", Fake(["nothing"]), v=never)
    assert (answer.text, answer.key, answer.abstentions) == ("nothing", None, 3)


async def test_a_duel_that_was_stopped_goes_to_the_favourite() -> None:
    async def dear(nodes: tuple[Thought, ...]) -> list[float | None]:
        [said] = await Expand(nodes[0], say="Which?", max_tokens=30)
        return [0.0, float(said.reply)]

    model = Fake(lambda op, index, seed: "1" if op.say == "Which?" else f"\\boxed{{{[1, 1, 2, 3][index]}}}")
    answer = await solve("tournament(n=4, over='chains', by='v', max_tokens=20)", model, Budget(tokens=20), v=dear)
    assert answer.key is not None
    assert answer.spend.tokens <= 20


@pytest.mark.parametrize(
    "text", ["vote(n=4, by='scorer', top=0.5)", "best_of(n=4, by='scorer', process='min')", "tournament(n=4, by='scorer')"]
)
@pytest.mark.parametrize("tokens", [100, 300, 2000])
async def test_any_budget_gives_an_answer(text: str, tokens: int) -> None:
    answer = await solve(text, Fake(), Budget(tokens=tokens))
    assert answer.key is not None
    assert answer.spend.tokens <= tokens


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vote(over='trees')", "'chains', 'programs' or 'both'"),
        ("vote(n=0)", "asks for nothing"),
        ("vote(top=0)", "no share of the branches"),
        ("vote(top=1.5, by='scorer')", "no share of the branches"),
        ("vote(top=0.5)", "Only a verifier can tell"),
        ("vote(process='min')", "Only a verifier can tell"),
        ("best_of(by='')", "Only a verifier can tell"),
        ("best_of(process='max')", "use min, product, last, mean"),
        ("tournament(by='')", "Only a verifier can tell"),
        ("tournament(n=0)", "asks for nothing"),
    ],
)
async def test_bad_arguments_are_one_sentence(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        await solve(text, Fake())
