from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pondera.errors import BadInput, ContextOverflow, ModelError, ModelUnavailable, Unsupported
from pondera.models.openai import OpenAI
from pondera.models.openai_probe import open_prompt
from pondera.models.openai_reply import Reply, split
from pondera.models.openai_usage import usage_of, whole
from pondera.models.openai_wire import pause, wait
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.thought import Question, Thought, root_of
from tests.models.server import Address, Script, raw, refuse, running

ROOT = root_of(Question.of("What is 6 times 7?"))
KEY = "sk-very-secret-key-123456"


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with running() as address:
        yield address


@pytest.fixture
def script(address: Address) -> Script:
    address.script = Script()
    return address.script


class Nap:
    """Sleeps that take no time and are written down."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.naps.append(seconds)
        await asyncio.sleep(0)


async def ask(model: OpenAI, op: Expand, seeds: list[int] | None = None) -> tuple[list[Any], list[Piece]]:
    """The children's ends in order, and the pieces."""
    events = [e async for e in model.sample(op, seeds or list(range(1, op.n + 1)))]
    await model.close()
    return sorted((e for e in events if not isinstance(e, Piece)), key=lambda e: e.index), [e for e in events if isinstance(e, Piece)]


def model_at(address: Address, **more: Any) -> OpenAI:
    return OpenAI("little-model", base_url=address.url, api_key=KEY, **({"sleep": Nap()} | more))


def partial(text: str) -> Thought:
    return Thought("1", ROOT, text=text, finish="step")


# What is asked, and what comes back


async def test_a_sample_its_pieces_and_its_bill(address: Address, script: Script) -> None:
    script.details = {"prompt_tokens_details": {"cached_tokens": 30}}
    script.logprobs = True
    (sample,), pieces = await ask(model_at(address), Expand(ROOT, say="Be brief.", temperature=0.5, top_p=0.9, max_tokens=77), [42])
    assert (sample.text, sample.finish) == ("Hello world", "done")
    assert "".join(p.text for p in pieces) == sample.text
    assert sum(p.tokens for p in pieces) == sample.spend.answer == 3
    assert (sample.spend.prompt, sample.spend.cached, sample.spend.calls, sample.spend.estimated) == (50, 30, 1, False)
    assert sample.logprobs == (-0.25,) * 3
    assert sample.ids == (7,) * 3
    (body,) = script.bodies
    assert body["messages"] == [{"role": "user", "content": "What is 6 times 7?\n\nBe brief."}]
    assert (body["model"], body["max_tokens"], body["seed"], body["temperature"], body["top_p"]) == ("little-model", 77, 42, 0.5, 0.9)
    assert body["stream"]
    assert body["stream_options"]["include_usage"]
    assert "n" not in body


async def test_one_call_for_all_children_shares_its_usage_exactly(address: Address, script: Script) -> None:
    script.tokens = lambda body, child: ["a"] * (child + 1)
    script.details = {"completion_tokens": 13, "prompt_tokens_details": {"cached_tokens": 8}}
    samples, _ = await ask(model_at(address), Expand(ROOT, n=3))
    assert [s.text for s in samples] == ["a", "aa", "aaa"]
    assert sum(s.spend.answer for s in samples) == 13
    assert [s.spend.answer for s in samples] == [2, 4, 7]
    assert [s.spend.prompt for s in samples] == [50, 0, 0]
    assert [s.spend.cached for s in samples] == [8, 0, 0]
    assert [b.get("n") for b in script.bodies] == [3]


async def test_usage_told_for_each_child_is_kept_apart(address: Address, script: Script) -> None:
    script.usage = "each"
    script.tokens = lambda body, child: ["a"] * (child + 1)
    samples, _ = await ask(model_at(address), Expand(ROOT, n=3))
    assert [(s.spend.prompt, s.spend.answer) for s in samples] == [(50, 1), (50, 2), (50, 3)]


@pytest.mark.parametrize(("total", "weights"), [(10, [1, 1, 1]), (0, [3, 2]), (7, [0, 0]), (5, [0, 9]), (1, [1, 1])])
def test_split_is_exact(total: int, weights: list[int]) -> None:
    assert sum(split(total, weights)) == total


async def test_usage_that_is_not_told_is_estimated_and_marked(address: Address, script: Script) -> None:
    script.usage = "none"
    script.tokens = lambda body, child: ["four times four.", "x"]
    model = model_at(address)
    (sample,), _ = await ask(model, Expand(ROOT))
    assert sample.spend.estimated
    assert sample.spend.answer == 5  # 17 characters
    assert sample.spend.prompt > 0
    assert "usage" in model.findings


@pytest.mark.parametrize(
    "told", [None, 3, {}, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": "1", "completion_tokens": 2}]
)
def test_usage_that_makes_no_sense_is_none(told: object) -> None:
    assert usage_of(told) is None


def test_reasoning_counted_beside_the_completion_is_added() -> None:
    told = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 17, "completion_tokens_details": {"reasoning_tokens": 10}}
    usage = usage_of(told)
    assert usage is not None
    assert (usage.completion, usage.reasoning) == (12, 10)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_told_apart(address: Address, script: Script, name: str) -> None:
    script.thoughts, script.thought_field = ["hm", " hm"], name
    script.details = {"completion_tokens_details": {"reasoning_tokens": 2}}
    (sample,), pieces = await ask(model_at(address), Expand(ROOT))
    assert (sample.thinking, sample.text) == ("hm hm", "Hello world")
    assert (sample.spend.thinking, sample.spend.answer) == (2, 3)
    assert "".join(p.text for p in pieces if p.thinking) == "hm hm"


