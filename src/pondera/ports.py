"""The seams to the world: a model samples, a keyer reads answers, a tool runs. Nothing else in a run does I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pondera.errors import PonderaError
from pondera.ops import Expand
from pondera.thought import Finish, Price, Question, Spend


@dataclass(frozen=True, slots=True)
class Piece:
    """Progress of child `index`: text added since the last piece, and how many tokens it holds. Never recorded."""

    index: int
    text: str
    tokens: int
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """Child `index`, whole. `text` leaves out the forced beginning; `spend` counts prompt, cached, thinking and answer tokens.

    `ids` and `logprobs` are per generated token (empty where the model does not tell). `seconds` and `usd` are the runtime's to fill.
    """

    index: int
    text: str
    finish: Finish
    spend: Spend
    thinking: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    state: object = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Child `index` failed; `spend` is what it cost all the same."""

    index: int
    error: PonderaError
    spend: Spend = Spend()


class Model(Protocol):
    """A language model.

    `name` is recorded with each thought. `price` is None where it is not known (a dollar budget is then refused). `exact` says that
    pieces count every token as it is generated, so that a cancelled call is billed by them; else it is billed at its worst.
    """

    name: str
    price: Price | None
    exact: bool

    def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        """Yield, for each of `op.n == len(seeds)` children, any number of pieces and then one Sample or Failure, in any order.

        Raises a PonderaError for what fails all children that have not ended. Never generates more than `op.max_tokens` a child.
        Closing the iterator frees all that it holds, at the server too.
        """
        ...

    def prompt_bound(self, op: Expand) -> int:
        """An upper bound of the prompt's tokens for one child."""
        ...

    async def close(self) -> None: ...


Keyer = Callable[[Question, Sequence[str]], Awaitable[list[str | None]]]
Tool = Callable[[str], Awaitable[str]]
