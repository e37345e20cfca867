"""What a server takes and what it does, found out by asking, and remembered.

Servers differ in three ways that matter. They refuse parameters: the refusal names one, it is left out from then on, and the call is
made again. They ignore parameters: what came back is counted. And they continue a partial answer in one of four ways or not at all:
that is probed once, with a beginning that only its continuation fits. The open assistant turn `{"a": 1, "b": 2` is followed by a comma
when it is continued, while no new turn begins with a comma; and four tokens are too few to generate the beginning anew, so that a reply
with it in front is an echo followed by the continuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pondera.models.openai_wire import Refused
from pondera.ops import Expand
from pondera.thought import Message

Way = Literal["continue_final_message", "prefix", "trailing", "template"]
WAYS: tuple[Way, ...] = ("continue_final_message", "prefix", "trailing", "template")

PROBE_ASKED = (Message("user", "Write one JSON object, on one line, that maps the letters a to f to the numbers 1 to 6."),)
PROBE_OPEN = '{"a": 1, "b": 2'
PROBE_NEXT = ","
PROBE_TOKENS = 4
PROBE_BOUND = len(WAYS) * (len(PROBE_ASKED[0].content) + len(PROBE_OPEN) + 192)  # prompt tokens of all probes, at most

# Optional parameters, in the order in which they are given up, and how refusals speak of them beside their names.
OPTIONAL: dict[str, str] = {
    "continuous_usage_stats": r"stream_options",
    "stream_options": r"include_usage",
    "thinking_token_budget": r"",
    "thinking_budget_tokens": r"",
    "chat_template_kwargs": r"enable_thinking|thinking_budget",
    "reasoning_effort": r"",
    "logprobs": r"log[ _]prob\w*",
    "seed": r"",
    "top_p": r"",
    "stop": r"",
    "n": r"(only )?one completion|multiple (completions|choices)",
    "temperature": r"",
}
OVERFLOW = re.compile(
    r"context[_ ](length|size|window)|maximum context|exceed_context|prompt is too long|too many (input )?tokens|max_model_len", re.I
)


def overflows(refusal: Refused) -> bool:
    """Whether an error says that the conversation does not fit."""
    return refusal.status in (400, 413, 422) and bool(OVERFLOW.search(f"{refusal.code} {refusal.message}"))


@dataclass(slots=True)
class Server:
    """What has been found out of one server. `way` is None while unknown and "none" where no way works.

    `findings` says it in words, for people.
    """

    dropped: set[str] = field(default_factory=set)
    limit_field: str = "max_tokens"
    template: int = 16  # tokens that the chat template adds to a prompt, the most seen
    takes_n: bool = True
    tells_stop: bool = False
    way: Way | Literal["none"] | None = None
    echoes: bool = False
    swaps: bool = False
    opens: bool = False  # the template opens the thought, whose closing tag comes in the text
    biases: bool = True
    tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of words, by its tokenizer
    findings: dict[str, str] = field(default_factory=dict)

    def adapt(self, refusal: Refused, body: dict[str, Any]) -> bool:
        """Give up what a refusal names, if it was optional and in the request; False where nothing can be given up."""
        if refusal.status not in (400, 422) or overflows(refusal):
            return False
        words = f"{refusal.param} {refusal.message}"
        if "max_tokens" in body and "max_completion_tokens" in words:
            self.limit_field = "max_completion_tokens"
            return True
        for name, otherwise in OPTIONAL.items():
            sent = name in body or (name in body.get("stream_options", ()))
            named = rf"(?<!\w)(?:{name}{'|' + otherwise if otherwise else ''})(?!\w)"
            if sent and re.search(named, words, re.I):
                self.dropped.add(name)
                if name == "n":
                    self.ignores_n("refused")
                self.findings[name] = f"{name} is refused by the server, and left out"
                return True
        return False

    def ignores_n(self, how: str) -> None:
        self.takes_n = False
        self.findings["n"] = f"n is {how} by the server: branches are asked for one by one"

    def body(self, model: str, op: Expand, n: int, seed: int, limit: int, extra: dict[str, Any]) -> dict[str, Any]:
        """The request, without its messages: all that is not refused."""
        about = op.node.about
        body: dict[str, Any] = {
            "model": model,
            self.limit_field: limit,
            "temperature": op.temperature,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "logprobs": True,
            "seed": seed,
        }
        if "continuous_usage_stats" in self.dropped:
            body["stream_options"] = {"include_usage": True}
        if n > 1:
            body["n"] = n
        if op.top_p < 1:
            body["top_p"] = op.top_p
        if op.stop and self.tells_stop:
            body["stop"] = list(op.stop)
        if about.tools:
            body["tools"] = list(about.tools)
        if about.format is not None:
            body["response_format"] = about.format
        if op.thinking is not None:
            body |= thinking_fields(op.thinking)
        return {k: v for k, v in (body | extra).items() if k not in self.dropped}

    def find(self, reply: str, thought: str, way: Way) -> bool:
        """Judge what came back from a probe; True where the way works."""
        said, self.swaps = (reply, False) if reply.strip() else (thought, bool(thought.strip()))
        self.echoes = said.lstrip().startswith(PROBE_OPEN)
        if not said.lstrip().removeprefix(PROBE_OPEN).lstrip().startswith(PROBE_NEXT):
            self.echoes = self.swaps = False
            return False
        self.way = way
        words = {
            "continue_final_message": "by continue_final_message",
            "prefix": "by the prefix parameter",
            "trailing": "by a last assistant message",
            "template": "by /completions with the server's own template",
        }
        self.findings["continuation"] = words[way] + (", with an echo that is taken off" if self.echoes else "")
        return True


def thinking_fields(budget: int) -> dict[str, Any]:
    """A cap on thinking in the words of vLLM, llama.cpp, OpenAI and chat templates (Qwen, SGLang); others ignore or refuse them."""
    effort = "minimal" if budget <= 0 else "low" if budget <= 2048 else "medium" if budget <= 12288 else "high"
    return {
        "thinking_token_budget": budget,
        "thinking_budget_tokens": budget,
        "reasoning_effort": effort,
        "chat_template_kwargs": {"thinking_budget": budget, **({"enable_thinking": False} if budget <= 0 else {})},
    }


def message(turn: Message) -> dict[str, Any]:
    return {**turn.extra, "role": turn.role, "content": turn.content}


def chat(turns: Sequence[Message], begun: str, way: Way | None) -> dict[str, Any]:
    """The messages of a request, with the open assistant turn in the given way."""
    messages = [message(t) for t in turns]
    if not begun:
        return {"messages": messages}
    last: dict[str, Any] = {"role": "assistant", "content": begun}
    if way == "prefix":
        last["prefix"] = True
    flags = {"continue_final_message": True, "add_generation_prompt": False} if way == "continue_final_message" else {}
    return {"messages": [*messages, last], **flags}


def open_prompt(prompt: str, begun: str) -> str:
    """A prompt rendered by the server's template, with the open turn after it. Templates of thinking models may open a thought."""
    bare = prompt.rstrip()
    if not bare.endswith("<think>"):
        return prompt + begun
    if begun.startswith("<think>"):
        return bare.removesuffix("<think>") + begun
    return f"{bare}\n\n</think>\n\n{begun}"