@pytest.mark.parametrize("width", [1, 2, 3, 7, 50])
async def test_a_leading_block_of_thinking_is_split_off(address: Address, script: Script, width: int) -> None:
    reply = "\n<think>\na < b </thin </think>\n\nIt is <think> 42"
    script.tokens = lambda body, child: [reply[i : i + width] for i in range(0, len(reply), width)]
    (sample,), pieces = await ask(model_at(address), Expand(ROOT))
    assert (sample.thinking, sample.text) == ("\na < b </thin ", "It is <think> 42")
    assert "".join(p.text for p in pieces if not p.thinking) == sample.text
    assert (sample.spend.thinking + sample.spend.answer) == -(-len(reply) // width)


@pytest.mark.parametrize("reply", [["<th"], ["<"], [" "], [""], ["<thx>"], ["\u2028 \x0b", "y"], ["\ud83d", "\ude00"]])
async def test_what_is_no_tag_is_text(address: Address, script: Script, reply: list[str]) -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": t}, "finish_reason": None}]} for t in reply]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    pure = all(ord(c) < 0xD800 or ord(c) > 0xDFFF for t in reply for c in t)
    script.faults = [raw("".join(f"data: {json.dumps(e, ensure_ascii=not pure)}\n\n" for e in events) + "data: [DONE]\n")]
    (sample,), _ = await ask(model_at(address), Expand(ROOT))
    assert sample.text == ("".join(reply) if pure else "😀")
    assert sample.finish == "done"


def test_lone_halves_of_characters_are_replaced() -> None:
    assert whole("a\ud83d b") == "a\ufffd b"


async def test_a_server_that_does_not_stream_is_understood(address: Address, script: Script) -> None:
    choices = [{"index": i, "message": {"content": f"No {i}", "reasoning": "r"}, "finish_reason": "stop"} for i in range(2)]
    told = {"object": "chat.completion", "choices": choices, "usage": {"prompt_tokens": 4, "completion_tokens": 6}}
    script.faults = [raw(json.dumps(told), "application/json")]
    samples, _ = await ask(model_at(address), Expand(ROOT, n=2))
    assert [(s.text, s.thinking, s.spend.tokens) for s in samples] == [("No 0", "r", 3), ("No 1", "r", 3)]


async def test_tools_and_format_are_sent_and_a_tool_call_is_a_failure(address: Address, script: Script) -> None:
    question = Question(ROOT.about.messages, tools=({"type": "function"},), format={"type": "json_object"})
    call = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}]}
    script.faults = [raw(f"data: {json.dumps(call)}\n\ndata: [DONE]\n\n")]
    (failure,), _ = await ask(model_at(address), Expand(root_of(question)))
    assert isinstance(failure, Failure)
    assert "tools are not run here yet" in str(failure.error)
    assert script.bodies[0]["tools"]
    assert script.bodies[0]["response_format"] == {"type": "json_object"}


async def test_a_content_filter_is_a_failure_with_its_bill(address: Address, script: Script) -> None:
    script.finish = "content_filter"
    (failure,), _ = await ask(model_at(address), Expand(ROOT))
    assert isinstance(failure, Failure)
    assert failure.spend.tokens == 3
    assert "content_filter" in str(failure.error)


# How replies end


async def test_ends_by_length_and_by_the_wanted_number(address: Address, script: Script) -> None:
    script.tokens = lambda body, child: ["a"] * 9
    for op, finish in ((Expand(ROOT, max_tokens=4), "length"), (Expand(ROOT, until=4), "tokens"), (Expand(ROOT, until=12), "done")):
        (sample,), _ = await ask(model_at(address), op)
        assert (sample.finish, len(sample.text)) == (finish, min(9, 4 if finish != "done" else 9))


@pytest.mark.parametrize("tokens", [["\n\n", "One.", "\n", "\nTwo."], ["\n\nOne.\n\nTwo."], ["\n", "\nOne", ".\n\n", "Two"]])
async def test_a_step_ends_with_its_boundary(address: Address, script: Script, tokens: list[str]) -> None:
    script.tokens = lambda body, child: tokens + ["more"] * 5
    samples, _ = await ask(model_at(address), Expand(ROOT, n=2, until="step"))
    assert [(s.text, s.finish) for s in samples] == [("\n\nOne.\n\n", "step")] * 2
    assert all("stop" not in b for b in script.bodies)
    assert sorted(b["seed"] for b in script.bodies) == [1, 2]


async def test_the_last_step_is_done(address: Address, script: Script) -> None:
    (sample,), _ = await ask(model_at(address), Expand(ROOT, until="step"))
    assert (sample.text, sample.finish) == ("Hello world", "done")


async def test_stop_strings_are_kept_where_the_server_does_not_say(address: Address, script: Script) -> None:
    script.tokens = lambda body, child: ["x = 1", "`", "``", " and more"]
    model = model_at(address)
    samples, pieces = await ask(model, Expand(ROOT, n=2, stop=("```", "zzz")))
    assert [(s.text, s.finish) for s in samples] == [("x = 1```", "done")] * 2
    assert "".join(p.text for p in pieces if p.index == 0) == "x = 1```"


async def test_a_server_that_tells_its_stop_is_given_stop_strings(address: Address, script: Script) -> None:
    script.tells_stop = True
    script.tokens = lambda body, child: ["x = 1", "\n```", " and more"] if child == 0 else ["plain"]
    model = model_at(address)
    await ask(model, Expand(ROOT))
    samples, _ = await ask(model, Expand(ROOT, n=2, stop=("```",)))
    assert [(s.text, s.finish) for s in samples] == [("x = 1\n```", "done"), ("plain", "done")]
    assert script.bodies[-1]["stop"] == ["```"]
    assert script.bodies[-1]["n"] == 2


