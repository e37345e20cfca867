"""What the engine is asked to go on with: the template's tokens, and those of the open turn, the very ones that were generated.

A thought may be opened by the model, by a forced text or by the template, whose prompt then ends with `<think>`. An open turn that has no
thought, or an op that allows none, gets an empty one where the model is of the thinking sort, as such models' own templates do it. A
thought that was to stop at its closing tag counts as open (:func:`pondera.thought.dialogue`): the tokens of that tag are left out, so that
the model may go on thinking, or a forced text may close it in another way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pondera.models.openvino_engine import Engine
from pondera.models.thinking import Splitter
from pondera.ops import Expand
from pondera.thought import CLOSE, OPEN, Thought, dialogue, musing

EMPTY = f"\n\n{CLOSE}\n\n"


@dataclass(frozen=True, slots=True)
class Begun:
    """The tokens to continue, whether they end inside a thought, and whether one may still come."""

    ids: list[int]
    inside: bool
    plain: bool

    def splitter(self) -> Splitter:
        return Splitter(self.inside, "text" if self.plain else "start")


class Turns:
    """Writes prompts for one model, known by `name` to the thoughts that it made."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name, self.engine = name, engine
        self.text: Callable[[str], Sequence[int]] = lru_cache(4096)(engine.words.encode)  # turns and forced texts come again and again

    def begin(self, op: Expand) -> Begun:
        turns, reply = dialogue(op.node, op.say)
        shown = self.engine.words.template([{**turn.extra, "role": turn.role, "content": turn.content} for turn in turns])
        opened = shown.rstrip().endswith(OPEN)
        begun = reply + op.force
        answers = bool(begun or op.thinking == 0) and not begun.lstrip().startswith(OPEN)
        shut = answers and (opened or self.engine.thinks) and not (reply and opened and self._shuts(op.node))
        if shut:
            shown = (shown.rstrip() if opened else shown + OPEN) + EMPTY
        ids = list(self.text(shown))
        if reply:
            ids += self._open_turn(op.node, opened, shut)
        if op.force:
            ids += self.text(_unopened(op.force) if opened and not reply else op.force)
        if op.until == "verdict":
            return Begun([*ids, *self.engine.calls], False, True)
        return Begun(ids, musing(begun) or (opened and not answers and not begun), shut or (bool(begun) and not musing(begun)))

    def closing(self, ids: Sequence[int]) -> Sequence[int]:
        """The tokens that end a thought which `ids` end in."""
        return self.text(f"{'' if self.engine.words.decode(ids[-8:]).endswith(chr(10)) else chr(10)}{CLOSE}\n\n")

    def thought(self, ids: Sequence[int]) -> int:
        """How many tokens belong to a thought that `ids` begin in, its closing tag with it; all where it is not closed."""
        return min(len(ids), bisect_left(range(len(ids)), True, key=lambda k: CLOSE in self.engine.words.decode(ids[:k])))

    def _open_turn(self, last: Thought, opened: bool, shut: bool) -> list[int]:
        ids: list[int] = []
        thought = opened and not shut
        answered = False
        for node in last.turn:
            answers = answered or bool(node.text)
            if node.ids and node.model == self.name:
                forced = _unopened(node.forced) if opened and not ids else node.forced
                ids += self.text(forced if answers else forced.partition(CLOSE)[0]) if forced else ()
                own = node.ids[:-1] if node.ids[-1] in self.engine.ends else node.ids
                ids += own if answers else self._unclosed(own)
            else:
                ids += self.text(_written(node, thought, answered))
            thought, answered = thought or bool(node.thinking), answers
        return ids

    def _shuts(self, last: Thought) -> bool:
        """Whether the model itself ended, at once, the thought that the template had opened."""
        first = next((node for node in last.turn if node.ids and node.model == self.name), None)
        return first is not None and self.engine.words.decode(first.ids[:8]).lstrip().startswith(CLOSE)

    def _unclosed(self, ids: Sequence[int]) -> Sequence[int]:
        """The tokens up to a closing tag. One that holds its beginning and something before is made anew of the latter."""
        said, closing, _ = self.engine.words.decode(ids).partition(CLOSE)
        if not closing:
            return ids
        kept = bisect_left(range(len(ids)), True, key=lambda k: len(self.engine.words.decode(ids[: k + 1])) > len(said))
        return (*ids[:kept], *self.text(said[len(self.engine.words.decode(ids[:kept])) :]))


def _unopened(text: str) -> str:
    """A forced text after a template that has opened the thought already."""
    bare = text.lstrip()
    return bare.removeprefix(OPEN).removeprefix("\n") if bare.startswith(OPEN) else text


def _written(node: Thought, thought: bool, answered: bool) -> str:
    """What a node of another model adds to the open turn, as text."""
    thinking = node.thinking if thought or not node.thinking else OPEN + node.thinking
    closing = f"\n{CLOSE}\n\n" if node.text and not answered and (node.thinking or thought) else ""
    return thinking + closing + node.text
