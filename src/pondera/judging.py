"""What a run makes of a verifier's words: scores that can be compared, or no opinion and the reason."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any

from pondera.errors import PonderaError, VerifierError
from pondera.ops import Score, Verdict, Verifier
from pondera.thought import Thought

LARGEST = 1e100  # of a score


async def guarded(verifier: Verifier, nodes: tuple[Thought, ...]) -> list[float | None]:
    """A verifier's scores. Whatever goes wrong in one, which may be anybody's, is its failure and not the run's."""
    try:
        return await verifier(nodes)
    except PonderaError:
        raise
    except Exception as error:
        raise VerifierError(f"{type(error).__name__}: {error}") from error


def judged(op: Score, value: Any, error: BaseException | None) -> tuple[list[Verdict | None], str]:
    """One verdict a node, and what went wrong where none could be had."""
    if error is None and (not isinstance(value, list) or len(value) != len(op.nodes)):
        error = VerifierError(f"it gave {reprlib.repr(value)} for {len(op.nodes)} nodes, where one score a node is wanted")
    if error is not None:
        return [None] * len(op.nodes), f"The verifier {op.by!r} failed: {error}"
    return verdicts(value), ""


def verdicts(values: Sequence[float | None], whys: Sequence[str] = ()) -> list[Verdict | None]:
    """Scores that can be compared, each with its reasons; what is no number, or one too large to be added, is no opinion."""
    told = whys or [getattr(value, "why", "") for value in values]
    pairs = zip(values, told, strict=True)
    return [Verdict(float(value), why) if isinstance(value, Real) and -LARGEST <= value <= LARGEST else None for value, why in pairs]


def to_json(scores: Sequence[Verdict | None]) -> dict[str, Any]:
    """Scores, and their reasons where there are any, as a ledger keeps them."""
    whys = [score.why if score is not None else "" for score in scores]
    return {"value": list(scores), **({"why": whys} if any(whys) else {})}