async def test_a_server_that_goes_on_beyond_max_tokens_is_cut(address: Address, script: Script) -> None:
    script.obeys_limit, script.forever = False, True
    script.tokens = lambda body, child: ["a"] * 3
    model = model_at(address)
    (sample,), _ = await ask(model, Expand(ROOT, max_tokens=5))
    assert (sample.text, sample.finish) == ("aaa on on", "length")
    assert sample.spend.estimated
    assert await asyncio.to_thread(script.gone.wait, 10)
    assert "max_tokens" in model.findings


async def test_a_count_above_max_tokens_is_reported_as_it_is(address: Address, script: Script) -> None:
    script.details = {"completion_tokens": 99}
    model = model_at(address)
    (sample,), _ = await ask(model, Expand(ROOT, max_tokens=5))
    assert sample.spend.answer == 99
    assert "max_tokens" in model.findings


# Servers that refuse and ignore


@pytest.mark.parametrize("name", ["seed", "logprobs", "stream_options", "top_p", "temperature", "continuous_usage_stats"])
async def test_a_refused_parameter_is_dropped_and_remembered(address: Address, script: Script, name: str) -> None:
    script.refuses = {name}
    model = model_at(address)
    for _ in range(2):
        (sample,), _ = await ask(model, Expand(ROOT, top_p=0.9))
        assert sample.text == "Hello world"
        assert sample.spend.estimated == (name == "stream_options")
    assert name in script.bodies[0] or name in script.bodies[0]["stream_options"]
    assert name not in script.bodies[-1]
    assert len(script.bodies) == (4 if name == "stream_options" else 3)
    assert name in model.findings


async def test_several_refused_parameters_go_one_by_one_even_from_extra(address: Address, script: Script) -> None:
    script.refuses = {"seed", "logprobs", "chat_template_kwargs", "thinking_token_budget", "thinking_budget_tokens", "reasoning_effort"}
    model = model_at(address, extra={"seed": 5, "min_p": 0.1})
    (sample,), _ = await ask(model, Expand(ROOT, thinking=100))
    assert sample.text == "Hello world"
    assert not script.refuses & set(script.bodies[-1])
    assert script.bodies[-1]["min_p"] == 0.1


async def test_max_completion_tokens_where_it_is_wanted(address: Address, script: Script) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    script.faults = [refuse(400, said, param="max_tokens")]
    model = model_at(address)
    for _ in range(2):
        await ask(model, Expand(ROOT, max_tokens=9))
    assert [("max_tokens" in b, b.get("max_completion_tokens")) for b in script.bodies] == [(True, None), (False, 9), (False, 9)]


async def test_a_refusal_of_what_was_not_optional_is_an_error(address: Address, script: Script) -> None:
    script.faults = [refuse(400, f"messages: bad role, key {KEY}")]
    (failure,), _ = await ask(model_at(address), Expand(ROOT))
    assert type(failure.error) is ModelError
    assert "bad role" in str(failure.error)
    assert KEY not in str(failure.error)
    assert len(script.bodies) == 1


async def test_n_ignored_is_found_out_by_counting(address: Address, script: Script) -> None:
    script.ignores_n = True
    script.tokens = lambda body, child: ["seed", str(body["seed"])]
    model = model_at(address)
    samples, _ = await ask(model, Expand(ROOT, n=3), [11, 12, 13])
    assert [s.text for s in samples] == ["seed11", "seed12", "seed13"]
    assert [s.spend.calls for s in samples] == [1, 1, 1]
    assert [b.get("n") for b in script.bodies] == [3, None, None]
    await ask(model, Expand(ROOT, n=2))
    assert [b.get("n") for b in script.bodies[3:]] == [None, None]
    assert "ignored" in model.findings["n"]


@pytest.mark.parametrize("said", ["Unknown parameter: 'n'.", "Only one completion choice is allowed", "n must be 1"])
async def test_n_refused_is_fanned_out(address: Address, script: Script, said: str) -> None:
    script.faults = [refuse(400, said)]
    model = model_at(address)
    samples, _ = await ask(model, Expand(ROOT, n=3))
    assert len(samples) == 3
    assert sorted(b["seed"] for b in script.bodies[1:]) == [1, 2, 3]
    assert "refused" in model.findings["n"]


async def test_concurrency_is_held(address: Address, script: Script) -> None:
    script.refuses = {"n"}
    samples, _ = await ask(model_at(address, concurrency=3), Expand(ROOT, n=12))
    assert len(samples) == 12
    assert 1 <= script.busiest <= 3


async def test_seeds_without_effect_are_noted(address: Address, script: Script) -> None:
    script.refuses = {"n"}
    script.tokens = lambda body, child: ["always the same long text, always"]
    model = model_at(address)
    await ask(model, Expand(ROOT, n=2, temperature=0.0))
    assert "seed" not in model.findings
    await ask(model, Expand(ROOT, n=2, temperature=0.9))
    assert "suspicious" in model.findings["seed"]


# Continuing a partial answer


@pytest.mark.parametrize("way", ["continue_final_message", "prefix", "trailing", "template"])
@pytest.mark.parametrize("echoes", [False, True])
async def test_a_partial_answer_is_continued_in_the_way_that_works(address: Address, script: Script, way: str, echoes: bool) -> None:
    script.continues, script.echoes = {way}, echoes
    script.tokens = lambda body, child: [" seven", " eight"]
    model = model_at(address)
    op = Expand(partial("Five,\n\n"), n=2, force="six,", max_tokens=300)
    first = model.prompt_bound(op)
    samples, pieces = await ask(model, op)
    assert [s.text for s in samples] == [" seven eight"] * 2
    assert "".join(p.text for p in pieces if p.index == 1) == " seven eight"
    probes = len(script.bodies) - len(script.asked)
    assert samples[0].spend.prompt == 50 * (probes + 1)
    assert samples[0].spend.tokens > samples[1].spend.tokens == 2
    assert [s.spend.calls for s in samples] == [1, 1]
    assert all(b["max_tokens"] <= 4 for b in script.bodies[:probes])
    (body,) = script.asked
    if way == "template":
        assert body["prompt"] == "<user>What is 6 times 7?<assistant>Five,\n\nsix,"
    else:
        assert body["messages"][-1]["content"] == "Five,\n\nsix,"
    assert model.prompt_bound(op) < first
    samples, _ = await ask(model, op)
    assert samples[0].spend.tokens == 2
    assert len(script.bodies) == probes + 2
    assert "continuation" in model.findings


