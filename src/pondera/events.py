"""What listeners to a run hear. A side channel: never in the ledger, and it cannot change a strategy's course."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pondera.ports import Piece
from pondera.thought import Spend, Thought


@dataclass(frozen=True, slots=True)
class Asked:
    """Children `keys` were asked of a model, in one call."""

    keys: tuple[str, ...]
    by: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Growing:
    """Text as it comes, of the child `key`."""

    key: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Grown:
    """A child is whole; `spent` is the run's bill so far."""

    thought: Thought
    by: str
    spent: Spend


@dataclass(frozen=True, slots=True)
class Dropped:
    """A branch failed, was lost or was given up."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Offered:
    """The best answer so far."""

    thought: Thought
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Keyed:
    """Answers were read from thoughts: id to key, None where there is none."""

    keys: Mapping[str, str | None]


Event = Asked | Growing | Grown | Dropped | Offered | Keyed
Watch = Callable[[Event], None]
