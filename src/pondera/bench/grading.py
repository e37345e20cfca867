"""Problems, and who says whether a reply to one is right.

A reply is right when its answer equals the gold one (:mod:`pondera.verifiers.keys`), when its program passes all of `tests`, or when a
scorer gives it 1. A scorer of one's own is a Python function `score(row, reply)` that answers a bool or a number from 0 to 1; it is the
user's code, and trusted.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pondera import unit_tests
from pondera.errors import BadInput, CallFailed
from pondera.plain import digest
from pondera.thought import Question
from pondera.verifiers.keys import grade

Row = Mapping[str, Any]
Scorer = Callable[[Row, str], float]
Check = Callable[["Problem", Sequence[str]], Awaitable[list[float]]]

SURE = 1 - 1e-6  # the least score that is right


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and what it is graded by: `gold` or `tests`. `row` is the whole of what was given, for scorers."""

    id: str
    question: Question
    gold: str = ""
    tests: str = ""
    row: Row = field(default_factory=dict, compare=False)

    @property
    def print(self) -> str:
        """What it asks and how that is graded, in 16 hexadecimal digits."""
        return digest((self.question, self.gold, self.tests))


async def graded(problem: Problem, replies: Sequence[str]) -> list[float]:
    """By the gold answer, or by unit tests where the problem has some."""
    if problem.tests:
        return list(await asyncio.gather(*(_tested(problem.tests, reply) for reply in replies)))
    return [float(right) for right in await grade(problem.question, replies, problem.gold)]


async def _tested(tests: str, reply: str) -> float:
    try:
        told = json.loads(await unit_tests.run(json.dumps({"code": reply, "tests": tests})))
    except CallFailed:  # no program
        return 0.0
    return float(told["passed"] / told["total"])


async def scored(scorer: Scorer, problem: Problem, replies: Sequence[str]) -> list[float]:
    """By a scorer, off the loop: it may take its time. Raises BadInput for one that fails, or answers no number from 0 to 1."""

    def work() -> list[float]:
        return [_number(scorer, problem, reply) for reply in replies]

    return await asyncio.to_thread(work)


def _number(scorer: Scorer, problem: Problem, reply: str) -> float:
    name = getattr(scorer, "__name__", "scorer")
    try:
        score = float(scorer(problem.row, reply))
    except Exception as error:
        raise BadInput(f"The scorer {name} failed on problem {problem.id} ({type(error).__name__}: {error}): mend it, and run again.")
    if not 0.0 <= score <= 1.0:
        raise BadInput(f"The scorer {name} gave {score} for problem {problem.id}: it must give a bool, or a number from 0 to 1.")
    return score


def scorer_of(text: str) -> Scorer:
    """The function that `FILE.py:NAME` names. Raises BadInput."""
    path, _, name = text.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise BadInput(f"{text!r} names no scorer: write FILE.py:FUNCTION, as in scorer='mine.py:score'.")
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"The scorer's file {path} cannot be read ({error.strerror}): give the path of a Python file.")
    module_name = f"pondera_scorer_{digest(source)}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"The scorer's file {path} fails when it is imported ({type(error).__name__}: {error}): mend it.")
    found = getattr(module, name, None)
    if not callable(found):
        raise BadInput(f"{path} has no function {name}: give the name of one that takes a row and a reply.")
    scorer: Scorer = found
    return scorer