async def test_a_continuation_that_comes_as_reasoning_is_text(address: Address, script: Script) -> None:
    script.continues, script.swaps = {"continue_final_message"}, True
    (sample,), _ = await ask(model_at(address), Expand(ROOT, force="Well,"))
    assert (sample.text, sample.thinking) == ("Hello world", "")


async def test_ways_that_are_refused_are_passed_over(address: Address, script: Script) -> None:
    script.continues, script.refuses = {"trailing"}, {"continue_final_message"}
    (sample,), _ = await ask(model_at(address), Expand(ROOT, force="Well,"))
    assert sample.text == "Hello world"


async def test_a_server_that_cannot_continue_is_one_clear_error_and_is_remembered(address: Address, script: Script) -> None:
    model = model_at(address)
    for _ in range(2):
        with pytest.raises(Unsupported, match="cot, program, vote and best_of"):
            await ask(model, Expand(partial("Five,\n\n"), n=2))
    assert len(script.bodies) == 3
    assert not script.asked
    (sample,), _ = await ask(model, Expand(ROOT))
    assert sample.spend.tokens == 3 + 3 * 4  # the probes are billed to the next child
    assert sample.text == "Hello world"


async def test_a_probe_never_lifts_a_bill_above_its_cap(address: Address, script: Script) -> None:
    script.continues = {"continue_final_message"}
    script.tokens = lambda body, child: ["a"] * 9
    model = model_at(address)
    bills = [(await ask(model, Expand(ROOT, force="Well,", max_tokens=cap)))[0][0].spend.tokens for cap in (1, 2, 4)]
    assert bills == [1, 2, 4]
    assert [b["max_tokens"] for b in script.asked] == [1, 1, 2]  # the probe's three tokens: none, one, two of them paid


async def test_first_uses_share_one_probe(address: Address, script: Script) -> None:
    script.continues = {"continue_final_message"}
    model = model_at(address)

    async def once() -> int:
        return sum(e.spend.tokens for e in [e async for e in model.sample(Expand(ROOT, force="Well,"), [1])] if isinstance(e, Sample))

    assert sum(await asyncio.gather(*(once() for _ in range(5)))) == 5 * 3 + 3
    await model.close()
    assert len(script.bodies) - len(script.asked) == 1


async def test_a_probe_that_gets_no_answer_proves_nothing(address: Address, script: Script) -> None:
    script.continues = {"continue_final_message"}
    script.faults = [refuse(503, "loading")]
    model = model_at(address, retries=0)
    with pytest.raises(ModelUnavailable):
        await ask(model, Expand(ROOT, force="Well,"))
    (sample,), _ = await ask(model, Expand(ROOT, force="Well,"))
    assert sample.text == "Hello world"


async def test_a_name_that_is_unknown_is_said_by_the_probe_too(address: Address, script: Script) -> None:
    script.faults = [refuse(404, "no such model")]
    with pytest.raises(ModelUnavailable, match="did you mean 'little-model'"):
        await ask(model_at(address), Expand(ROOT, force="Well,"))


@pytest.mark.parametrize(
    ("prompt", "begun", "whole_prompt"),
    [
        ("u a:", "x", "u a:x"),
        ("a:<think>\n", "x", "a:<think>\n\n</think>\n\nx"),
        ("a:<think>\n", "<think>\nt</think>x", "a:<think>\nt</think>x"),
    ],
)
def test_templates_that_open_a_thought(prompt: str, begun: str, whole_prompt: str) -> None:
    assert open_prompt(prompt, begun) == whole_prompt


# Caps on thinking


async def test_thinking_beyond_its_cap_is_cut_and_the_answer_forced(address: Address, script: Script) -> None:
    script.thoughts, script.continues = ["hm "] * 20, {"continue_final_message"}
    model = model_at(address)
    (sample,), _ = await ask(model, Expand(ROOT, thinking=5, max_tokens=100))
    assert (sample.text, sample.finish) == ("Hello world", "done")
    assert sample.thinking == "hm " * 6
    assert sample.spend.thinking == 6
    assert sample.spend.calls == 1
    assert sample.spend.estimated
    first, last = script.asked
    assert first["thinking_token_budget"] == 5
    assert last["messages"][-1]["content"].startswith("<think>\nhm hm")
    assert last["messages"][-1]["content"].endswith("</think>\n\n")
    assert last["max_tokens"] < 100 - 6
    assert "thinking" in model.findings


async def test_thinking_that_cannot_be_closed_is_cut_by_length(address: Address, script: Script) -> None:
    script.thoughts = ["hm "] * 20
    (sample,), _ = await ask(model_at(address), Expand(ROOT, thinking=5))
    assert (sample.text, sample.finish, sample.spend.thinking >= 6) == ("", "length", True)


