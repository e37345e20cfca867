"""Tasks: where problems come from, and who says whether an answer is right.

    problems.jsonl                                   a file: `question` and `answer` a line, if wanted `id`, `kind`, `tests`
    file(path='problems.jsonl', kind='exact', scorer='mine.py:score')
    gym(name='gsm_symbolic', n=50, seed=42)          one of reasoning-gym's generators (2025, arXiv 2505.24760), with its scorer
    gsm8k(split='test'), math500, aime24, aime25, amc23      from the model hub, by `datasets`

A reply is right when its answer equals the gold one (:mod:`pondera.verifiers.keys`), when its program passes all of `tests`, or when a
scorer gives it 1. A scorer of one's own is a Python function `score(row, reply)` that answers a bool or a number from 0 to 1; it is the
user's code, and trusted.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pondera import parse, unit_tests
from pondera.errors import BadInput, CallFailed
from pondera.plain import digest
from pondera.thought import Kind, Question
from pondera.verifiers import math
from pondera.verifiers.keys import answers, grade

Row = Mapping[str, Any]
Scorer = Callable[[Row, str], float]
Check = Callable[["Problem", Sequence[str]], Awaitable[list[float]]]

SURE = 1 - 1e-6  # the least score that is right
DEFAULT = "gym(name='gsm_symbolic')"


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


@dataclass(frozen=True, slots=True)
class Task:
    """Problems, read as they are wanted, and how replies are graded: scores from 0 to 1. `text` tells it from others of its name."""

    name: str
    text: str
    problems: Callable[[], Iterator[Problem]]
    check: Check


def task(text: str) -> Task:
    """The task that is named by a text: a call, or the path of a file. Raises BadInput."""
    if text.strip().endswith((".jsonl", ".json")) and "(" not in text:
        return file(path=text.strip())
    made: Task = parse.call(text, TASKS, "task")()
    return made


# ---------------------------------------------------------------- grading


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


# ---------------------------------------------------------------- files


def file(*, path: str = "", name: str = "", kind: str = "", scorer: str = "") -> Task:
    """A file of problems, JSON Lines. `name` is the file's, if none is given; `scorer` is FILE.py:FUNCTION.

    `kind` is what answers are compared as: "math" if it is not given, and "exact" where tests or a scorer grade.
    """
    if not path:
        raise BadInput("The task `file` needs a path, as in file(path='problems.jsonl').")
    check = partial(scored, scorer_of(scorer)) if scorer else graded
    text = ", ".join(part for part in (Path(path).name, kind or "math", scorer) if part)
    return Task(name or Path(path).stem, text, partial(_read, Path(path), _kind(kind), bool(scorer)), check)


def first(n: int, read: Callable[[], Iterator[Problem]]) -> Iterator[Problem]:
    """The first `n` problems of a task, or all of them where that is 0."""
    return islice(read(), n or None)


def _kind(kind: str) -> Kind | None:
    if not kind:
        return None
    if kind not in get_args(Kind):
        raise BadInput(f"kind={kind!r}: answers are compared as {', '.join(get_args(Kind))}.")
    return kind  # type: ignore[return-value]


def _read(path: Path, kind: Kind | None, free: bool) -> Iterator[Problem]:
    """The problems of a file, a line at a time. Raises BadInput, with the line, for what is not as it should be."""
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    problem = problem_of(_object(line, f"{path}, line {number}"), f"{path}, line {number}", str(number), kind, free)
                    if (first := seen.setdefault(problem.id, number)) != number:
                        raise BadInput(f"{path}, line {number}: the id {problem.id!r} is that of line {first} too: give each its own.")
                    yield problem
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): give a file of problems, in JSON Lines.")
    if not seen:
        raise BadInput(f'{path} is empty: give a problem a line, as in {{"question": "What is 2 + 2?", "answer": "4"}}.')


def _object(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise BadInput(f"{where}: this is not a JSON object; mend the line, or remove it.")
    return row


def problem_of(row: Row, where: str, number: str, kind: Kind | None = None, free: bool = False) -> Problem:
    """A row as a problem; `free` ones need no gold answer. Raises BadInput, which begins with `where`."""
    question, gold, tests, name = row.get("question"), row.get("answer", ""), row.get("tests", ""), row.get("id")
    own = row.get("kind") or kind or ("exact" if tests or free else "math")
    if not isinstance(question, str) or not question.strip():
        raise BadInput(f"{where}: `question` is missing, or no text.")
    if isinstance(tests, list):
        tests = "\n".join(map(str, tests))
    if own not in get_args(Kind):
        raise BadInput(f"{where}: `kind` is not one of {', '.join(get_args(Kind))}.")
    plain = not isinstance(gold, bool) and isinstance(gold, str | int | float) and bool(str(gold).strip())
    if not plain and not (isinstance(tests, str) and tests.strip()) and not free:
        raise BadInput(f"{where}: `answer` is missing, or no text or number (and there are no `tests`).")
    if plain and not tests and not free and not _holds(own, str(gold)):
        raise BadInput(f"{where}: the answer {str(gold)[:80]!r} holds none that could be compared.")
    try:
        asked = Question.of(question, kind=own)
    except BadInput as error:
        raise BadInput(f"{where}: {error}")
    return Problem(number if name is None else str(name), asked, str(gold) if plain else "", str(tests), row)


def _holds(kind: Kind, gold: str) -> bool:
    """Whether a gold answer can be compared."""
    if kind == "math":
        return math.canonical(math.literal(gold) or gold) is not None
    return answers(kind, [gold]) != [None]


# ---------------------------------------------------------------- generators


def gym(*, name: str = "gsm_symbolic", n: int = 50, seed: int = 42) -> Task:
    """`n` problems that one of reasoning-gym's generators makes, graded by its own scorer."""
    try:
        with warnings.catch_warnings():  # of Python, when it first compiles what that library depends on
            warnings.simplefilter("ignore", SyntaxWarning)
            import reasoning_gym
            from reasoning_gym.factory import DATASETS
    except ImportError:
        raise BadInput("reasoning-gym is not here: install it with pip install 'pondera[bench]', or give a file of problems.")
    if name not in DATASETS:
        near = parse.nearest(name, DATASETS)
        raise BadInput(
            f"reasoning-gym has no task {name!r}{near}; it has {len(DATASETS)}, such as chain_sum, gsm_symbolic, knights_knaves."
        )
    if n < 1:
        raise BadInput(f"n={n} is no number of problems: give 1 or more.")
    made = reasoning_gym.create_dataset(name, size=n, seed=seed)

    def problems() -> Iterator[Problem]:
        for i in range(n):
            entry = made[i]
            gold = str(entry["answer"])
            kind: Kind = "math" if math.number(gold) is not None else "exact"
            yield Problem(f"{name}-{seed}-{i}", Question.of(entry["question"], kind=kind), gold, row={"index": i})

    def score(row: Row, reply: str) -> float:
        try:
            return float(made.score_answer(answer=reply, entry=made[row["index"]]))
        except Exception:  # several of its scorers fail on what is no answer to their problem: it is none
            return 0.0

    async def check(problem: Problem, replies: Sequence[str]) -> list[float]:
        said = answers(problem.question.kind, replies)
        known = [text for text in said if text is not None]
        scores = iter(await scored(score, problem, known))
        return [0.0 if text is None else next(scores) for text in said]

    return Task(name, f"reasoning-gym {name}, seed {seed}", problems, check)


