"""A reward model on a server that answers as vLLM does, and in all the ways that one should not."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pondera.errors import BadInput, ContextOverflow, ModelError, ModelUnavailable, PonderaError, Unsupported
from pondera.models.reward import Reward
from pondera.models.reward_reply import marked, sigmoid, softmax
from pondera.ops import Expand
from pondera.ports import Failure, Sample
from pondera.thought import Price, Question, Spend, Thought, root_of
from tests.models.server import Address, raw, refuse, running

KEY = "sk-very-secret-key-123456"
ROOT = root_of(Question.of("What is 6 times 7?", system="Be brief."))
MARK = "<extra_0>"


@dataclass
class Scores:
    """A server with one reward model. `logits` are its steps' for a PRM (two classes each), the answer's for the others."""

    sort: str = "prm"  # "prm", "orm" (one label), "tokens" (a label for each token), "classes", "cross", "embed"
    logits: list[float] = field(default_factory=lambda: [2.0, -1.0, 0.5])
    serves: set[str] = field(default_factory=lambda: {"/pooling"})
    activates: bool = True  # takes use_activation=False
    chats: bool = True
    mark: str = MARK
    usage: Any = field(default_factory=lambda: {"prompt_tokens": 40, "total_tokens": 40})
    faults: list[Response | str] = field(default_factory=list)
    every: Response | None = None  # what is answered to all
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def __call__(self, request: Request) -> Response:
        path = request.url.path
        if path == "/v1/models":
            return JSONResponse({"data": [{"id": "little-prm"}]})
        self.paths.append(path)
        self.keys.append(request.headers.get("authorization", ""))
        if path not in self.serves:
            return JSONResponse({"detail": "Not Found"}, 404)
        body = await request.json()
        self.bodies.append(body)
        fault = self.faults.pop(0) if self.faults else self.every
        if fault == "stall":
            await asyncio.sleep(60)
        if isinstance(fault, Response):
            return fault
        if "messages" in body and not self.chats:
            return refuse(422, "Field required: input")
        return JSONResponse(self.told(path, body) | ({"usage": self.usage} if self.usage else {}))

    def told(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        plain = self.activates and body.get("use_activation") is False
        lone = self.logits[0] if plain or not self.activates else sigmoid(self.logits[0])
        match path.rsplit("/", 1)[-1]:
            case "classify":
                return {"data": [{"index": 0, "label": "GOOD", "probs": [lone], "num_classes": 1}]}
            case "score":
                return {"data": [{"index": 0, "object": "score", "score": lone}]}
            case "rerank":
                return {"results": [{"index": 0, "document": {"text": "x"}, "relevance_score": lone}]}
        rows: Any = [lone]
        if self.sort == "prm":
            steps = said(body).count(self.mark)
            rows = [[1 - sigmoid(x), sigmoid(x)] for x in self.logits[:steps]]
        if self.sort == "tokens":
            rows = [[0.1]] * (self.usage["prompt_tokens"] - 1) + [[lone]]
        if self.sort == "classes":
            rows = [-1.0, 0.0, 2.0]
        if self.sort == "embed":
            rows = [0.01] * 896
        return {"data": [{"index": 0, "object": "pooling", "data": rows}]}


def said(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"] if "messages" in body else body.get("input"))


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with running() as address:
        yield address


@pytest.fixture
def server(address: Address) -> Scores:
    scores = Scores()
    address.script = scores  # type: ignore[assignment]
    return scores


async def at_once(seconds: float) -> None:
    await asyncio.sleep(0)


def model_at(address: Address, **more: Any) -> Reward:
    return Reward("little-prm", base_url=address.url, api_key=KEY, **({"sleep": at_once} | more))


def path(*steps: str) -> Thought:
    node = ROOT
    for i, step in enumerate(steps):
        node = Thought(f"{node.id}.{i}", node, text=step, finish="step")
    return node


THREE = path("6 is 2 times 3.\n\n", "2 times 21 is 42.\n\n", "So 42.")


async def ask(model: Reward, node: Thought = THREE, n: int = 1) -> list[Sample | Failure]:
    return [e async for e in model.sample(Expand(node, n, by="reward", max_tokens=1), [1] * n)]


async def scores_of(model: Reward, node: Thought = THREE) -> list[float]:
    (sample,) = await ask(model, node)
    assert isinstance(sample, Sample), sample
    scores: list[float] = json.loads(sample.text)
    return scores


async def error_of(model: Reward, node: Thought = THREE) -> PonderaError:
    (failure,) = await ask(model, node)
    assert isinstance(failure, Failure), failure
    assert KEY not in f"{failure.error}{failure.error.__cause__!r}{model!r}{model.findings}"
    return failure.error


# What is asked, and what comes back


async def test_a_process_model_scores_each_step_at_the_token_that_is_found_out(address: Address, server: Scores) -> None:
    model = model_at(address)
    (first,), (second,) = await ask(model), await ask(model)
    assert json.loads(first.text) == pytest.approx([sigmoid(x) for x in server.logits])
    assert (first.finish, first.spend) == ("done", Spend(prompt=80, calls=1))  # without the token, then with it
    assert (second.text, second.spend) == (first.text, Spend(prompt=40, calls=1))
    body = server.bodies[-1]
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 6 times 7?"},
        {"role": "assistant", "content": f"6 is 2 times 3.{MARK}2 times 21 is 42.{MARK}So 42.{MARK}"},
    ]
    assert (body["model"], body["add_generation_prompt"]) == ("little-prm", False)
    assert server.paths == ["/pooling"] * 3
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert model.findings == {
        "endpoint": "/pooling with the server's chat template",
        "scores": "2 classes, of which good=-1 means right",
        "steps": "one score for each step, at '<extra_0>'",
    }


async def test_a_token_that_is_named_is_used_at_once(address: Address, server: Scores) -> None:
    server.mark = "<step>"
    assert len(await scores_of(model_at(address, step="<step>"))) == 3
    assert len(server.bodies) == 1


async def test_the_class_that_means_right_can_be_named(address: Address, server: Scores) -> None:
    assert await scores_of(model_at(address, good=0)) == pytest.approx([1 - sigmoid(x) for x in server.logits])
    assert "count from 0" in str(await error_of(model_at(address, good=2)))


async def test_logits_of_several_classes_are_made_probabilities(address: Address, server: Scores) -> None:
    server.sort = "classes"
    (score,) = await scores_of(model_at(address))
    assert score == pytest.approx(math.exp(2) / (math.exp(-1) + 1 + math.exp(2)))


@pytest.mark.parametrize("where", ["/pooling", "/classify", "/score", "/rerank", "/v1/score", "/v1/rerank", "/v1/classify"])
async def test_an_outcome_model_is_found_wherever_it_is(address: Address, server: Scores, where: str) -> None:
    server.sort, server.serves = "orm", {where}
    model = model_at(address)
    assert await scores_of(model) == pytest.approx([sigmoid(2.0)])
    asked = len(server.paths)
    await scores_of(model)
    assert len(server.paths) == asked + 1
    assert where.removeprefix("/v1") in model.findings["endpoint"]
    assert model.findings["steps"] == "one score for the whole answer"
    answer = "6 is 2 times 3.\n\n2 times 21 is 42.\n\nSo 42."
    told = {"/score": ("text_1", "text_2"), "/rerank": ("query", "documents")}.get(where.removeprefix("/v1"))
    if told:
        assert [server.bodies[-1][name] for name in told] == ["What is 6 times 7?", [answer] if "documents" in told else answer]
    else:
        assert said(server.bodies[-1]) == answer


async def test_a_kind_that_is_named_is_the_only_one_asked(address: Address, server: Scores) -> None:
    server.sort, server.serves = "orm", {"/pooling", "/classify", "/score"}
    await scores_of(model_at(address, kind="classify"))
    assert set(server.paths) == {"/classify"}
    server.serves = {"/pooling"}
    error = await error_of(model_at(address, kind="score"))
    assert isinstance(error, ModelUnavailable)
    assert "has no /score and no /rerank" in str(error)


async def test_logits_keep_their_order_where_single_precision_would_make_them_all_one(address: Address, server: Scores) -> None:
    server.sort, server.logits = "orm", [20.0]
    model = model_at(address)
    high = await scores_of(model)
    server.logits = [25.0]
    higher = await scores_of(model)
    assert high < higher < [1.0]
    assert [b.get("use_activation") for b in server.bodies] == [None, False, False]
    assert model.findings["scores"].startswith("logits")


@pytest.mark.parametrize(("value", "score", "finding"), [(0.3, 0.3, "probabilities"), (-3.0, sigmoid(-3.0), "logits")])
async def test_a_lone_number_is_what_it_looks_like_where_the_server_gives_one_only(
    address: Address, server: Scores, value: float, score: float, finding: str
) -> None:
    server.sort, server.activates, server.logits = "orm", False, [value]
    model = model_at(address)
    assert await scores_of(model) == pytest.approx([score])
    assert model.findings["scores"].startswith(finding)


async def test_a_number_beyond_one_shows_that_all_are_logits(address: Address, server: Scores) -> None:
    server.sort, server.activates, server.logits = "orm", False, [0.3]
    model = model_at(address)
    assert await scores_of(model) == [0.3]
    server.logits = [4.0]
    assert await scores_of(model) == [sigmoid(4.0)]
    server.logits = [0.3]
    assert await scores_of(model) == [sigmoid(0.3)]


async def test_a_server_that_refuses_to_leave_its_activation_out_gives_probabilities(address: Address, server: Scores) -> None:
    server.sort, server.activates = "orm", True
    server.faults = [JSONResponse(server.told("/classify", {}) | {"usage": server.usage}), refuse(400, "Unknown parameter use_activation")]
    server.serves = {"/classify"}
    model = model_at(address)
    assert await scores_of(model) == pytest.approx([sigmoid(2.0)])
    await scores_of(model)
    assert "use_activation" not in server.bodies[-1]


async def test_a_number_for_each_token_is_the_last_ones(address: Address, server: Scores) -> None:
    server.sort = "tokens"
    model = model_at(address)
    assert await scores_of(model) == pytest.approx([sigmoid(2.0)])
    assert await scores_of(model) == pytest.approx([sigmoid(2.0)])


async def test_without_messages_the_text_is_sent_and_that_is_said(address: Address, server: Scores) -> None:
    server.chats = False
    model = model_at(address)
    assert len(await scores_of(model)) == 3
    assert server.bodies[-1]["input"].startswith("What is 6 times 7?\n\n6 is 2 times 3.")
    assert "no chat template" in model.findings["endpoint"]


async def test_children_are_alike_and_one_pays(address: Address, server: Scores) -> None:
    model = model_at(address, step=MARK)
    ends = await ask(model, n=3)
    assert [e.spend for e in ends] == [Spend(prompt=40, calls=1), Spend(calls=1), Spend(calls=1)]
    assert len(server.bodies) == 1


async def test_first_uses_share_one_discovery(address: Address, server: Scores) -> None:
    server.sort, server.serves = "orm", {"/classify"}
    model = model_at(address)
    await asyncio.gather(*(scores_of(model) for _ in range(5)))
    assert server.paths.count("/pooling") == 1
    assert len(server.bodies) == 5 + 1


async def test_no_bill_is_above_its_bound(address: Address, server: Scores) -> None:
    server.usage = None
    model = model_at(address)
    for _ in range(2):
        bound = model.prompt_bound(Expand(THREE, by="reward", max_tokens=1))
        (end,) = await ask(model)
        assert 0 < end.spend.prompt <= bound
        assert end.spend.estimated


@pytest.mark.parametrize("usage", [{"prompt_tokens": 10**400}, {"prompt_tokens": "9"}, {"prompt_tokens": -1}, [], {"total_tokens": True}])
async def test_usage_that_makes_no_sense_is_estimated(address: Address, server: Scores, usage: Any) -> None:
    server.usage = usage
    (end,) = await ask(model_at(address, step=MARK))
    assert 0 < end.spend.prompt < 100
    assert end.spend.estimated


async def test_usage_that_has_a_total_only(address: Address, server: Scores) -> None:
    server.usage = {"total_tokens": 33}
    (end,) = await ask(model_at(address, step=MARK))
    assert end.spend == Spend(prompt=33, calls=1)


async def test_a_mark_of_the_answers_own_is_no_step(address: Address, server: Scores) -> None:
    node = path(f"6 is{MARK}2 times 3.{MARK}\n\n", "So 42.")
    assert len(await scores_of(model_at(address), node)) == 2
    assert marked(["a\n\nb", "c"], "\n\n") == "a b\n\nc\n\n"


# What servers should not do


BAD = [
    "null",
    '"0.9"',
    "true",
    "{}",
    "[null]",
    "[[0.1, NaN]]",
    "[[Infinity]]",
    "[[]]",
    '[["x", 1]]',
    "[[0.5], 1]",
    '"AAAA"',
    "1e999",
    "9" * 400,
]


@pytest.mark.parametrize("value", BAD)
async def test_what_is_no_number_is_no_score(address: Address, server: Scores, value: str) -> None:
    server.every = raw(f'{{"data": [{{"data": {value}}}], "usage": {{"prompt_tokens": 7}}}}', "application/json")
    (failure,) = await ask(model_at(address))
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, ModelError)
    assert failure.spend.prompt == 7


@pytest.mark.parametrize("text", ["", "null", "[]", "Hello", '{"data": []}', '{"data": [{}]}', '{"data": [{"data": [1]}, {"data": [1]}]}'])
async def test_another_shape_is_no_score(address: Address, server: Scores, text: str) -> None:
    server.every = raw(text, "application/json")
    assert isinstance(await error_of(model_at(address)), ModelError)


@pytest.mark.parametrize("rows", [[[0.1, 0.9]], [[0.1, 0.9]] * 2, [[0.1, 0.9]] * 4, []])
async def test_a_wrong_number_of_scores(address: Address, server: Scores, rows: list[list[float]]) -> None:
    server.every = JSONResponse({"data": [{"data": rows}], "usage": server.usage})
    error = await error_of(model_at(address))
    assert f"gave {len(rows)} and {len(rows)} scores for 3 steps" in str(error)
    assert "step_tag_id" in str(error)


async def test_an_embedding_is_no_score(address: Address, server: Scores) -> None:
    server.sort = "embed"
    error = await error_of(model_at(address))
    assert isinstance(error, Unsupported)
    assert "--convert classify" in str(error)


async def test_a_server_that_fails_is_asked_again_and_then_named(address: Address, server: Scores) -> None:
    server.faults = [refuse(500, "boom"), refuse(503, "busy")]
    assert len(await scores_of(model_at(address))) == 3
    server.every = refuse(500, f"boom {KEY}")
    error = await error_of(model_at(address, retries=1))
    assert isinstance(error, ModelUnavailable)
    assert "HTTP 500" in str(error)
    server.every = None
    assert len(await scores_of(model_at(address, retries=0))) == 3


async def test_a_server_that_is_silent_or_away(address: Address, server: Scores) -> None:
    server.faults = ["stall"]
    assert "sent nothing for 0.2 seconds" in str(await error_of(model_at(address, retries=0, timeout=0.2)))
    away = Reward("prm", base_url="http://127.0.0.1:9", sleep=at_once)
    assert "cannot be reached" in str(await error_of(away))


async def test_no_endpoint_at_all_names_the_mend(address: Address, server: Scores) -> None:
    server.serves = set()
    error = await error_of(model_at(address))
    assert isinstance(error, ModelUnavailable)
    assert str(error) == (
        f"The server at {address.url.removeprefix('http://').removesuffix('/v1')} has no /pooling and no /classify and no /score and no "
        "/rerank: serve little-prm as a reward model (vLLM: --runner pooling), or check base_url."
    )


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_endpoint_that_is_not_there_is_passed_over(address: Address, server: Scores, status: int) -> None:
    server.sort, server.serves = "orm", {"/pooling", "/classify"}
    server.faults = [refuse(status, "The model does not support Pooling API")]
    assert "endpoint" not in (model := model_at(address)).findings
    assert len(await scores_of(model)) == 1
    assert "/classify" in model.findings["endpoint"]


async def test_a_name_that_is_unknown_is_said(address: Address, server: Scores) -> None:
    server.every = refuse(404, "The model `big` does not exist.")
    assert "did you mean 'little-prm'" in str(await error_of(Reward("little-prn", base_url=address.url)))
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "sort", "part"),
    [
        (refuse(400, "This model's maximum context length is 1024 tokens."), ContextOverflow, "shorten"),
        (refuse(401, f"Bad key {KEY}"), ModelUnavailable, "refuses the key"),
        (refuse(400, "task is not supported"), ModelError, "task is not supported"),
    ],
)
async def test_refusals(address: Address, server: Scores, fault: Response, sort: type[PonderaError], part: str) -> None:
    server.every = fault
    error = await error_of(model_at(address))
    assert isinstance(error, sort)
    assert part in str(error)


async def test_an_overflow_later_is_said_too(address: Address, server: Scores) -> None:
    model = model_at(address)
    await scores_of(model)
    server.every = refuse(400, "This model's maximum context length is 1024 tokens.")
    assert isinstance(await error_of(model), ContextOverflow)


async def test_a_branch_without_text_is_not_asked_about(address: Address, server: Scores) -> None:
    assert "nothing to score" in str(await error_of(model_at(address), ROOT))
    assert "nothing to score" in str(await error_of(model_at(address), path(" \n")))
    assert not server.bodies


async def test_a_call_that_is_cancelled_leaves_the_discovery_open(address: Address, server: Scores) -> None:
    server.faults = ["stall"]
    model = model_at(address)
    task = asyncio.create_task(ask(model))
    while not server.bodies:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await scores_of(model)) == 3
    await model.close()


@pytest.mark.parametrize(
    "given",
    [
        {"model": " "},
        {"base_url": "ftp://x"},
        {"api_key": "a\nb"},
        {"kind": "rewards"},
        {"retries": -1},
        {"step": ""},
        {"concurrency": 0},
        {"timeout": 0.0},
    ],
)
def test_what_cannot_be_used_is_said(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Reward(given.pop("model", "prm"), **({"base_url": "http://127.0.0.1:9"} | given))


def test_without_a_server_there_is_no_reward_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(BadInput, match="NAME@URL"):
        Reward("prm")


def test_the_key_is_not_shown() -> None:
    model = Reward("prm", base_url="http://127.0.0.1:9", api_key=KEY, price=Price(0.1))
    assert repr(model) == "Reward('prm', server='127.0.0.1:9')"
    assert model.price == Price(0.1)


def test_numbers() -> None:
    assert sigmoid(0) == 0.5
    assert sigmoid(-1e6) == 0.0
    assert sigmoid(1e6) == 1.0
    assert softmax([1e6, -1e6], 0) == 1.0
    assert softmax([0.25, 0.75], -1) == 0.75
