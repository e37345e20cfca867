"""One child's reply as it streams in: thinking told from text, stops found, tokens counted, and the bill at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pondera.ports import Piece
from pondera.thought import Finish, Spend

BOUNDARY = "\n\n"
OPEN, CLOSE = "<think>", "</think>"
ENDS = {"stop": "done", "eos": "done", "end_turn": "done", "stop_sequence": "done", "length": "length", "max_tokens": "length"}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counts them; `reasoning` is the part of `completion` that was thought, None where it does not say."""

    prompt: int
    cached: int
    completion: int
    reasoning: int | None = None


@dataclass(slots=True)
class Reply:
    """What has come of one try at one child. `limit` is how many tokens it may hold, `budget` how many of them thinking.

    `echo` is a beginning that the server repeats and that is not part of the reply; `swapped` says that text comes as reasoning.
    """

    index: int
    limit: int
    stops: tuple[str, ...] = ()
    step: bool = False
    budget: float = math.inf
    echo: str = ""
    plain: bool = False  # no leading block of thinking is looked for: a partial answer goes on
    swapped: bool = False
    finish: Finish | None = None
    failure: str = ""
    closed: bool = False  # nothing more of it is wanted
    overthought: bool = False
    exceeded: bool = False
    tells: bool = False  # the server says which stop string it met
    ended: bool = False  # the server said that it is over
    pays: bool = True  # for the prompt, where that is estimated
    called: bool = False  # a tool was asked for
    counted: int = 0
    counted_thinking: int = 0
    usage: Usage | None = None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    precise: bool = True  # every chunk told the log-probabilities of its tokens
    held: str = ""
    mode: str = ""
    tail: str = ""
    inked: bool = False

    def __post_init__(self) -> None:
        self.mode = "echo" if self.echo else "text" if self.plain else "start"

    @property
    def text(self) -> str:
        return whole("".join(self.texts))

    @property
    def thinking(self) -> str:
        return whole("".join(self.thoughts))

    @property
    def touched(self) -> bool:
        return self.counted > 0 or self.finish is not None

    def feed(self, choice: Mapping[str, Any]) -> list[Piece]:
        """Take one choice of one event; answers the progress that it made."""
        delta = next((d for d in (choice.get("delta"), choice.get("message")) if d and isinstance(d, Mapping)), choice)
        text = said(delta, "content") or said(delta, "text")
        thought = said(delta, "reasoning_content") or said(delta, "reasoning")
        if self.swapped:
            text, thought = thought + text, ""
        self.called = self.called or bool(delta.get("tool_calls") or delta.get("function_call"))
        pieces = self._take(text, thought, tokens_of(choice.get("logprobs"))) if text or thought else []
        if reason := choice.get("finish_reason"):
            pieces += self._end(str(reason), choice)
        return pieces

    def _take(self, text: str, thought: str, tokens: Sequence[tuple[int | None, float]]) -> list[Piece]:
        count = len(tokens) or 1
        self.counted += count
        if self.closed:
            return []
        if self.counted > self.limit:  # the server goes on beyond max_tokens
            self.closed, self.exceeded, self.finish = True, True, "length"
            return []
        self.precise = self.precise and bool(tokens)
        self.logprobs += [logprob for _, logprob in tokens]
        self.ids += [name for name, _ in tokens if name is not None]
        more, text = self._split(text)
        thought += more
        self.thoughts.append(thought)
        text = self._until_stop(text)
        self.texts.append(text)
        thinks = not text and (bool(thought) or self.mode in ("think", "gap"))
        self.counted_thinking += count if thinks else 0
        if thinks and self.counted_thinking > self.budget:
            self.closed = self.overthought = True
        pieces = [Piece(self.index, thought, count if thinks else 0, thinking=True)] if thought else []
        return [*pieces, Piece(self.index, text, 0 if thinks else count)] if text or not thinks else pieces

    def _split(self, new: str) -> tuple[str, str]:
        """Thinking and text of what arrived in the content, where a leading block of thinking may stand."""
        held, self.held = self.held + new, ""
        if self.mode == "echo":
            if len(held) < len(self.echo) and self.echo.startswith(held):
                self.held = held
                return "", ""
            held, self.mode = held.removeprefix(self.echo), "text"
        if self.mode == "start":
            bare = held.lstrip()
            if bare.startswith(OPEN):
                held, self.mode = bare.removeprefix(OPEN), "think"
            elif OPEN.startswith(bare):
                self.held = held
                return "", ""
            else:
                self.mode = "text"
        thought = ""
        if self.mode == "think":
            thought, closing, rest = held.partition(CLOSE)
            if not closing:  # the beginning of a closing tag may stand at the end
                keep = next((k for k in range(len(CLOSE) - 1, 0, -1) if held.endswith(CLOSE[:k])), 0)
                self.held = held[len(held) - keep :]
                return held[: len(held) - keep], ""
            held, self.mode = rest, "gap"
        if self.mode == "gap":
            held = held.lstrip()
            self.mode = "text" if held else "gap"
        return thought, held

    def _until_stop(self, new: str) -> str:
        """What of new text belongs to the answer: all of it, or up to and with the first stop."""
        if not new:
            return ""
        window, before = self.tail + new, len(self.tail)
        ends: list[tuple[int, Finish]] = [(at + len(s), "done") for s in self.stops if (at := window.find(s)) >= 0]
        if self.step:
            start = max(0, before - 1) if self.inked else before + len(new) - len(new.lstrip())
            if (at := window.find(BOUNDARY, start)) >= 0:
                ends.append((at + len(BOUNDARY), "step"))
        if ends:
            end, self.finish = min(ends)
            self.closed = True
            return new[: end - before]
        self.inked = self.inked or bool(new.strip())
        keep = max((len(s) for s in (*self.stops, BOUNDARY)), default=2) - 1
        self.tail = window[-keep:]
        return new

    def _end(self, reason: str, choice: Mapping[str, Any]) -> list[Piece]:
        """The server says that the reply is over."""
        self.ended = True
        met = choice.get("stop_reason", choice.get("matched_stop"))
        self.tells = self.tells or "stop_reason" in choice or "matched_stop" in choice
        if self.closed:
            return []
        self.closed = True
        pieces: list[Piece] = []
        if self.held:  # it was no tag after all
            held, self.held = self.held, ""
            kept = "" if self.mode == "think" else self._until_stop(held)
            (self.thoughts if self.mode == "think" else self.texts).append(kept or held)
            pieces = [Piece(self.index, kept or held, 0, thinking=self.mode == "think")]
            if self.finish:
                return pieces
        if isinstance(met, str) and met in self.stops and not self.text.endswith(met):
            self.texts.append(met)
            pieces.append(Piece(self.index, met, 0))
        if self.called and not self.text.strip():
            self.failure = "The model answered only with a tool call, and tools are not run here yet: ask without tools."
        elif reason in ENDS or reason in ("tool_calls", "function_call"):
            self.finish = "length" if ENDS.get(reason) == "length" else "done"
        else:
            shown = "".join(c for c in reason if c.isalnum() or c in "_-")[:40]
            self.failure = f"The server cut the answer off ({shown}): ask again or word the question differently."
        return pieces

    def estimate(self) -> int:
        """Tokens generated, as far as could be counted: where chunks are not known to be tokens, at least one for four characters."""
        if self.precise:
            return self.counted
        guess = math.ceil((len(self.text) + len(self.thinking)) / 4)
        return max(self.counted, min(guess, self.limit))

    def bill(self, prompt: int) -> Spend:
        """What it cost: by the server's count if there is one (final, if the reply was not cut), else estimated, `prompt` with it."""
        usage = self.usage or Usage(prompt if self.pays else 0, 0, self.estimate())
        share = usage.completion * self.counted_thinking / max(self.counted, 1)
        thinking = min(usage.reasoning or round(share), usage.completion)
        return Spend(
            prompt=usage.prompt,
            cached=min(usage.cached, usage.prompt),
            thinking=thinking,
            answer=usage.completion - thinking,
            estimated=self.usage is None or not self.ended,
        )


