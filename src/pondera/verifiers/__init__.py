"""What judges thoughts. A verifier is a coroutine over ops, `async def v(nodes) -> list[float | None]`; here are those with a name.

`VERIFIERS` maps names to factories, whose keyword arguments are the configuration; other packages add theirs by an entry point in the
group "pondera.verifiers". Answer keys and grading are in :mod:`pondera.verifiers.keys`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points

from pondera.errors import BadInput
from pondera.ops import Verifier
from pondera.verifiers.confidence import confidence, lowest, tail
from pondera.verifiers.judge import judge

__all__ = ["GROUP", "VERIFIERS", "confidence", "describe", "find", "judge", "lowest", "tail"]

GROUP = "pondera.verifiers"

VERIFIERS: dict[str, Callable[..., Verifier]] = {"confidence": confidence, "judge": judge, "lowest": lowest, "tail": tail}


def find(name: str) -> Callable[..., Verifier]:
    """The factory of this name, our own first. Raises BadInput, with the nearest name there is."""
    if name in VERIFIERS:
        return VERIFIERS[name]
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name not in others:
        near = difflib.get_close_matches(name, known := sorted({*VERIFIERS, *others}), 1)
        raise BadInput(
            f"There is no verifier {name[:80]!r}: " + (f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}.")
        )
    try:
        factory = others[name].load()
    except Exception as error:
        raise BadInput(
            f"The verifier {name!r} of {others[name].value!r} cannot be loaded ({type(error).__name__}): mend its package."
        ) from None
    if not callable(factory):
        raise BadInput(f"The verifier {name!r} of {others[name].value!r} is not a function that makes a verifier: mend its package.")
    found: Callable[..., Verifier] = factory
    return found


def describe() -> dict[str, str]:
    """One line about each verifier of our own, by name: the first of its docstring."""
    return {name: (inspect.getdoc(factory) or "").partition("\n")[0] for name, factory in sorted(VERIFIERS.items())}