async def test_thinking_is_capped_as_it_was_asked(address: Address, script: Script) -> None:
    for budget, effort, more in ((0, "minimal", {"enable_thinking": False}), (500, "low", {}), (20_000, "high", {})):
        await ask(model_at(address), Expand(ROOT, thinking=budget, keep=40))
        body = script.bodies[-1]
        assert (body["thinking_token_budget"], body["thinking_budget_tokens"], body["reasoning_effort"]) == (budget, budget, effort)
        assert body["chat_template_kwargs"] == {"thinking_budget": budget, **more}
        assert not {"keep", "bias", "logit_bias"} & set(body)


# Standing inside a thought


def mused(thinking: str) -> Thought:
    return Thought("1", ROOT, thinking=thinking, finish="step")


@pytest.mark.parametrize("width", [1, 5, 50])
@pytest.mark.parametrize("way", ["continue_final_message", "template"])
async def test_an_open_thought_is_gone_on_with(address: Address, script: Script, way: str, width: int) -> None:
    reply = " is 42.\n</think>\n\nIt is 42."
    script.continues = {way}
    script.tokens = lambda body, child: [reply[i : i + width] for i in range(0, len(reply), width)]
    samples, pieces = await ask(model_at(address), Expand(mused("Six sevens"), n=2))
    assert [(s.thinking, s.text, s.finish) for s in samples] == [(" is 42.\n", "It is 42.", "done")] * 2
    assert "".join(p.text for p in pieces if p.thinking and p.index == 1) == " is 42.\n"
    assert samples[1].spend.thinking + samples[1].spend.answer == -(-len(reply) // width)
    (body,) = script.asked
    assert str(body.get("prompt") or body["messages"][-1]["content"]).endswith("<think>Six sevens")


async def test_an_open_thought_that_comes_as_reasoning_is_thinking(address: Address, script: Script) -> None:
    script.continues, script.thoughts = {"continue_final_message"}, [" is", " 42."]
    script.tokens = lambda body, child: ["\n\n", "It is", " 42."]
    for swaps in (False, True):
        model = model_at(address)
        model._server.swaps = swaps
        model._server.way = "continue_final_message"
        (sample,), _ = await ask(model, Expand(mused("Six sevens")))
        assert (sample.thinking, sample.text) == (" is 42.", "It is 42.")


@pytest.mark.parametrize(
    ("more", "thinking", "text", "finish"),
    [
        ({"until": "step"}, "Six.\n\n", "", "step"),
        ({"until": 2}, "Six.\n\nSeven", "", "tokens"),
        ({"stop": ("Seven",)}, "Six.\n\nSeven", "", "done"),
        ({"stop": ("</think>",)}, "Six.\n\nSeven.", "", "done"),
    ],
)
@pytest.mark.parametrize("own_field", [False, True])
async def test_a_thought_ends_where_the_op_ends_it(
    address: Address, script: Script, own_field: bool, more: dict[str, Any], thinking: str, text: str, finish: str
) -> None:
    thought = ["Six.\n\n", "Seven", "."]
    script.thoughts = thought if own_field else []
    script.tokens = lambda body, child: ["It", " is\n\n42."] if own_field else ["<think>" + thought[0], *thought[1:], "</think>", "\n\nIt"]
    (sample,), _ = await ask(model_at(address), Expand(ROOT, **more))
    assert (sample.thinking, sample.text, sample.finish) == (thinking, text, finish)


async def test_the_empty_line_after_a_thought_ends_no_step(address: Address, script: Script) -> None:
    script.continues = {"trailing"}
    script.tokens = lambda body, child: ["seven.\n", "</think>", "\n\n", "It is\n", "\n42."]
    (sample,), _ = await ask(model_at(address), Expand(mused("Six "), until="step"))
    assert (sample.thinking, sample.text, sample.finish) == ("seven.\n", "It is\n\n", "step")


async def test_a_server_that_tells_its_stop_at_the_end_of_a_thought(address: Address, script: Script) -> None:
    for met in ("</think>", "Seven"):
        events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": "<think>Six "}, "finish_reason": None}]}]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": met}]})
        script.faults = [raw("".join(f"data: {json.dumps(e)}\n\n" for e in events))]
        (sample,), _ = await ask(model_at(address), Expand(ROOT, stop=(met,)))
        assert (sample.thinking, sample.text, sample.finish) == ("Six " + met.removeprefix("</think>"), "", "done")


async def test_no_thinking_closes_an_open_thought(address: Address, script: Script) -> None:
    script.continues = {"trailing"}
    (sample,), _ = await ask(model_at(address), Expand(mused("Six sevens"), thinking=0))
    assert (sample.thinking, sample.text) == ("", "Hello world")
    assert script.asked[-1]["messages"][-1]["content"] == "<think>Six sevens\n</think>\n\n"


async def test_an_open_thought_beyond_its_cap_is_closed_as_one(address: Address, script: Script) -> None:
    script.continues = {"trailing"}
    script.tokens = lambda body, child: ["It is 42."] if "</think>" in str(body["messages"][-1]["content"]) else [" hm"] * 9
    (sample,), _ = await ask(model_at(address), Expand(mused("Six"), thinking=3, max_tokens=300))
    assert (sample.thinking, sample.text) == (" hm" * 4, "It is 42.")
    assert script.asked[-1]["messages"][-1]["content"] == "<think>Six hm hm hm hm\n</think>\n\n"


