"""What judges thoughts. A verifier is a coroutine over ops, `async def v(nodes) -> list[float | None]`; here are those with a name.

`VERIFIERS` maps names to factories, whose keyword arguments are the configuration; other packages add theirs by an entry point in the
group "pondera.verifiers". Answer keys and grading are in :mod:`pondera.verifiers.keys`.
"""

from __future__ import annotations

from pondera import parse
from pondera.verifiers.confidence import confidence, lowest, tail
from pondera.verifiers.judge import judge

__all__ = ["VERIFIERS", "confidence", "judge", "lowest", "tail"]

VERIFIERS = parse.registry({"confidence": confidence, "judge": judge, "lowest": lowest, "tail": tail}, "pondera.verifiers")
