"""Tasks: where problems come from, and who grades what is said to them.

    problems.jsonl                                   a file: `question` and `answer` a line, if wanted `id`, `kind`, `tests`
    file(path='problems.jsonl', kind='exact', scorer='mine.py:score')
    gym(name='gsm_symbolic', n=50, seed=42)          one of reasoning-gym's generators (2025, arXiv 2505.24760), with its scorer
    gsm8k(split='test'), math500, aime24, aime25, amc23      from the model hub, by `datasets`

How replies are graded is told in :mod:`pondera.bench.grading`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import get_args

from pondera import parse
from pondera.bench.grading import Check, Problem, Row, graded, scored, scorer_of
from pondera.errors import BadInput
from pondera.plain import json_object
from pondera.thought import Kind, Question
from pondera.verifiers import math
from pondera.verifiers.keys import answers

DEFAULT = "gym(name='gsm_symbolic')"


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
                    where = f"{path}, line {number}"
                    problem = problem_of(json_object(line, where), where, str(number), kind, free)
                    if (first := seen.setdefault(problem.id, number)) != number:
                        raise BadInput(f"{where}: the id {problem.id!r} is that of line {first} too: give each its own.")
                    yield problem
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): give a file of problems, in JSON Lines.")
    if not seen:
        raise BadInput(f'{path} is empty: give a problem a line, as in {{"question": "What is 2 + 2?", "answer": "4"}}.')


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