async def test_a_thought_that_the_template_opened_is_told_apart_and_expected_from_then_on(address: Address, script: Script) -> None:
    said = ["Six sevens.\n", "\nIt is 42.\n", "</think>", "\n\n", "It", " is 42."]
    script.tokens = lambda body, child: said
    model = model_at(address)
    samples, _ = await ask(model, Expand(ROOT, n=2))
    assert [(s.thinking, s.text, s.spend.thinking) for s in samples] == [("Six sevens.\n\nIt is 42.\n", "It is 42.", 4)] * 2
    assert "template" in model.findings["thought"]
    (sample,), pieces = await ask(model, Expand(ROOT))
    assert "".join(p.text for p in pieces if p.thinking) == sample.thinking == samples[0].thinking
    (sample,), _ = await ask(model, Expand(ROOT, until="step"))
    assert (sample.thinking, sample.text, sample.finish) == ("Six sevens.\n\n", "", "step")
    said = ["It is", " 42."]
    (sample,), _ = await ask(model, Expand(ROOT))
    assert (sample.thinking, sample.text, sample.spend.thinking) == ("", "It is 42.", 0), "an answer without a thought"
    (sample,), _ = await ask(model, Expand(ROOT, thinking=0))
    assert (sample.thinking, sample.text) == ("", "It is 42.")


@pytest.mark.parametrize("reply", ["Write </think> to end a thought.\n", "`\n<think>\nhm\n</think>\n`", "a\n</think>\nb\n</think>\nc"])
async def test_a_closing_tag_that_may_be_text_is_text(address: Address, script: Script, reply: str) -> None:
    script.tokens = lambda body, child: [reply]
    (sample,), _ = await ask(model_at(address), Expand(ROOT))
    assert (sample.thinking, sample.text) == ("", reply)


async def test_a_thought_that_is_closed_by_the_last_token_is_closed(address: Address, script: Script) -> None:
    script.tokens = lambda body, child: ["<think>", "Six", "</think>", "\n\n", "It"]
    (sample,), _ = await ask(model_at(address), Expand(ROOT, until=3))
    assert (sample.thinking, sample.text, sample.finish) == ("Six", "\n", "tokens")


# Loops


@pytest.mark.parametrize("head", ["", "<think>"])
async def test_a_loop_is_found_and_the_connection_closed(address: Address, script: Script, head: str) -> None:
    script.tokens = lambda body, child: [head, *["Let", " me", " see.", "\n"] * 400]
    (sample,), _ = await ask(model_at(address), Expand(ROOT, max_tokens=5000))
    assert sample.finish == "loop"
    assert bool(sample.thinking) == bool(head)
    assert 96 <= sample.spend.tokens < 200
    assert sample.spend.estimated


async def test_a_loop_among_several_children_ends_alone(address: Address, script: Script) -> None:
    script.tokens = lambda body, child: ["Let", " me", " see. "] * 100 if child == 0 else ["It is", " 42."]
    samples, _ = await ask(model_at(address), Expand(ROOT, n=2, max_tokens=400))
    assert [s.finish for s in samples] == ["loop", "done"]
    assert samples[1].text == "It is 42."


# Logit bias


@pytest.mark.parametrize(("usage", "asked"), [("sum", 7), ("each", 14)])
async def test_words_are_biased_by_their_first_tokens(address: Address, script: Script, usage: str, asked: int) -> None:
    script.usage = usage  # vLLM's or llama.cpp's
    script.vocabulary = {"wait": [5, 6], " wait": [7, 6], "Wait": [8], " Wait": [9], " ": [1], "But": [10], " But": [1, 10]}
    model = model_at(address)
    op = Expand(ROOT, bias=(("wait", -3.0), ("But", -500.0)))
    for _ in range(2):
        (sample,), _ = await ask(model, op)
        assert sample.text == "Hello world"
        assert script.bodies[-1]["logit_bias"] == {"5": -3.0, "7": -3.0, "8": -3.0, "9": -3.0, "10": -100.0}
    assert script.paths.count("/tokenize") == asked, "asked once"
    assert "logit_bias" not in model.findings


@pytest.mark.parametrize("vocabulary", [None, {}])
async def test_a_server_that_tells_no_tokens_is_one_clear_error(address: Address, script: Script, vocabulary: Any) -> None:
    script.vocabulary = vocabulary
    model = model_at(address)
    for _ in range(2):
        with pytest.raises(Unsupported, match="use a strategy without it"):
            await ask(model, Expand(ROOT, bias=(("Wait", -3.0),)))
    assert script.paths == ["/tokenize"] * 2
    assert "logit_bias" in model.findings


async def test_a_bias_that_is_refused_is_one_clear_error(address: Address, script: Script) -> None:
    script.vocabulary, script.refuses = {" ": [1], "Wait": [8], " Wait": [9]}, {"logit_bias"}
    model = model_at(address)
    (failure,), _ = await ask(model, Expand(ROOT, bias=(("Wait", -3.0),)))
    assert isinstance(failure.error, Unsupported)
    assert "refuses a logit bias" in str(failure.error)
    with pytest.raises(Unsupported, match="takes no logit bias"):
        await ask(model, Expand(ROOT, bias=(("Wait", -3.0),)))
    assert len(script.bodies) == 1


async def test_a_tokenizer_that_fails_is_no_answer(address: Address, script: Script) -> None:
    script.vocabulary, script.faults_of_tokenizer = {" ": [1], "Wait": [8], " Wait": [9]}, [refuse(503, "loading")]
    model = model_at(address)
    with pytest.raises(ModelUnavailable, match="503"):
        await ask(model, Expand(ROOT, bias=(("Wait", -3.0),)))
    (sample,), _ = await ask(model, Expand(ROOT, bias=(("Wait", -3.0),)))
    assert sample.text == "Hello world"


# Retries, and errors that are never text


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_passing_errors_are_tried_again(address: Address, script: Script, status: int) -> None:
    script.faults = [refuse(status, "later"), refuse(status, "later", headers={"Retry-After": "7"})]
    nap = Nap()
    (sample,), pieces = await ask(model_at(address, sleep=nap), Expand(ROOT))
    assert sample.text == "".join(p.text for p in pieces) == "Hello world"
    assert 0 <= nap.naps[0] <= 1
    assert 7 <= nap.naps[1] <= 8
    assert len(nap.naps) == 2


