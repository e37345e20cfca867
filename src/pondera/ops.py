"""The ops: the only things that a strategy may await.

An op is a frozen value. Awaiting it hands it to whoever drives the strategy, and the answer comes back as the value of the await (the
trick of trio's traps and of sans-IO protocols). So a strategy knows no model, clock, cap or log, and what it does not await is pure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pondera.thought import Left as Remains
from pondera.thought import Thought

T = TypeVar("T")
Role = Literal["think", "draft", "judge", "reward"]
Until = Literal["done", "step", "latent", "verdict"] | int


class Op(Generic[T]):
    """A question to the runtime."""

    __slots__ = ()

    def __await__(self) -> Generator[Op[Any], Any, T]:
        answer: T = yield self
        return answer


@dataclass(frozen=True, slots=True)
class Expand(Op[list[Thought]]):
    """Grow `node` by `n` children; answers those that survived (at least one), each at most `max_tokens` long.

    `until`: "done" (the model ends its answer), "step" (the next step boundary), an int (that many tokens), "latent" (that many hops of
    hidden state, for models that have them), or "verdict" (Yes or No, whether the answer is right, by an adapter of models that have
    one). `say` is a user turn put before the continuation; `force` is text that the assistant's turn begins with or goes on with. A
    partial answer is continued, never restarted. `by` names the model's role. `thinking` caps a thinking model's thoughts, in tokens.
    `temperature` 0 is greedy. `stop` strings end the answer and are kept. `bias` adds to the logits of the tokens that words begin with; a
    model that cannot raises Unsupported. `keep` tokens of the budget are not touched, nor the call and the dollars for them, and by no
    verifier either: children that would need them are not asked. As soon as `first` children have come to their own end, if that is
    given, those still being written are cut off, and billed for what they wrote.
    Raises BranchesFailed when every child failed, Unaffordable when none could be asked.
    """

    node: Thought
    n: int = 1
    until: Until = "done"
    say: str = ""
    force: str = ""
    by: Role = "think"
    max_tokens: int = 1024
    thinking: int | None = None
    temperature: float = 0.6
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    bias: tuple[tuple[str, float], ...] = ()
    keep: int = 0
    first: int = 0


class Verdict(float):
    """A score, and in words why: what a reviser is told."""

    why: str

    def __new__(cls, score: float, why: str = "") -> Verdict:
        verdict = super().__new__(cls, score)
        verdict.why = why
        return verdict


@dataclass(frozen=True, slots=True)
class Score(Op["list[Verdict | None]"]):
    """What a verifier thinks of each node: higher is better, a probability where it can be; None where it could not judge.

    A verifier that fails has no opinion of any, and the run goes on; its fault is recorded.
    """

    nodes: tuple[Thought, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Key(Op["list[str | None]"]):
    """Canonical answers, for voting: two thoughts with one key said the same thing; None where there is no answer (it abstains)."""

    nodes: tuple[Thought, ...]


@dataclass(frozen=True, slots=True)
class Call(Op[Thought]):
    """Run a tool on a node and record what it gave, as a child of the node whose reply is the output. Raises CallFailed."""

    node: Thought
    tool: str
    argument: str


@dataclass(frozen=True, slots=True)
class Left(Op[Remains]):
    """What is left of the budget now, and how long the run has taken."""


@dataclass(frozen=True, slots=True)
class Rng(Op[random.Random]):
    """A source of chance that depends on the run's seed and the place in the strategy alone."""


@dataclass(frozen=True, slots=True)
class Offer(Op[None]):
    """The best answer so far: streamed, kept, and returned if the run must stop.

    `confidence`, that it is right, is between 0 and 1, and so is `others`, that another answer that was seen is; `why` says what is done
    next.
    """

    node: Thought
    confidence: float | None = None
    why: str = ""
    others: float | None = None


@dataclass(frozen=True, slots=True)
class Both(Op[list[T]]):
    """Run coroutines side by side; answers the results of those that survived, in order. All end before it does."""

    coros: tuple[Coroutine[Any, Any, T], ...]


def both(*coros: Coroutine[Any, Any, T]) -> Both[T]:
    return Both(coros)


Strategy = Callable[[Thought], Coroutine[Any, Any, Thought]]
Verifier = Callable[[tuple[Thought, ...]], Coroutine[Any, Any, "list[float | None]"]]
"""A verifier is a coroutine over ops too, so that what a judge asks is held, billed, recorded and replayed like all else."""
