"""The purse of a run: what is spent, what is held for calls in flight, and what may still be asked.

A call is admitted only when its worst case fits into what is left, and the worst case is held until its bill is known; so a cap is
hard however many calls are in flight. Refunds come back by sample, not by call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pondera.thought import Budget, Left, Price, Spend

FLOOR = 64  # tokens; where less than a wanted length is left, a last branch this long or longer is still worth asking


@dataclass(frozen=True, slots=True)
class Hold:
    """The worst that one child may cost."""

    tokens: int
    usd: float
    calls: int = 1


NOTHING = Hold(0, 0.0, 0)


@dataclass(slots=True)
class Purse:
    budget: Budget
    spent: Spend = field(default_factory=Spend)
    held_tokens: int = 0
    held_calls: int = 0
    held_usd: float = 0.0

    def worst(self, tokens: int, prompt: int, price: Price | None) -> Hold:
        """The hold for a child of at most `tokens`; `prompt` is an upper bound of its prompt's tokens."""
        return Hold(tokens, _dearest(price, prompt, tokens) if price else 0.0)

    def affords(self, hold: Hold, spare: Hold = NOTHING) -> bool:
        """Whether `hold` fits into what is left, beside what is to be spared."""
        return (
            self.spent.tokens + self.held_tokens + hold.tokens + spare.tokens <= self.budget.tokens
            and self.spent.calls + self.held_calls + hold.calls + spare.calls <= self.budget.calls
            and self.spent.usd + self.held_usd + hold.usd + spare.usd <= self.budget.usd
        )

    def longest(self, wanted: int, prompt: int, price: Price | None, spare: Hold = NOTHING) -> int:
        """The most tokens, at most `wanted` and beside `spare`, that one more child may be given; 0 where too few to be worth a call.

        A first child is worth it whatever is left.
        """
        least = min(wanted, FLOOR) if self.spent.calls else 1
        tokens = float(min(wanted, self.budget.tokens - self.spent.tokens - self.held_tokens - spare.tokens))
        if price and math.isfinite(self.budget.usd) and price.generated > 0:
            rest = self.budget.usd - self.spent.usd - self.held_usd - spare.usd - _dearest(price, prompt, 0)
            tokens = min(tokens, max(0.0, rest) * 1e6 / price.generated)
        whole = max(0, math.floor(tokens))
        while whole >= least and not self.affords(self.worst(whole, prompt, price), spare):
            whole -= 1 if self.affords(self.worst(whole - 1, prompt, price), spare) else whole  # one off by rounding, or out of reach
        return whole if whole >= least else 0

    def hold(self, hold: Hold) -> None:
        self.held_tokens += hold.tokens
        self.held_calls += hold.calls
        self.held_usd += hold.usd

    def settle(self, hold: Hold, bill: Spend) -> None:
        """Give back the hold and take what the child did cost."""
        self.held_tokens -= hold.tokens
        self.held_calls -= hold.calls
        self.held_usd = self.held_usd - hold.usd if self.held_calls else 0.0
        self.spent = self.spent + bill

    def left(self, seconds: float) -> Left:
        """What is left beside what is held; `seconds` until the deadline."""
        return Left(
            max(0.0, self.budget.tokens - self.spent.tokens - self.held_tokens),
            max(0.0, self.budget.calls - self.spent.calls - self.held_calls),
            max(0.0, self.budget.usd - self.spent.usd - self.held_usd),
            max(0.0, seconds),
            self.spent.usd,
        )


def _dearest(price: Price, prompt: int, tokens: int) -> float:
    """Dollars at most, whatever part of the prompt is found in a cache: that may cost more than to compute it."""
    return max(price.of(prompt, 0, tokens), price.of(prompt, prompt, tokens))