def test_retry_after_in_both_forms_is_capped() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert wait("2.5") == 2.5
    assert 20 <= (wait(soon) or 0) <= 30
    assert wait("86400") == 60
    assert wait("-3") == 0
    assert [wait(h) for h in (None, "", "soon", "nan")] == [None] * 4
    assert all(0 <= pause(9, None) <= 16 for _ in range(50))


async def test_too_many_requests_for_ever(address: Address, script: Script) -> None:
    script.faults = [refuse(429, "slow down") for _ in range(9)]
    (failure,), _ = await ask(model_at(address, retries=3), Expand(ROOT))
    assert isinstance(failure.error, ModelUnavailable)
    assert "429" in str(failure.error)
    assert "4 tries" in str(failure.error)
    assert len(script.bodies) == 4
    assert failure.spend.tokens == 0


async def test_a_used_up_quota_is_not_tried_again(address: Address, script: Script) -> None:
    script.faults = [refuse(429, "You exceeded your current quota", code="insufficient_quota")]
    (failure,), _ = await ask(model_at(address), Expand(ROOT))
    assert "quota" in str(failure.error)
    assert len(script.bodies) == 1


async def test_a_break_in_the_middle_is_asked_again_and_paid(address: Address, script: Script) -> None:
    script.faults = ["cut:3"]  # the role and two tokens
    (sample,), _ = await ask(model_at(address), Expand(ROOT, max_tokens=20))
    assert sample.text == "Hello world"
    assert sample.spend.answer == 3 + 3  # nine characters were lost
    assert sample.spend.estimated
    assert sample.spend.calls == 1
    assert script.bodies[1]["max_tokens"] == 17


async def test_a_break_amid_several_children_keeps_those_that_ended(address: Address, script: Script) -> None:
    script.faults = ["cut:8"]  # the first has ended, the second has said two tokens
    script.tokens = lambda body, child: ["a", "b", str(body["seed"])]
    samples, _ = await ask(model_at(address), Expand(ROOT, n=3, max_tokens=20))
    assert [s.text for s in samples] == ["ab1", "ab2", "ab3"]
    assert [b.get("n") for b in script.bodies] == [3, None, None]
    assert [s.spend.tokens for s in samples] == [3, 5, 3]


async def test_breaks_never_cost_more_than_max_tokens(address: Address, script: Script) -> None:
    script.faults = ["cut:3"] * 9
    (failure,), _ = await ask(model_at(address, retries=8), Expand(ROOT, max_tokens=5))
    assert isinstance(failure, Failure)
    assert failure.spend.tokens <= 5


async def test_a_stream_without_an_end_is_a_break(address: Address, script: Script) -> None:
    half = 'data: {"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\ndata: {"choi'
    script.faults = [raw(half), raw(""), raw("data: [DONE]\n\n")]
    (sample,), _ = await ask(model_at(address), Expand(ROOT))
    assert sample.text == "Hello world"
    assert len(script.bodies) == 4


async def test_an_error_amid_a_stream_is_never_text(address: Address, script: Script) -> None:
    half = 'data: {"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
    script.faults = [raw(half + 'data: {"error":{"message":"CUDA error","code":500}}\n\n') for _ in range(2)]
    (failure,), _ = await ask(model_at(address, retries=1), Expand(ROOT))
    assert isinstance(failure, Failure)
    assert "CUDA error" in str(failure.error)
    assert failure.spend.tokens == 2


async def test_a_stall(address: Address, script: Script) -> None:
    script.faults = ["stall", "stall"]
    (failure,), _ = await ask(model_at(address, timeout=0.2, retries=1), Expand(ROOT))
    assert type(failure.error) is ModelError
    assert "0.2 seconds, in 2 tries" in str(failure.error)


async def test_a_server_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    nap = Nap()
    (failure,), _ = await ask(OpenAI("m", base_url=url, sleep=nap), Expand(ROOT))
    assert isinstance(failure.error, ModelUnavailable)
    assert "start it or check base_url" in str(failure.error)
    assert len(nap.naps) == 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<html><body>Hello</body></html>", "text/html"),
        ("Hello, I am no server of yours.", "text/plain"),
        ("data: {not json}\n\n", "text/event-stream"),
        ("data: [1, 2]\n\n", "text/event-stream"),
        ('data: {"choices": "none"}\n\n', "text/event-stream"),
        ('data: {"hello": 1}\n\n', "text/event-stream"),
        ("{", "application/json"),
    ],
)
async def test_garbage(address: Address, script: Script, text: str, kind: str) -> None:
    script.faults = [raw(text, kind)]
    (failure,), pieces = await ask(model_at(address), Expand(ROOT))
    assert type(failure.error) is ModelError
    assert "check base_url" in str(failure.error)
    assert not pieces
    assert len(script.bodies) == 1


async def test_a_redirect_is_not_followed_with_the_key(address: Address, script: Script) -> None:
    script.faults = [raw("", status=307)]
    (failure,), _ = await ask(model_at(address), Expand(ROOT))
    assert "redirect" in str(failure.error)


@pytest.mark.parametrize(("status", "mend"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "did you mean 'little-model'")])
async def test_refusals_for_good_name_the_mend(address: Address, script: Script, status: int, mend: str) -> None:
    script.faults = [refuse(status, f"Incorrect key {KEY} Bearer {KEY}")]
    model = OpenAI("litle-modell", base_url=address.url, api_key=KEY, sleep=Nap())
    (failure,), _ = await ask(model, Expand(ROOT))
    assert isinstance(failure.error, ModelUnavailable)
    assert mend in str(failure.error)
    assert KEY not in repr(failure)
    assert KEY not in str(failure.error)
    assert len(script.bodies) == 1


