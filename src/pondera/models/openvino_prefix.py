"""What prompts have in common, and how much of one the engine's prefix cache holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, TypeVar

BLOCK = 32  # tokens in a block of the KV cache on a CPU
TOGETHER = 2 * BLOCK  # a common beginning of this many tokens is worth a request of its own


class Prompted(Protocol):
    @property
    def prompt(self) -> list[int]: ...


J = TypeVar("J", bound=Prompted)


def families(jobs: Sequence[J]) -> list[tuple[list[J], list[int]]]:
    """Jobs that begin alike, with what they have in common.

    Equal prompts are a family of their own. Different ones that begin alike are one too, as long as each takes little away from what the
    others share.
    """
    same: dict[tuple[int, ...], list[J]] = {}
    for job in jobs:
        same.setdefault(tuple(job.prompt), []).append(job)
    found: list[tuple[list[J], list[int]]] = [(twins, twins[0].prompt) for twins in same.values() if len(twins) > 1]
    open_family: tuple[list[J], list[int]] | None = None
    for job in sorted((twins[0] for twins in same.values() if len(twins) == 1), key=lambda job: job.prompt):
        if open_family:
            members, shared = open_family
            alike = common(shared, job.prompt)
            if alike >= TOGETHER and (len(members) == 1 or alike >= 0.9 * len(shared)):
                open_family = found[-1] = ([*members, job], shared[:alike])
                continue
        open_family = ([job], job.prompt)
        found.append(open_family)
    return found


def common(one: list[int], other: list[int]) -> int:
    """The length of what two lists begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


class Known:
    """A mirror of the pipeline's table of cached blocks, to count how much of a prompt it need not compute.

    The pipeline does not tell; its rule is to take full blocks from the beginning on, then the shortest partly filled one that some
    request ended with. The least recently used are forgotten first, there and here.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.blocks: OrderedDict[int, None] = OrderedDict()

    def cached(self, ids: Sequence[int]) -> int:
        """How many of the first tokens are cached."""
        chain, done = 0, 0
        while done + BLOCK <= len(ids) and (link := hash((chain, *ids[done : done + BLOCK]))) in self.blocks:
            self.blocks.move_to_end(link)
            chain, done = link, done + BLOCK
        for end in range(done + 1, min(done + BLOCK, len(ids) + 1)):
            if hash((chain, *ids[done:end])) in self.blocks:
                return end
        return done

    def add(self, ids: Sequence[int]) -> None:
        """A request that held these tokens ended."""
        chain = 0
        for start in range(0, len(ids), BLOCK):
            chain = hash((chain, *ids[start : start + BLOCK]))
            self.blocks[chain] = None
            self.blocks.move_to_end(chain)
        while len(self.blocks) > self.room:
            self.blocks.popitem(last=False)
