"""What judges thoughts. A verifier is a coroutine over ops, `async def v(nodes) -> list[float | None]`; here are those with a name.

`VERIFIERS` maps names to factories, whose keyword arguments are the configuration; other packages add theirs by an entry point in the
group "pondera.verifiers". Answer keys and grading are in :mod:`pondera.verifiers.keys`.
"""

from __future__ import annotations

import re

from pondera import parse
from pondera.verifiers.alone import alone
from pondera.verifiers.code import code
from pondera.verifiers.combine import logistic, mean, product, weighted
from pondera.verifiers.confidence import confidence, lowest, tail
from pondera.verifiers.gold import equals
from pondera.verifiers.judge import judge
from pondera.verifiers.learned import learned
from pondera.verifiers.orm import orm
from pondera.verifiers.pairwise import pairwise
from pondera.verifiers.reward import reward
from pondera.verifiers.second import second

__all__ = ["VERIFIERS", "confidence", "judge", "lowest", "of_pools", "tail"]

_OURS = (alone, code, confidence, judge, learned, logistic, lowest, mean, orm, pairwise, product, reward, second, tail, weighted)
VERIFIERS = parse.registry({"math": equals} | {function.__name__: function for function in _OURS}, "pondera.verifiers")


def of_pools(verifier: str) -> bool:
    """Whether a verifier, by its name, judges answers beside each other: its score of one depends on what else it was shown."""
    return bool(re.search(r"\b(learned|pairwise)\b", verifier))
