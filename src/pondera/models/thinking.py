"""Thinking told from answer in what a model writes: a leading `<think>...</think>`, wherever the pieces of the stream are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pondera.thought import CLOSE, OPEN

Mode = Literal["start", "think", "gap", "text"]


@dataclass(slots=True)
class Splitter:
    """Fed with text as it comes; each call answers the thinking and the answer in it. What may be half a tag waits for its other half.

    `inside` says that the thought was opened before: what comes first is thinking. In mode "text" no thought is looked for. White space
    between the thought and the answer belongs to neither ("gap").
    """

    inside: bool = False
    mode: Mode = "start"
    held: str = ""

    def feed(self, new: str) -> tuple[str, str]:
        held, self.held = self.held + new, ""
        if self.mode == "start":
            bare = held.lstrip()
            if bare.startswith(OPEN):
                held, self.mode = bare.removeprefix(OPEN), "think"
            elif OPEN.startswith(bare):
                self.held = held
                return "", ""
            else:
                self.mode = "think" if self.inside else "text"
        thought = ""
        if self.mode == "think":
            thought, closing, rest = held.partition(CLOSE)
            if not closing:
                keep = next((k for k in range(len(CLOSE) - 1, 0, -1) if held.endswith(CLOSE[:k])), 0)
                self.held = held[len(held) - keep :]
                return held[: len(held) - keep], ""
            held, self.mode = rest, "gap"
        if self.mode == "gap":
            held = held.lstrip()
            self.mode = "text" if held else "gap"
        return thought, held

    def rest(self) -> tuple[str, str]:
        """What was held back, at the end: it was no tag after all."""
        held, self.held = self.held, ""
        return (held, "") if self.mode == "think" or (self.mode == "start" and self.inside) else ("", held)

    @property
    def closed(self) -> bool:
        """Whether no more thinking can come."""
        return self.mode in ("gap", "text")


def divide(text: str, inside: bool = False) -> tuple[str, str, bool]:
    """The thinking and the answer of a whole text, and whether the answer has begun."""
    splitter = Splitter(inside)
    thought, answer = splitter.feed(text)
    more, rest = splitter.rest()
    return thought + more, answer + rest, splitter.closed
