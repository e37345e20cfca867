"""Monte Carlo tree search: the formulas by hand, where compute goes, workers in one tree, and that it always ends with an answer."""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial
from statistics import fmean
from typing import Any

import pytest

from pondera.errors import BadInput, ModelError
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies.mcts import REVISE, TOLD, abmcts, beta, mcts, normal
from pondera.strategies.tree import Tree, priors, puct, uct
from pondera.thought import Budget, Question, Thought, root_of
from tests.strategies.planted import found, one_way, replays, script, solve

uctree = partial(mcts, prior=False)
judged = partial(mcts, value="verifier")
mixed = partial(mcts, value="both")
agreed = partial(mcts, by="votes")
WAYS = {"puct": mcts, "uct": uctree, "verifier": judged, "both": mixed, "abmcts": abmcts}
every = pytest.mark.parametrize("strategy", WAYS.values(), ids=WAYS)


# ---------------------------------------------------------------- the tree, by hand


def tree_of(*logprobs: float, prior: bool, c: float = 1.0) -> tuple[Tree, list[Thought]]:
    root = root_of(Question.of("?"))
    tree = Tree(root, c, prior)
    kids = [Thought(f"k{i}", root, text=f"k{i}", finish="step", logprobs=(p, p)) for i, p in enumerate(logprobs)]
    assert tree.add(root, kids) == kids
    return tree, kids


def test_uct_by_hand() -> None:
    assert uct(0.5, 4, 16, 1.0) == pytest.approx(0.5 + math.sqrt(math.log(16) / 4))
    assert uct(0.5, 0, 16, 1.0) == math.inf
    tree, [a, b, c] = tree_of(-0.1, -0.2, -0.3, prior=False)
    order = []
    for score in (0.2, 0.6, 0.4):  # each once, the likeliest first
        order.append(kid := tree.descend())
        tree.learn(kid, Thought(f"end{kid.id}", kid, finish="done"), score)
    assert order == [a, b, c]
    assert [tree.mean(kid) for kid in (a, b, c)] == pytest.approx([0.0, 1.0, 0.5]), "from the worst to the best found"
    assert tree.mean(tree.root) == pytest.approx(0.5)
    assert tree.descend() is b, "1 + sqrt(ln 3) is the most"
    tree.learn(b, Thought("end2", b, finish="done"), 0.2)
    assert (tree.mean(b), tree.visits(b), tree.visits(tree.root)) == (pytest.approx(0.5), 2, 4)
    assert tree.descend() is c, "0.5 + sqrt(ln 4 / 1) against 0.5 + sqrt(ln 4 / 2) and 0 + sqrt(ln 4)"


def test_puct_by_hand() -> None:
    assert puct(0.5, 3, 16, 0.25, 2.0) == pytest.approx(0.5 + 2 * 0.25 * 4 / 4)
    tree, [a, b] = tree_of(math.log(0.9), math.log(0.3), prior=True)
    assert priors([a, b]) == pytest.approx([0.75, 0.25])
    assert tree.descend() is a, "nothing is known, and the prior is higher"
    tree.learn(a, Thought("e1", a, finish="done"), 0.1)
    tree.learn(a, Thought("e2", a, finish="done"), 0.9)
    # a: 0.5 + 0.75 sqrt(2) / 3 = 0.854; b takes the root's 0.5, + 0.25 sqrt(2) / 1 = 0.854 (equal by chance: the likelier goes first)
    assert tree.urge(a, 2, 0.75) == pytest.approx(tree.urge(b, 2, 0.25))
    tree.learn(a, Thought("e3", a, finish="done"), 0.1)
    assert tree.descend() is b


def test_a_visit_in_flight_is_a_loss_until_it_lands() -> None:
    tree, [a, b] = tree_of(-0.1, -0.1001, prior=True)
    tree.learn(a, Thought("e1", a, finish="done"), 0.9)
    tree.learn(b, Thought("e2", b, finish="done"), 0.5)
    assert tree.descend() is a
    with tree.visiting(a):
        assert tree.mean(a) == pytest.approx(0.5)
        assert tree.visits(tree.root) == 3
        with tree.visiting(a), tree.visiting(a):
            assert tree.descend() is b, "0 + 0.5 sqrt(5) / 2 against 1/4 + 0.5 sqrt(5) / 5"
    assert (tree.visits(a), tree.mean(a)) == (1, 1.0)
    with pytest.raises(ZeroDivisionError), tree.visiting(b):
        raise ZeroDivisionError
    assert tree.visits(b) == 1


def test_what_ended_or_failed_is_closed_and_a_node_with_nothing_open_too() -> None:
    tree, [a, b] = tree_of(-0.1, -0.2, prior=True)
    ends = [Thought(f"a{i}", a, text=f"a{i}", finish="done") for i in range(2)]
    tree.add(a, ends)
    assert {a, *ends} <= tree.closed
    assert tree.descend() is b
    tree.close(tree.root)
    assert tree.root not in tree.closed, "b is open"
    tree.add(b, [])
    assert tree.root in tree.closed


