"""The server in front of which our strategies and others are compared: what it takes, what it answers, what it bills."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from pondera.errors import ContextOverflow, ModelError
from pondera.models.fake import Fake
from pondera.thought import dialogue

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import peers_server

ASKED: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}
CHAT = "/v1/chat/completions"


def client(model: Fake) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=peers_server.app(model)), base_url="http://test")


def says(*texts: str) -> Fake:
    return Fake(lambda op, index, seed: texts[index % len(texts)])


async def test_n_choices_and_a_bill_that_adds_up() -> None:
    fake = says("one", "one two", "one two three")
    async with client(fake) as http:
        for _ in range(2):
            reply = (await http.post(CHAT, json=ASKED | {"n": 3, "temperature": 0.5, "seed": 7})).json()
        tally = (await http.get("/tally")).json()
    assert [c["message"]["content"] for c in reply["choices"]] == ["one", "one two", "one two three"]
    assert [c["index"] for c in reply["choices"]] == [0, 1, 2]
    assert {c["finish_reason"] for c in reply["choices"]} == {"stop"}
    assert reply["usage"]["completion_tokens"] == 6
    assert reply["usage"]["prompt_tokens"] == 5
    assert reply["usage"]["total_tokens"] == 11
    assert tally == {"requests": 2, "choices": 6, "prompt": 10, "cached": 0, "computed": 10, "completion": 12, "open": 0}
    assert fake.asked[0].n == 3
    assert fake.asked[0].temperature == 0.5


@pytest.mark.parametrize("limit", [{"max_completion_tokens": 2}, {"max_tokens": 2}, {"max_tokens": 9, "max_completion_tokens": 2}])
async def test_a_limit_by_either_name(limit: dict[str, int]) -> None:
    async with client(says("one two three")) as http:
        reply = (await http.post(CHAT, json=ASKED | limit)).json()
    assert reply["choices"][0]["message"]["content"] == "one two"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("more", [{}, {"continue_final_message": True, "add_generation_prompt": False, "extra_body": {}}])
async def test_a_trailing_assistant_message_is_continued(more: dict[str, Any]) -> None:
    fake = says(" and on")
    turns = [*ASKED["messages"], {"role": "assistant", "content": "Step 1\n\n"}]
    async with client(fake) as http:
        reply = (await http.post(CHAT, json=ASKED | {"messages": turns} | more)).json()
    assert fake.asked[0].force == "Step 1\n\n"
    assert [m.role for m in dialogue(fake.asked[0].node)[0]] == ["user"]
    assert reply["choices"][0]["message"]["content"] == " and on"


async def test_a_final_message_is_a_turn_of_its_own_where_that_is_asked() -> None:
    fake = says("more")
    turns = [*ASKED["messages"], {"role": "assistant", "content": "5"}]
    async with client(fake) as http:
        await http.post(CHAT, json=ASKED | {"messages": turns, "continue_final_message": False})
    assert [m.role for m in dialogue(fake.asked[0].node)[0]] == ["user", "assistant"]


@pytest.mark.parametrize(("keep", "shown"), [(False, "one two"), (True, "one two\n\n")])
async def test_a_stop_string_is_stripped_unless_it_is_wanted(keep: bool, shown: str) -> None:
    async with client(says("one two\n\nthree")) as http:
        reply = (await http.post(CHAT, json=ASKED | {"stop": "\n\n", "include_stop_str_in_output": keep})).json()
    assert reply["choices"][0]["message"]["content"] == shown
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["choices"][0]["stop_reason"] == "\n\n"


async def streamed(http: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in (await http.post(CHAT, json=body)).text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("logprobs", [False, True])
async def test_a_stream_says_what_a_whole_reply_says(logprobs: bool) -> None:
    body = ASKED | {"n": 2, "stop": ["three four"], "logprobs": logprobs, "seed": 3}
    async with client(says("one two three four five", "one three two")) as http:
        reply = (await http.post(CHAT, json=body)).json()
        events = await streamed(http, body | {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}})
    for choice in reply["choices"]:
        mine = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == choice["index"]]
        assert "".join(c["delta"]["content"] for c in mine) == choice["message"]["content"]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == ["stop"]
        if logprobs:
            told = [t for c in mine for t in c["logprobs"]["content"]]
            assert told == choice["logprobs"]["content"]
            assert len(told) == {0: 4, 1: 3}[choice["index"]]
    assert reply["choices"][0]["message"]["content"] == "one two "
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == reply["usage"]
    assert all("usage" in e for e in events)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "object"),
        (ASKED | {"n": 0}, "n must"),
        (ASKED | {"n": True}, "n must"),
        (ASKED | {"max_completion_tokens": "many"}, "max_completion_tokens"),
        (ASKED | {"temperature": 3}, "temperature"),
        (ASKED | {"top_p": 0}, "top_p"),
        (ASKED | {"stop": [""]}, "stop"),
        (ASKED | {"stream": "yes"}, "stream"),
        (ASKED | {"stream_options": 1}, "stream_options"),
        (ASKED | {"tools": [{}]}, "tools"),
        (ASKED | {"response_format": {"type": "json_schema"}}, "response_format"),
        (ASKED | {"messages": []}, "messages"),
        (ASKED | {"messages": [{"role": "robot", "content": "x"}]}, "role"),
        (ASKED | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text"),
        (ASKED | {"messages": [{"role": "user", "content": "  "}]}, "empty"),
        (ASKED | {"messages": [{"role": "assistant", "content": "x"}]}, "empty"),
        ('{"model": "fake", "messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
    ],
)
async def test_a_bad_request_is_refused_in_words(body: str | dict[str, Any], names: str) -> None:
    fake = says("x")
    async with client(fake) as http:
        reply = await http.post(CHAT, content=body if isinstance(body, str) else json.dumps(body))
        tally = (await http.get("/tally")).json()
    assert reply.status_code == 400
    assert names in reply.json()["error"]["message"]
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert not fake.asked
    assert not any(tally.values())


async def test_an_unknown_model_and_the_one_that_is_known() -> None:
    async with client(says("x")) as http:
        reply = await http.post(CHAT, json=ASKED | {"model": "other"})
        assert (await http.get("/v1/models")).json()["data"][0]["id"] == "fake"
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status"), [(ContextOverflow("too long"), 400), (ModelError("down"), 500)])
async def test_a_model_that_fails_is_an_error_and_never_text(error: ModelError, status: int, stream: bool) -> None:
    fake = Fake([error])
    async with client(fake) as http:
        reply = await http.post(CHAT, json=ASKED | {"stream": stream})
        tally = (await http.get("/tally")).json()
    assert reply.status_code == status
    assert reply.json()["error"]["message"] == str(error)
    assert tally["open"] == 0
    assert tally["completion"] == 0
    assert fake.open == 0


async def test_a_choice_that_fails_in_the_middle_of_a_stream_ends_it_with_an_error_and_is_billed() -> None:
    fake = Fake(lambda op, index, seed: "one two" if index == 0 else ModelError("down"))
    async with client(fake) as http:
        text = (await http.post(CHAT, json=ASKED | {"n": 2, "stream": True})).text
        tally = (await http.get("/tally")).json()
    assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["message"] == "down"
    assert "[DONE]" not in text
    assert tally["completion"] == 2
    assert tally["open"] == 0


async def test_our_own_client_counts_what_the_server_bills() -> None:
    """A run of ours through the server, and the two bills agree."""
    from pondera.models.openai import OpenAI
    from pondera.ops import Expand
    from pondera.ports import Sample
    from pondera.thought import Question, root_of

    transport = httpx.ASGITransport(app=peers_server.app(Fake()))
    model = OpenAI("fake", base_url="http://test/v1")
    model._wire.here().client._transport = transport
    spent = [
        one.spend async for one in model.sample(Expand(root_of(Question.of("What is 2 + 3?")), 3), (1, 2, 3)) if isinstance(one, Sample)
    ]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        tally = (await http.get("/tally")).json()
    await model.close()
    assert len(spent) == 3
    assert sum(s.tokens for s in spent) == tally["completion"]
    assert sum(s.prompt for s in spent) == tally["prompt"]
    assert not any(s.estimated for s in spent)
