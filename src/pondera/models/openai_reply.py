"""One child's reply as it streams in: thinking told from text, stops found, tokens counted, and the bill at its end."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pondera.models.openai_usage import Usage, said, tokens_of, whole
from pondera.models.thinking import Splitter
from pondera.ports import Piece
from pondera.repetition import EVERY, loop
from pondera.thought import CLOSE, OPEN, Finish, Spend

BOUNDARY = "\n\n"
RECENT = 2048  # chunks in which a loop is looked for
UNOPENED = re.compile(rf"(?:^|\n){CLOSE}[ \t]*\n")  # a closing tag in a line of its own
ENDS = {"stop": "done", "eos": "done", "end_turn": "done", "stop_sequence": "done", "length": "length", "max_tokens": "length"}


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
    inside: bool = False  # it begins in a thought
    assumed: bool = False  # `inside` is what this server did before
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
    unopened: bool = False  # the text held the end of a thought that the template had opened
    reasoned: bool = False  # thinking came in a field of its own
    answered: bool = False
    heard: str = ""  # of the echo
    tail: str = ""
    inked: bool = False
    looked: int = 0
    splitter: Splitter = field(init=False)

    def __post_init__(self) -> None:
        self.splitter = Splitter(self.inside, "text" if self.plain else "start")

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
        thought, text = self._split(text, thought)
        thinks = not text and (bool(thought) or self.splitter.mode in ("think", "gap"))
        self.counted_thinking += count if thinks else 0
        if thinks and self.counted_thinking > self.budget and not self.closed:
            self.closed = self.overthought = True
        pieces = [Piece(self.index, thought, count if thinks else 0, thinking=True)] if thought else []
        pieces += [Piece(self.index, text, 0 if thinks else count)] if text or not thinks else []
        self._look_back(text)
        return pieces

    def _split(self, new: str, reasoning: str) -> tuple[str, str]:
        """Thinking and text of what arrived, up to where they are to end; kept."""
        if self.echo:
            held = self.heard + new
            if len(held) < len(self.echo) and self.echo.startswith(held):
                self.heard, new = held, ""
            else:
                new, self.echo, self.heard = held.removeprefix(self.echo), "", ""
        self.reasoned = self.reasoned or bool(reasoning)
        if self.inside and self.reasoned and new and not self.splitter.closed:
            self.splitter.mode = "gap"  # the server tells them apart, and has kept the closing tag
        more, text = self.splitter.feed(new)
        thought = self._until_stop(reasoning + more)
        self.thoughts.append(thought)
        if not self.closed and CLOSE in self.stops and self.splitter.closed and (any(self.thoughts) or self.inside):
            self.closed, self.finish = True, "done"
        if self.closed:
            return thought, ""
        if text and not self.answered:
            self.answered, self.tail, self.inked = True, "", False
        text = self._until_stop(text)
        self.texts.append(text)
        return thought, text

    def _look_back(self, text: str) -> None:
        """What only shows from a distance: the end of a thought that the template had opened, and a loop."""
        if "\n" in text and not (self.plain or self.inside or self.reasoned or self.unopened) and CLOSE in "".join(self.texts[-16:]):
            whole = "".join(self.texts)
            if (end := UNOPENED.search(whole)) and whole.count(CLOSE) == 1 and OPEN not in whole:
                self.unopened, self.counted_thinking = True, self.counted
                self.thoughts, self.texts = [whole[: end.start()] + "\n"], [whole[end.end() :].lstrip()]
                self.splitter.mode = "text" if self.texts[0] else "gap"
        if not self.closed and self.counted >= self.looked + EVERY:
            self.looked = self.counted
            if loop("".join((self.texts if self.answered else self.thoughts)[-RECENT:])):
                self.closed, self.finish = True, "loop"

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
        thought, text = self.splitter.rest()  # it was no tag after all
        text = self._until_stop(self.heard + text)
        if isinstance(met, str) and met in self.stops and met != CLOSE and not (self.thinking + self.text + thought + text).endswith(met):
            thought, text = (thought + met, text) if self.splitter.mode == "think" else (thought, text + met)
        if self.assumed and self.splitter.mode == "think" and not self.reasoned and ENDS.get(reason) == "done" and met != CLOSE:
            text, thought = self.thinking + thought + text, ""  # a thought that never closed was none
            self.thoughts, self.counted_thinking = [], 0
        if self.splitter.mode == "gap" and ENDS.get(reason) == "length":
            text += "\n"  # it says that the thought is closed
        self.thoughts.append(thought)
        self.texts.append(text)
        pieces = [Piece(self.index, part, 0, thinks) for part, thinks in ((thought, True), (text, False)) if part]
        if self.finish:
            return pieces
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
