"""Steps are scored once for all their prefixes, one number is made of them, and what fails scores nothing."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pondera.errors import BadInput, ModelError, PonderaError, Stop, VerifierError
from pondera.ledger import Ledger, bills
from pondera.models.fake import Fake
from pondera.models.reward import Reward
from pondera.ops import Both, Expand, Score
from pondera.ports import Failure, Sample
from pondera.runtime import Run
from pondera.thought import Answer, Budget, Finish, Price, Question, Spend, Thought, root_of
from pondera.verifiers.keys import keys
from pondera.verifiers.reward import reward, steps_of
from tests.models.server import running

QUESTION = Question.of("What is 6 times 7?")
ROOT = root_of(QUESTION)


def grown(*steps: str, at: Thought = ROOT, finish: Finish = "step") -> Thought:
    """A path, a thought for each step."""
    for step in steps:
        at = Thought(f"{at.id}.{step.strip()}", at, text=step, finish=finish)
    return at


def whole(text: str, id: str = "0/1") -> Thought:
    return Thought(id, ROOT, text=text, finish="done")


def asked(op: Expand) -> tuple[str, ...]:
    return tuple(node.text for node in op.node.turn if node.text)


def drive(coro: Coroutine[Any, Any, Any], score: Callable[[Expand], str]) -> Any:
    """A runtime of a few lines: what raises is thrown into the coroutine, and a failed branch of Both is dropped."""
    sent: Any = None
    error: BaseException | None = None
    while True:
        try:
            op = coro.throw(error) if error else coro.send(sent)
        except StopIteration as done:
            return done.value
        sent, error = None, None
        try:
            if isinstance(op, Both):
                sent = [drive(child, score) for child in op.coros]
            else:
                sent = [Thought(op.node.id + "/0", op.node, text=score(op), finish="done")]
        except BaseException as raised:
            error = raised


@dataclass
class Prm:
    """A process model that knows each step by its text; `lone` makes it an outcome model that knows the last one only."""

    worth: dict[str, float]
    lone: bool = False
    ops: list[Expand] = field(default_factory=list)

    def __call__(self, op: Expand) -> str:
        self.ops.append(op)
        scores = [self.worth[step] for step in asked(op)]
        return json.dumps(scores[-1:] if self.lone else scores)


WORTH = {"a": 0.9, "b": 0.5, "c": 0.8, "d": 0.1}


# What is made of the steps' scores


@pytest.mark.parametrize(("how", "score"), [("last", 0.8), ("min", 0.5), ("product", 0.36), ("mean", 2.2 / 3)])
def test_one_number_of_the_steps(how: str, score: float) -> None:
    nodes = (grown("a\n\n", "b\n\n", "c"), whole("a\n\nb\n\n\n\nc\n"))
    prm = Prm(WORTH)
    assert drive(reward(how)(nodes), prm) == [pytest.approx(score)] * 2
    assert [asked(op) for op in prm.ops] == [("a", "b", "c")]  # they say the same
    (op,) = prm.ops
    assert (op.by, op.n, op.max_tokens, op.temperature) == ("reward", 1, 1, 0.0)
    assert op.node.about == QUESTION
    assert op.node.id != nodes[0].id


def test_an_outcome_model_is_asked_for_the_whole() -> None:
    prm = Prm({"a\n\nb": 0.7, "a": 0.2})
    assert drive(reward("orm")((whole("a\n\nb"), whole("a"))), prm) == [0.7, 0.2]
    assert [asked(op) for op in prm.ops] == [("a\n\nb",), ("a",)]


def test_prefixes_of_one_path_are_asked_once() -> None:
    one, two, three = grown("a\n\n"), grown("a\n\n", "b\n\n"), grown("a\n\n", "b\n\n", "c")
    prm = Prm(WORTH)
    other = grown("a\n\n", "d\n\n")
    assert drive(reward()((one, three, other, two, one)), prm) == [0.9, 0.8, 0.1, 0.5, 0.9]
    assert [asked(op) for op in prm.ops] == [("a", "b", "c"), ("a", "d")]
    assert drive(reward("min")((one, three, other, two)), Prm(WORTH)) == [0.9, 0.5, 0.1, 0.5]


def test_a_step_that_is_cut_is_no_prefix() -> None:
    prm = Prm(WORTH | {"b, I thi": 0.3})
    cut = Thought("0/9", grown("a\n\n"), text="b, I thi", finish="length")
    assert drive(reward()((cut, grown("a\n\n", "b\n\n"))), prm) == [0.3, 0.5]
    assert len(prm.ops) == 2


def test_another_question_shares_nothing() -> None:
    other = Thought("1", root_of(Question.of("What is 1 + 1?")), text="a", finish="done")
    prm = Prm(WORTH)
    drive(reward()((whole("a"), other)), prm)
    assert [op.node.about.text for op in prm.ops] == ["What is 6 times 7?", "What is 1 + 1?"]


def test_one_number_for_a_whole_answer_is_taken_at_that_and_not_for_its_beginnings() -> None:
    one, two, three = grown("a\n\n"), grown("a\n\n", "b\n\n"), grown("a\n\n", "b\n\n", "c")
    for how in ("last", "min", "product", "mean"):
        orm = Prm(WORTH, lone=True)
        assert drive(reward(how)((one, three, two, three, one)), orm) == [0.9, 0.8, 0.5, 0.8, 0.9]
        assert sorted(asked(op) for op in orm.ops) == [("a",), ("a", "b"), ("a", "b", "c")]


# What a step is


def test_steps_are_thoughts_where_they_were_grown_so() -> None:
    assert steps_of(grown("one\n\ntwo\n\n", "three")) == ("one\n\ntwo", "three")
    last = Thought("9", grown("one\n\n"), text="two\n\nthree\n\n", finish="done")
    assert steps_of(last) == ("one", "two", "three")
    assert steps_of(grown("on", "e\n\ntw", "o", finish="tokens")) == ("one", "two")
    mixed = Thought("9", grown("on", finish="tokens"), text="e\n\n", finish="step")
    assert steps_of(grown("two\n\n", at=mixed)) == ("one", "two")


def test_steps_are_split_where_one_says() -> None:
    assert steps_of(whole("one\n two\n\nthree"), "\n") == ("one", "two", "three")
    assert steps_of(whole(" one\n\ntwo "), "") == (" one\n\ntwo ",)


def test_only_the_last_turn_is_judged() -> None:
    again = Thought("9", grown("wrong\n\n"), said="Look again.", text="right\n\nyes", finish="done")
    assert steps_of(again) == ("right", "yes")
    assert steps_of(Thought("9", whole("print(42)"), text="42", finish="done", tool="python")) == ("42",)


# What goes wrong


@pytest.mark.parametrize("how", ["last", "min", "product", "mean", "orm"])
def test_a_node_without_text_is_not_asked_about(how: str) -> None:
    prm = Prm(WORTH)
    assert drive(reward(how)((whole(""), ROOT, whole("a", "0/2"), whole(" \n\n "))), prm) == [None, None, 0.9, None]
    assert len(prm.ops) == 1


def test_nothing_to_judge() -> None:
    assert drive(reward()(()), Prm(WORTH)) == []


def test_a_failed_call_is_no_score() -> None:
    def score(op: Expand) -> str:
        if "b" in asked(op):
            raise ModelError("down")
        return "[0.9]"

    assert drive(reward()((whole("b"), whole("a"), grown("b\n\n", "c"))), score) == [None, 0.9, None]


def test_a_beginning_is_asked_about_alone_where_what_follows_fails() -> None:
    def score(op: Expand) -> str:
        if "c" in asked(op):
            raise ModelError("too long")
        return Prm(WORTH)(op)

    nodes = (grown("a\n\n"), grown("a\n\n", "b\n\n"), grown("a\n\n", "b\n\n", "c"))
    assert drive(reward()(nodes), score) == [0.9, 0.5, None]


def test_stop_passes_through() -> None:
    def score(op: Expand) -> str:
        raise Stop("budget")

    with pytest.raises(Stop):
        drive(reward()((whole("a"),)), score)


@pytest.mark.parametrize("text", ["Yes", "", "[0.1, 0.2, 0.3]", "[]", "0.5", "[null, 1]", "[NaN, 1]", "[1.5, 1]", "[true, 1]", "{}"])
def test_what_is_no_reward_model_is_said(text: str) -> None:
    with pytest.raises(VerifierError, match="NAME@URL"):
        drive(reward()((whole("a\n\nb"),)), lambda op: text)


def test_bad_arguments() -> None:
    with pytest.raises(BadInput, match="last, min, product, mean, orm"):
        reward("max")
    with pytest.raises(BadInput, match="step"):
        reward(step="")


# In a run


@dataclass
class Scorer:
    """A reward model without a server: a longer step is worth more, and one that says "fail" fails."""

    name: str = "scorer"
    price: Price | None = field(default_factory=lambda: Price(1.0))
    exact: bool = True
    calls: int = 0

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Sample | Failure]:
        self.calls += 1
        steps = asked(op)
        if any("fail" in step for step in steps):
            yield Failure(0, ModelError("it cannot be scored"), Spend(prompt=5))
        else:
            yield Sample(0, json.dumps([1 - math.exp(-len(step)) for step in steps]), "done", Spend(prompt=10, calls=1))

    def prompt_bound(self, op: Expand) -> int:
        return 10

    async def close(self) -> None: ...


async def pick(root: Thought, how: str = "reward") -> Thought:
    nodes = await Expand(root, 4)
    scores = await Score(tuple(nodes), how)
    judged = [(score, node.id, node) for score, node in zip(scores, nodes, strict=True) if score is not None]
    return max(judged)[2]


def run_of(texts: list[str], scorer: Any, **budget: float) -> Run:
    models = {"think": Fake(texts, price=Price()), "reward": scorer} if scorer else {}
    return Run(models=models, keyer=keys, verifiers={"reward": reward(), "orm": reward("orm")}, budget=Budget(**budget))


TEXTS = ["so\n\n41", "so\n\nfail", "so\n\n42 it is", "so"]


async def test_a_run_is_billed_recorded_and_replayed() -> None:
    ledger, scorer = Ledger(), Scorer()
    answer = await run_of(TEXTS, scorer).solve(QUESTION, pick, ledger=ledger)
    assert answer.text == "so\n\n42 it is"
    assert scorer.calls == 3  # "so" is the beginning of the others
    assert any("it cannot be scored" in cut for cut in answer.cut)
    assert answer.spend.judging == 0
    assert bills(ledger.rows)["reward"].prompt == 10 + 5 + 10
    assert answer.by_role["reward"].calls == 3
    assert answer.spend.usd == pytest.approx(25e-6)
    again = await run_of(TEXTS, None).solve(QUESTION, pick, ledger=Ledger(list(ledger.rows)))
    assert (again.text, replace(again.spend, seconds=0)) == (answer.text, replace(answer.spend, seconds=0))


async def test_a_run_resumes_and_asks_only_for_what_is_missing() -> None:
    ledger, second = Ledger(), Scorer()
    await run_of(TEXTS, Scorer()).solve(QUESTION, pick, ledger=ledger)
    scored = [i for i, row in enumerate(ledger.rows) if row.kind == "sample" and row.body["by"] == "reward"]
    cut = Ledger(list(ledger.rows[: scored[0] + 1]))
    assert (await run_of(TEXTS, second).solve(QUESTION, pick, ledger=cut)).text == "so\n\n42 it is"
    assert second.calls == len(scored) - 1


async def test_a_ledger_is_not_read_for_another_way_to_split() -> None:
    ledger, second = Ledger(), Scorer()
    await run_of(TEXTS, Scorer()).solve(QUESTION, pick, ledger=ledger)
    first = next(i for i, row in enumerate(ledger.rows) if row.kind == "sample" and row.body["by"] == "reward")
    cut = Ledger(list(ledger.rows[: first + 1]))
    await run_of(TEXTS, second).solve(QUESTION, lambda root: pick(root, "orm"), ledger=cut)
    assert second.calls == 4


async def test_the_budget_caps_what_is_scored() -> None:
    scorer = Scorer()
    with pytest.raises(PonderaError):
        await run_of(TEXTS, scorer, calls=4).solve(QUESTION, pick)
    assert scorer.calls == 0


async def test_a_whole_run_against_a_server() -> None:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

    async def answers(request: Request) -> Response:
        if request.url.path != "/pooling":
            return JSONResponse({"detail": "Not Found"}, 404)
        text = (await request.json())["messages"][-1]["content"]
        steps = text.split("<extra_0>")[:-1]
        rows = [[0.2, 0.8] if "42" in step else [0.6, 0.4] for step in steps]
        return JSONResponse({"data": [{"index": 0, "data": rows}], "usage": {"prompt_tokens": 20}})

    def solve(model: Reward) -> Coroutine[Any, Any, Answer]:
        return run_of(TEXTS, model, usd=1.0).solve(QUESTION, pick)

    with running() as address:
        address.script = answers  # type: ignore[assignment]
        model = Reward("prm", base_url=address.url, price=Price(1.0))
        answer = await solve(model)
        assert answer.text == "so\n\n42 it is"
        assert answer.by_role["reward"].prompt == 20 * 4  # three asked, the first of them twice
        assert answer.spend.usd == pytest.approx(80e-6)
        assert model.findings["steps"] == "one score for each step, at '<extra_0>'"
        await model.close()