def whole(text: str) -> str:
    """Text whose surrogate pairs, split between two events, are joined again, and whose lone halves are replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said(delta: Mapping[str, Any], name: str) -> str:
    value = delta.get(name)
    return value if isinstance(value, str) else ""


def tokens_of(told: Any) -> list[tuple[int | None, float]]:
    """Ids (where told) and log-probabilities, in the shape of chat or of completions; nothing where any is missing."""
    if not isinstance(told, dict):
        return []
    if isinstance(content := told.get("content"), list):
        pairs = [(t.get("id"), t.get("logprob")) for t in content if isinstance(t, dict)]
    else:
        pairs = [(None, p) for p in flat] if isinstance(flat := told.get("token_logprobs"), list) else []
    told_all = [(i if isinstance(i, int) else None, float(p)) for i, p in pairs if isinstance(p, int | float) and math.isfinite(p)]
    return told_all if len(told_all) == len(pairs) else []


def usage_of(told: Any) -> Usage | None:
    """A usage object, or None where it makes no sense. Servers that count reasoning beside the completion are told by their total."""

    def number(source: Any, name: str) -> int | None:
        value = source.get(name) if isinstance(source, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    prompt, completion = number(told, "prompt_tokens"), number(told, "completion_tokens")
    if prompt is None or completion is None:
        return None
    cached = number(told.get("prompt_tokens_details"), "cached_tokens") or 0
    reasoning = number(told.get("completion_tokens_details"), "reasoning_tokens")
    if reasoning and number(told, "total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    return Usage(prompt, cached, completion, reasoning)


def split(total: int, weights: Sequence[int], caps: Sequence[float] = ()) -> list[int]:
    """`total` divided in proportion to the weights, exactly: the largest remainders are rounded up.

    No part is above its cap while another one is below its own: what several children end with is not counted by any of them.
    """
    weights = weights if sum(weights) else [1] * len(weights)
    shares = [total * w / sum(weights) for w in weights]
    parts = [math.floor(s) for s in shares]
    for i in sorted(range(len(parts)), key=lambda i: parts[i] - shares[i])[: total - sum(parts)]:
        parts[i] += 1
    for i, cap in enumerate(caps):
        for j, room in enumerate(caps):
            moved = int(max(0, min(parts[i] - cap, room - parts[j])))
            parts[i], parts[j] = parts[i] - moved, parts[j] + moved
    return parts


def settle(replies: Sequence[Reply], told: Sequence[Usage], order: Sequence[int]) -> None:
    """Share out the usage of one call among its children. `order` has their places in the order in which they ended.

    Most servers tell one sum at the end, some one usage for each child, in the order in which they end. The prompt of a sum was
    computed once, so the first child to end pays for it.
    """
    if not told:
        for place, reply in enumerate(replies):
            reply.pays = place == (order[0] if order else 0)
        return
    if len(replies) > 1 and len(told) == len(replies) == len(order):
        for place, usage in zip(order, told, strict=True):
            replies[place].usage = usage
        return
    total, first = told[-1], order[0] if order else 0
    parts = split(total.completion, [r.counted for r in replies], [r.limit for r in replies])
    thought = [r.counted_thinking for r in replies]
    reasoning = split(total.reasoning, thought if any(thought) else parts) if total.reasoning else [None] * len(replies)
    for place, reply in enumerate(replies):
        prompt, cached = (total.prompt, total.cached) if place == first else (0, 0)
        reply.usage = Usage(prompt, cached, parts[place], reasoning[place])