@pytest.mark.parametrize(
    "fault",
    [
        refuse(400, "too long", code="context_length_exceeded"),
        refuse(400, "This model's maximum context length is 2048 tokens. However, you requested max_tokens=9, max_completion_tokens"),
        refuse(400, "request (3030 tokens) exceeds the available context size (2048 tokens)", type="exceed_context_size_error"),
    ],
)
async def test_a_conversation_that_does_not_fit(address: Address, script: Script, fault: Any) -> None:
    script.faults = [fault]
    failures, _ = await ask(model_at(address), Expand(ROOT, n=2))
    assert [type(f.error) for f in failures] == [ContextOverflow] * 2
    assert len(script.bodies) == 1


# Cancelling, closing, and what cannot be


async def test_closing_the_iterator_closes_the_connection(address: Address, script: Script) -> None:
    script.forever = True
    model = model_at(address)
    events = model.sample(Expand(ROOT, n=1, max_tokens=10**6), [1])
    await anext(events)
    await events.aclose()
    assert await asyncio.to_thread(script.gone.wait, 10)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await model.close()


async def test_cancelling_the_task_closes_every_connection(address: Address, script: Script) -> None:
    script.forever, script.refuses = True, {"n"}
    model = model_at(address)
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in model.sample(Expand(ROOT, n=4, max_tokens=10**6), [1, 2, 3, 4]):
            if script.busy == 4:
                started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(500):
        if script.busy == 0:
            break
        await asyncio.sleep(0.01)
    assert script.busy == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await model.close()


def test_one_model_serves_several_loops(address: Address, script: Script) -> None:
    model = model_at(address)

    async def once() -> str:
        return "".join([e.text async for e in model.sample(Expand(ROOT), [1]) if isinstance(e, Sample)])

    assert [asyncio.run(once()) for _ in range(3)] == ["Hello world"] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://x"},
        {"api_key": "two\nlines"},
        {"base_url": "http://me:secret@127.0.0.1:1/v1"},
        {"base_url": "http://127.0.0.1:1/v1?api_key=secret"},
        {"base_url": "http://127.0.0.1:port/v1"},
        {"base_url": "http://[::1/v1"},
        {"concurrency": 0},
        {"timeout": 0},
        {"retries": -1},
        {"extra": {"n": 4}},
    ],
)
def test_what_cannot_be_used_is_said_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        OpenAI("m", **({"base_url": "http://127.0.0.1:1/v1"} | wrong))


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(BadInput):
        OpenAI(" ")


async def test_hidden_states_are_not_to_be_had(address: Address, script: Script) -> None:
    with pytest.raises(Unsupported):
        await ask(model_at(address), Expand(ROOT, until="latent"))


async def test_the_key_is_sent_and_never_shown(address: Address, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = OpenAI("little-model", base_url=address.url)
    await ask(model, Expand(ROOT))
    assert script.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(model)
    monkeypatch.delenv("OPENAI_API_KEY")
    await ask(OpenAI("little-model", base_url=address.url), Expand(ROOT))
    assert KEY not in script.keys[-1]


def test_the_prompt_is_bounded_by_its_bytes() -> None:
    model = OpenAI("m", base_url="http://127.0.0.1:1/v1")
    op = Expand(root_of(Question.of("é" * 10, system="be")), say="x")
    assert model.prompt_bound(op) == (20 + 2 + 1 + 2) + 2 * 64 + 64
    assert not model.exact
    assert model.name == "m"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "stop", "length", "<think>", "a\n\n"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "message", "content", "reasoning", "finish_reason", "index", "logprobs", "usage", "text"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["delta", "message", "logprobs", "finish_reason", "stop_reason", "text"]), JSON), max_size=6)
)
def test_no_shape_of_a_choice_breaks_a_reply(choices: list[dict[str, Any]]) -> None:
    reply = Reply(0, limit=3, stops=("a",), step=True, inside=bool(len(choices) % 2))
    pieces = [piece for choice in choices for piece in reply.feed(choice)]
    assert "".join(p.text for p in pieces if not p.thinking) == reply.text
    assert "".join(p.text for p in pieces if p.thinking) == reply.thinking
    assert reply.bill(5).tokens >= reply.counted


@given(st.lists(JSON, max_size=5))
@settings(max_examples=40, deadline=None)
def test_no_answer_of_a_server_is_more_than_a_sample_or_a_failure(events: list[Any]) -> None:
    body = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body, headers={"content-type": "text/event-stream"}))

    async def once() -> list[Any]:
        model = OpenAI("m", base_url="http://127.0.0.1:1/v1", retries=1, sleep=Nap())
        model._wire.here().client = httpx.AsyncClient(transport=transport)
        return (await ask(model, Expand(ROOT, n=2)))[0]

    ends = asyncio.run(once())
    assert [e.index for e in ends] == [0, 1]
    assert all(isinstance(e, Sample) or isinstance(e.error, ModelError) for e in ends)


def test_a_reply_shared_with_others_counts_on_after_its_end() -> None:
    reply = Reply(0, limit=2)
    for _ in range(4):
        reply.feed({"delta": {"content": "a"}})
    assert (reply.text, reply.finish, reply.counted) == ("aa", "length", 4)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=6), st.integers(0, 100))
def test_a_shared_bill_is_split_exactly_and_within_each_cap(children: list[tuple[int, int]], extra: int) -> None:
    """Server's usage counts what ends each child too; no child's part may pass its hold while another's can take it."""
    counted, caps = [min(c, cap) for c, cap in children], [cap for _, cap in children]
    total = sum(counted) + extra
    parts = split(total, counted, caps)
    assert sum(parts) == total
    if total <= sum(caps):
        assert all(part <= cap for part, cap in zip(parts, caps, strict=True))
