"""What the server of peers_server.py reads and writes: requests checked field by field, choices as they grow, OpenAI's shapes of both."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from pondera.errors import BadInput, ContextOverflow, PonderaError, Unsupported
from pondera.ops import Expand
from pondera.ports import Model, Sample
from pondera.thought import Message, Question, root_of

LONGEST = 4096  # tokens of a choice where the request names no limit
LARGEST = 16 << 20  # bytes of a request
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class Refusal(Exception):
    """A request that cannot be answered."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code

    @property
    def body(self) -> dict[str, Any]:
        sort = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": sort, "param": self.param, "code": self.code}}


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read and checked."""

    op: Expand
    seeds: tuple[int, ...]
    keep_stop: bool
    logprobs: bool
    stream: bool
    usage: bool  # at the end of a stream
    usage_each: bool  # in every chunk


def read(body: Any, model: Model, rng: random.Random) -> Asked:
    """The request that a JSON body stands for. Raises Refusal or BadInput."""
    if not isinstance(body, dict):
        raise Refusal("The body must be a JSON object.")
    if body.get("model") != model.name:
        said = f"The model {str(body.get('model'))[:80]!r} is not here: this server has {model.name!r}."
        raise Refusal(said, "model", 404, "model_not_found")
    for name in ("tools", "functions"):
        if body.get(name):
            raise Refusal(f"{name} are not served here: leave them out.", name)
    shape = body.get("response_format") or {"type": "text"}
    if not isinstance(shape, dict) or shape.get("type") != "text":
        raise Refusal("response_format is not served here: leave it out, and ask for the format in words.", "response_format")
    messages = [message(one, i) for i, one in enumerate(items(body.get("messages"), "messages"))]
    begun = messages.pop().content if messages[-1].role == "assistant" and flag(body, "continue_final_message", True) else ""
    count = whole(body, "n", 1, 1, 128)
    limit = whole(body, "max_completion_tokens", 0, 1) or whole(body, "max_tokens", 0, 1) or LONGEST
    seed = whole(body, "seed", rng.getrandbits(31), -(1 << 63))
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise Refusal("stream_options must be an object.", "stream_options")
    op = Expand(
        root_of(Question(tuple(messages), kind="exact")),
        count,
        force=begun,
        max_tokens=limit,
        temperature=number(body, "temperature", 1.0, 0.0, 2.0),
        top_p=number(body, "top_p", 1.0, 1e-6, 1.0),
        stop=stops(body.get("stop")),
    )
    return Asked(
        op,
        tuple((seed + i) % (1 << 31) for i in range(count)),
        flag(body, "include_stop_str_in_output", False),
        flag(body, "logprobs", False),
        flag(body, "stream", False),
        flag(options, "include_usage", False),
        flag(options, "continuous_usage_stats", False),
    )


def message(one: Any, at: int) -> Message:
    where = f"messages[{at}]"
    if not isinstance(one, dict) or one.get("role") not in ROLES:
        raise Refusal(f"{where} must be an object with a role: {', '.join(ROLES)}.", where)
    content = one.get("content") or ""
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content):
            raise Refusal(f"{where}: only parts of text are served here.", where)
        content = "".join(part["text"] for part in content)
    return Message(ROLES[one["role"]], text(content, f"{where}.content"))  # type: ignore[arg-type]


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Refusal(f"{name} must be text.", name)
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise Refusal(f"{name} holds half of a surrogate pair, which is no character.", name)
    return value


def items(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Refusal(f"{name} must be a list that is not empty.", name)
    return value


def stops(value: Any) -> tuple[str, ...]:
    if value is None or value == []:
        return ()
    found = [text(one, "stop") for one in ([value] if isinstance(value, str) else items(value, "stop"))]
    if not all(found) or len(found) > 16:
        raise Refusal("stop must be a text or up to 16 of them, none of them empty.", "stop")
    return tuple(found)


def flag(body: dict[str, Any], name: str, default: bool) -> bool:
    value = default if body.get(name) is None else body[name]
    if not isinstance(value, bool):
        raise Refusal(f"{name} must be true or false.", name)
    return value


def whole(body: dict[str, Any], name: str, default: int, low: int, high: int = 1 << 63) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refusal(f"{name} must be a whole number of at least {low}{f' and at most {high}' if high < 1 << 63 else ''}.", name)
    return value


def number(body: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = default if body.get(name) is None else body[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise Refusal(f"{name} must be a number from {low:g} to {high:g}.", name)
    return float(value)


# ---------------------------------------------------------------- what is answered


@dataclass(slots=True)
class Child:
    """One choice as it grows. A stop string ends its text, and what may be the beginning of one is held back until it is known."""

    index: int
    stops: tuple[str, ...]
    keep_stop: bool
    text: str = ""
    shown: int = 0
    tokens: int = 0
    told: int = 0  # tokens whose log-probabilities were shown
    logprobs: list[tuple[int, float]] = field(default_factory=list)  # of all tokens so far: id and log-probability
    finish: str | None = None
    met: str | None = None

    def add(self, text: str, tokens: int) -> None:
        self.text += text
        self.tokens += tokens

    def tell(self, job: Any) -> None:
        """Take the log-probabilities of the new tokens from an engine's job; those that it has not told yet come with the next."""
        since = len(self.logprobs)
        self.logprobs += zip(job.ids[since : self.tokens], job.logprobs[since : self.tokens], strict=False)

    def end(self, sample: Sample) -> None:
        self.text, self.tokens = sample.text, sample.spend.tokens
        self.logprobs = list(zip(sample.ids or (-1,) * len(sample.logprobs), sample.logprobs, strict=True))
        if found := self._stop():
            at, self.met = found
            self.text = self.text[: at + len(self.met) * self.keep_stop]
        self.finish = "length" if sample.finish in ("length", "tokens") and not found else "stop"

    def _stop(self) -> tuple[int, str] | None:
        """Where the first stop string stands. One that nothing but white space precedes ends nothing, as in the engine."""
        blank = len(self.text) - len(self.text.lstrip())
        return min(((at, stop) for stop in self.stops if (at := self.text.find(stop, blank + 1)) >= 0), default=None)

    def fresh(self) -> tuple[str, list[tuple[int, float]]] | None:
        """What can be shown and was not yet: text, and the tokens so far that were not told. None where there is nothing to show."""
        end = len(self.text)
        if not self.finish and self.stops:
            end, _ = self._stop() or (max(0, end - max(map(len, self.stops)) + 1), "")
        more = self.text[self.shown : end]
        if not more and not self.finish:
            return None
        new, self.told = self.logprobs[self.told :], len(self.logprobs)
        self.shown += len(more)
        return more, new


def parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Refusal("The body is not JSON.")


def refused(error: Refusal | PonderaError) -> Refusal:
    """What an error means to a client."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ContextOverflow):
        return Refusal(str(error), "messages", 400, "context_length_exceeded")
    return Refusal(str(error), status=400 if isinstance(error, BadInput | Unsupported) else 500)


@dataclass(slots=True)
class Reply:
    """All choices of one request. The prompt is counted once for them all, as the API does; `cached` of it came from the cache."""

    asked: Asked
    prompt: int
    children: list[Child]
    cached: int = 0

    @property
    def completion(self) -> int:
        return sum(child.tokens for child in self.children)

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


def sse(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
