"""What is billed, counted in one way for all: a prompt once for each request, however many choices follow it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, dataclass, replace

from pondera.ops import Expand
from pondera.ports import Failure, Model, Piece, Sample


@dataclass(slots=True)
class Tally:
    """Requests that ended, their choices, and tokens. `computed` is the part of the prompts that was not in the cache.

    `open` requests have not ended, and are not counted yet.
    """

    requests: int = 0
    choices: int = 0
    prompt: int = 0
    cached: int = 0
    computed: int = 0
    completion: int = 0
    open: int = 0

    def add(self, choices: int, prompt: int, cached: int, completion: int) -> None:
        self.requests += 1
        self.choices += choices
        self.prompt += prompt
        self.cached += cached
        self.computed += prompt - cached
        self.completion += completion

    def copy(self) -> Tally:
        return replace(self)

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Metered:
    """A model whose calls are counted as the server counts requests."""

    def __init__(self, model: Model) -> None:
        self.model, self.tally = model, Tally()
        self.name, self.price, self.exact = model.name, model.price, model.exact

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        tokens, cached = [0] * op.n, []
        said = self.model.sample(op, seeds)
        try:
            async for one in said:
                if isinstance(one, Piece):
                    tokens[one.index] += one.tokens
                else:
                    tokens[one.index] = one.spend.tokens
                    cached.append(one.spend.cached)
                yield one
        finally:
            await said.aclose()  # type: ignore[attr-defined]
            known = min(cached, default=0) if len(cached) == op.n else 0  # what was cut off does not say
            self.tally.add(op.n, self.model.prompt_bound(op), known, sum(tokens))

    def prompt_bound(self, op: Expand) -> int:
        return self.model.prompt_bound(op)

    async def close(self) -> None:
        await self.model.close()