def test_children_that_two_workers_bring_are_both_kept_once() -> None:
    tree, [a, _] = tree_of(-0.1, -0.2, prior=True)
    again = [Thought("x0", tree.root, text="k0", finish="step"), Thought("x1", tree.root, text="new", finish="step")]
    assert [kid.id for kid in tree.add(tree.root, again)] == ["x1"]
    assert [kid.id for kid in tree.kids[tree.root]] == ["k0", "k1", "x1"]
    assert a in tree.kids[tree.root]


def test_no_opinion_is_the_mean_of_all_others() -> None:
    tree, [a, b] = tree_of(-0.1, -0.2, prior=True)
    tree.learn(a, a, None)
    assert tree.scores[a] == 0.5
    tree.learn(b, b, 0.7)
    tree.learn(a, Thought("e", a), None)
    assert tree.scores[Thought("e")] == pytest.approx(0.6)


# ---------------------------------------------------------------- posteriors of adaptive branching


def test_draws_follow_their_posteriors() -> None:
    rng = random.Random(1)
    assert fmean(beta([1.0, 1.0, 0.5], rng) for _ in range(4000)) == pytest.approx(3.0 / 4.0, abs=0.02)
    assert fmean(beta([], rng) for _ in range(4000)) == pytest.approx(0.5, abs=0.03)
    assert 0 <= beta([-5.0, 17.0], rng) <= 1
    draws = sorted(normal([0.8] * 9, rng) for _ in range(4001))
    assert draws[2000] == pytest.approx(0.9 * 0.8, abs=0.02), "n m / (1 + n)"
    wide = sorted(normal([], rng) for _ in range(4001))
    assert wide[3000] - wide[1000] > 3 * (draws[3000] - draws[1000]), "what was seen narrows it"
    assert all(math.isfinite(draw) for draw in wide)


async def test_the_tree_of_answers_goes_deep_where_revision_helps_and_wide_where_it_does_not() -> None:
    def shape(helps: bool) -> Any:
        def scripted(op: Expand, index: int, seed: int) -> str:
            better = bool(op.say) and REVISE in op.say
            return "It is \\boxed{1}. " + ("right" if better is helps else "wrong")

        return scripted

    async def share(helps: bool) -> float:
        asked = Counter[bool]()
        for seed in range(6):
            model = Fake(shape(helps))
            await solve(partial(abmcts, by="sure", rounds=24, workers=1), model, seed=seed)
            asked.update(REVISE in op.say for op in model.asked)
        return asked[True] / asked.total()

    deep, wide = await share(True), await share(False)
    assert deep > 0.65
    assert wide < 0.35


async def test_a_reviser_is_shown_its_answer_and_told_why() -> None:
    model = Fake(["It is \\boxed{41}."])
    answer = await solve(partial(abmcts, by="telling", rounds=8, workers=2), model)
    revisions = [op for op in model.asked if REVISE in op.say]
    assert revisions
    assert all(
        op.node.reply == "It is \\boxed{41}." and op.say.startswith(f"{TOLD}<reasons>\n41 is off by one.\n</reasons>\n\n")
        for op in revisions
    )
    assert dict(answer.votes) == {"41": 8}


# ---------------------------------------------------------------- whole searches


@pytest.mark.parametrize(
    ("strategy", "given"),
    [(mcts, {"rounds": 24}), (uctree, {"rounds": 24, "c": 0.5}), (judged, {"rounds": 24}), (mixed, {"rounds": 24})],
)
async def test_the_planted_path_is_found(strategy: Any, given: dict[str, Any]) -> None:
    assert await found(strategy, **given) >= 0.7


@pytest.mark.parametrize("strategy", [mcts, uctree, judged, mixed], ids=["puct", "uct", "verifier", "both"])
@pytest.mark.parametrize("workers", [1, 4])
async def test_compute_goes_to_the_promising_branch(strategy: Any, workers: int) -> None:
    def two_ways(op: Expand, index: int, seed: int) -> str:
        if not op.node.reply:
            return f"wrong {index}\n\nmore" if index else "right\n\nmore"
        return f"{seed}\n\nmore" if op.until == "step" else f"\\boxed{{{seed}}}"

    model = Fake(two_ways)
    await solve(partial(strategy, by="honest", rounds=40, workers=workers), model)
    below = Counter("wrong" not in op.node.reply for op in model.asked if op.node.reply)
    assert below[True] > 2 * below[False]
    assert below[False] >= 1, "the other branch is looked at too"