def hub(repo: str, config: str | None, split: str, fields: tuple[str, str]) -> Task:
    """A data set of the model hub: the rows of a split, `fields` being the names of question and answer there."""

    def problems() -> Iterator[Problem]:
        try:
            from datasets import load_dataset  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise BadInput("The library `datasets` is not here: install it with pip install 'pondera[bench]', or give a file of problems.")
        try:
            rows: Iterable[Row] = load_dataset(repo, config, split=split)
        except Exception as error:  # the library raises whatever its layers do
            what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
            raise BadInput(f"{repo} cannot be fetched from the model hub ({what[:200]}): try again, or give a file of problems.")
        question, answer = fields
        for i, row in enumerate(rows):
            named = {**row, "question": row[question], "answer": row[answer], "id": f"{repo}-{i}"}
            yield problem_of(named, f"{repo}, row {i}", str(i), "math")

    return Task(repo.rpartition("/")[2], f"{repo}, {split}", problems, graded)


def gsm8k(*, split: str = "test") -> Task:
    """GSM8K, Cobbe et al. 2021 (arXiv 2110.14168), from the hub."""
    return hub("openai/gsm8k", "main", split, ("question", "answer"))


def math500() -> Task:
    """MATH-500: the test problems of Lightman et al. 2023 (arXiv 2305.20050), from the hub."""
    return hub("HuggingFaceH4/MATH-500", None, "test", ("problem", "answer"))


def aime24() -> Task:
    """The American Invitational Mathematics Examination of 2024, from the hub."""
    return hub("HuggingFaceH4/aime_2024", None, "train", ("problem", "answer"))


def aime25() -> Task:
    """The American Invitational Mathematics Examination of 2025, from the hub."""
    return hub("math-ai/aime25", None, "test", ("problem", "answer"))


def amc23() -> Task:
    """The American Mathematics Competitions of 2023, from the hub."""
    return hub("math-ai/amc23", None, "test", ("question", "answer"))


TASKS: parse.Table = {f.__name__: f for f in (file, gym, gsm8k, math500, aime24, aime25, amc23)}
