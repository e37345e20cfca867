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
    """Jobs that begin alike, with what they have in common."""
    found: list[tuple[list[J], list[int]]] = []
    for job in sorted(jobs, key=lambda job: job.prompt):
        if found:
            members, shared = found[-1]
            alike = common(shared, job.prompt)
            if alike == len(shared) == len(job.prompt) or alike >= max(TOGETHER, len(shared) // 2):
                members.append(job)
                found[-1] = (members, shared[:alike])
                continue
        found.append(([job], job.prompt))
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