async def test_rollouts_are_worth_the_votes_that_agree() -> None:
    def scripted(op: Expand, index: int, seed: int) -> str:
        if not op.node.reply:
            return f"way {index}\n\nmore"
        return "It is \\boxed{5}." if "way 3" in op.node.reply else f"It is \\boxed{{{seed}}}."

    answer = await solve(partial(agreed, rounds=12), Fake(scripted))
    assert answer.key == "5"


@every
@pytest.mark.parametrize("by", ["silent", "broken", "scorer", "judge", "confidence"])
async def test_a_verifier_without_an_opinion_does_not_stop_the_search(strategy: Any, by: str) -> None:
    answer = await solve(partial(strategy, by=by, rounds=8))
    assert answer.key is not None
    assert answer.thought.done


@pytest.mark.parametrize("strategy", [mcts, uctree, judged, mixed], ids=["puct", "uct", "verifier", "both"])
async def test_a_branch_whose_children_all_fail_is_dropped(strategy: Any) -> None:
    answer = await solve(partial(strategy, rounds=8), Fake(one_way))
    assert answer.key == "5"
    assert any("no way on" in line for line in answer.cut)


async def test_answers_that_cannot_be_revised_are_answers_all_the_same() -> None:
    model = Fake(lambda op, index, seed: ModelError("no more turns") if REVISE in op.say else "\\boxed{5}")
    answer = await solve(partial(abmcts, rounds=12), model)
    assert answer.key == "5"
    assert any("no more turns" in line for line in answer.cut)


@every
async def test_a_search_of_which_nothing_survives_raises(strategy: Any) -> None:
    with pytest.raises(ModelError, match="down"):
        await solve(partial(strategy), Fake([ModelError("down")]))


@every
async def test_a_model_that_fails_now_and_then_does_not_stop_the_search(strategy: Any) -> None:
    def flaky(op: Expand, index: int, seed: int) -> Any:
        return ModelError("busy") if seed % 3 == 0 else script(op, index, seed)

    for seed in range(5):
        assert (await solve(partial(strategy, rounds=10), Fake(flaky), seed=seed)).key is not None


@every
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("tokens", [35, 100, 150, 300, 700, 2000])
async def test_any_budget_gives_an_answer(strategy: Any, tokens: int, workers: int) -> None:
    def wordy(op: Expand, index: int, seed: int) -> str:
        return "5}.\n" if op.force else "\n\n".join([*[f"{'so ' * 30}{seed}"] * 9, "\\boxed{5}"])

    answer = await solve(partial(strategy, workers=workers), Fake(wordy), Budget(tokens=tokens))
    assert answer.key is not None
    assert answer.spend.tokens <= tokens


@every
async def test_a_step_that_never_ends_is_bounded(strategy: Any) -> None:
    model = Fake(lambda op, index, seed: "5}.\n" if op.force else f"so{seed % 9} " * 10_000)
    answer = await solve(partial(strategy, rounds=5), model)
    assert answer.key == "5"
    assert max(op.max_tokens for op in model.asked) <= 384


@every
@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("tokens", [90.0, 600.0, math.inf])
async def test_a_replay_says_the_same(strategy: Any, workers: int, tokens: float) -> None:
    await replays(partial(strategy, workers=workers, rounds=9), Budget(tokens=tokens))


async def test_a_replay_of_votes_says_the_same() -> None:
    await replays(partial(agreed, workers=4, rounds=9))


@pytest.mark.parametrize("workers", [1, 2, 5])
async def test_rounds_are_counted_over_all_workers_and_the_first_step_has_a_child_for_each(workers: int) -> None:
    model = Fake(script)
    answer = await solve(partial(mcts, rounds=6, workers=workers, by="honest"), model)
    assert model.asked[0].n == max(2, workers)
    looks = [op for op in model.asked if op.until == "done" and not op.force]
    assert len(looks) <= 6
    assert len(answer.candidates) >= 4
    assert len((await solve(partial(abmcts, rounds=6, workers=workers, by="honest"))).candidates) == 6


async def test_values_of_steps_leave_enough_for_one_path_to_its_end() -> None:
    def scripted(op: Expand, index: int, seed: int) -> str:
        if op.until == "done" and not op.force:
            return "So it is \\boxed{42}."
        return "0}.\n" if op.force else f"{'so ' * 30}{seed}\n\nmore"

    answer = await solve(partial(judged, rounds=99), Fake(scripted), Budget(tokens=1500))
    assert answer.key == "42"


@pytest.mark.parametrize(
    ("strategy", "given"),
    [
        *((mcts, {name: 0}) for name in ("rounds", "fanout", "step", "max_tokens", "workers")),
        *((mcts, {"value": "luck"}), (mcts, {"value": "both", "by": "votes"}), (abmcts, {"posterior": "gamma"})),
        *((abmcts, {name: 0}) for name in ("rounds", "max_tokens", "workers")),
    ],
)
async def test_bad_arguments_are_one_sentence(strategy: Any, given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"give|'rollout', or 'both'|'normal'"):
        await solve(partial(strategy, **given))
