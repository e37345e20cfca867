"""Files of labelled samples, and the scores that were given to them: JSON Lines both.

A line of samples is a problem, `{"question", "samples": [{"text", "correct"}, ...]}`, or one sample, `{"question", "text", "correct"}`;
samples of one question belong together. Where `correct` is missing, `answer` has the gold answer that they are graded by. A problem may
name its `kind` of answer, a sample its tokens' `logprobs`.

A file of scores has a head, which says how they were made, and a line for each problem that is done. A last line that was cut is made
again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pondera.errors import BadInput, LedgerError
from pondera.plain import digest, json_object, spend_to_json
from pondera.thought import Kind, Question, Spend, Thought, root_of


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sample, and whether it is right: None where that is still to be graded."""

    text: str
    correct: bool | None
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its samples; `gold` grades those that have no label. `line` is where it begins in the file."""

    line: int
    question: Question
    samples: tuple[Labelled, ...]
    gold: str = ""

    @property
    def print(self) -> str:
        """What it asks and of what, in 16 hexadecimal digits."""
        return digest((self.question, [(s.text, s.correct, s.logprobs) for s in self.samples], self.gold))

    def thoughts(self) -> tuple[Thought, ...]:
        """The samples as answers to the question."""
        root = root_of(self.question)
        return tuple(
            Thought(f"0.s/{i}", root, text=s.text, finish="done", tokens=len(s.logprobs), logprobs=s.logprobs)
            for i, s in enumerate(self.samples)
        )


def read(file: Path, kind: Kind = "math") -> list[Problem]:
    """The problems of a file. Raises BadInput, with the line, for what is not as it should be."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}): give a file of labelled samples, in JSON Lines.")
    whole: dict[tuple[str, Kind, str], Problem] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem = _problem(file, number, line, kind)
        key = (problem.question.text, problem.question.kind, problem.gold)
        old = whole.get(key)
        whole[key] = replace(old, samples=old.samples + problem.samples) if old else problem
    if not whole:
        raise BadInput(f'{file} is empty: give a problem a line, as in {{"question": ..., "samples": [{{"text": ..., "correct": true}}]}}.')
    return list(whole.values())


def _problem(file: Path, number: int, line: bytes, kind: Kind) -> Problem:
    def wrong(what: str) -> BadInput:
        return BadInput(f"{file}, line {number}: {what}.")

    row = json_object(line, f"{file}, line {number}")
    question, gold, kind = row.get("question"), row.get("answer", ""), row.get("kind", kind)
    if not isinstance(question, str) or not question.strip():
        raise wrong("`question` is missing, or no text")
    if kind not in get_args(Kind):
        raise wrong(f"`kind` is not one of {', '.join(get_args(Kind))}")
    rows = row.get("samples", [row] if "text" in row else None)
    if not isinstance(rows, list) or not rows:
        raise wrong("`samples` is missing, or no list of samples (or `text`, for a line with one)")
    samples = tuple(_sample(one, wrong) for one in rows)
    if any(sample.correct is None for sample in samples) and (
        isinstance(gold, bool) or not isinstance(gold, str | int | float) or not str(gold).strip()
    ):
        raise wrong("a sample has no `correct` (true or false), and the problem no `answer` to grade it by")
    graded = any(sample.correct is None for sample in samples)
    try:
        return Problem(number, Question.of(question, kind=kind), samples, str(gold) if graded else "")
    except BadInput as error:
        raise wrong(str(error).removesuffix("."))


def _sample(row: Any, wrong: Any) -> Labelled:
    row = {"text": row} if isinstance(row, str) else row
    if not isinstance(row, Mapping) or not isinstance(row.get("text"), str):
        raise wrong("a sample's `text` is missing, or no text")
    correct, logprobs = row.get("correct"), row.get("logprobs") or []
    if correct not in (None, True, False):  # 0 and 1 too
        raise wrong("a sample's `correct` is neither true nor false")
    if not isinstance(logprobs, list) or not all(isinstance(p, int | float) and -1e300 < p < 1e300 for p in logprobs):
        raise wrong("a sample's `logprobs` is no list of numbers")
    return Labelled(row["text"], None if correct is None else bool(correct), tuple(map(float, logprobs)))


# ---------------------------------------------------------------- scores


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a problem: a score and a label for each sample, the bill, and in words why scores are missing."""

    print: str
    scores: tuple[float | None, ...]
    correct: tuple[bool, ...]
    spend: Spend = field(default_factory=Spend)
    cut: tuple[str, ...] = ()


@dataclass(slots=True)
class Scores:
    """Scores by problem, in memory and in a file where one is given."""

    path: Path | None = None
    done: dict[str, Scored] = field(default_factory=dict)

    def add(self, scored: Scored) -> None:
        """Keep, and write. Raises LedgerError."""
        self.done[scored.print] = scored
        body = {"print": scored.print, "scores": scored.scores, "correct": scored.correct, "cut": scored.cut}
        self._write(body | {"spend": spend_to_json(scored.spend)})

    def _write(self, body: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(body) + "\n")
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be written ({error.strerror}): make room, or give another file; what was written is safe."
            )


def reopen(path: Path | None, head: Mapping[str, Any]) -> Scores:
    """The scores of a file, to be gone on with; a file that is not there is begun.

    Raises BadInput where it was made in another way than `head` says, and LedgerError where it cannot be used.
    """
    scores = Scores(path)
    if path is None:
        return scores
    try:
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        rows = list(_rows(whole))
        if len(rows) == 1 and isinstance(rows[0], dict) and rows[0].get("scores") == head.get("scores"):
            whole, rows = b"", []  # nothing was scored: it was begun with a name that was wrong, perhaps
        if rows and rows[0] != dict(head):
            raise BadInput(f"{path} holds scores that were made in another way ({_difference(rows[0], head)}): give another file.")
        if len(whole) < len(data):
            with path.open("rb+") as file:
                file.truncate(len(whole))
        if not rows:
            scores._write(head)
        for row in rows[1:]:
            one = Scored(row["print"], tuple(row["scores"]), tuple(row["correct"]), Spend(**row["spend"]), tuple(row["cut"]))
            scores.done[one.print] = one
    except OSError as error:
        raise LedgerError(f"{path} cannot be used ({error.strerror}): give a path that can be written.")
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{path} is no file of scores that --out wrote: give another file.")
    return scores


def _rows(data: bytes) -> Iterator[Any]:
    for line in data.splitlines():
        yield json.loads(line)


def _difference(old: Any, new: Mapping[str, Any]) -> str:
    if not isinstance(old, dict):
        return "it has no head"
    named = [name for name in new if old.get(name) != new[name]]
    return ", ".join(f"{name} {old.get(name)!r}, not {new[name]!r}" for name in named) or "another version"
