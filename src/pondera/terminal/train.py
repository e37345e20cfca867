"""`pondera verifier train`: sample a model on questions whose answers are known, and fit the learned verifier to what it said.

Every answer is on disk before it is counted (`--pools`, one file for all questions): a training that was ended goes on where it was, and
another fit to the same answers costs nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pondera import ledger
from pondera.errors import BadInput, LedgerError, PonderaError
from pondera.models.known import DEFAULT
from pondera.terminal.given import Quiet
from pondera.terminal.recorded import on_disk
from pondera.terminal.text import INTERRUPTED, console, emit
from pondera.terminal.verify import verifier_app
from pondera.thought import Answer, Question, Thought

if TYPE_CHECKING:
    from pondera.ops import Strategy
    from pondera.plan import Plan
    from pondera.ports import Model
    from pondera.runtime import Run
    from pondera.verifiers.calibration import Report
    from pondera.verifiers.fit import Pool


__all__ = ["verifier_app"]  # with both of its commands


@verifier_app.command("train", epilog="Example:  pondera verifier train gsm8k_train.jsonl --pools pools.db --out mine.json")
def train(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines: `question` and `answer`, a problem a line.")],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="The fitted verifier, to be named as learned(fit='FILE.json').")],
    pools: Annotated[Path, typer.Option(metavar="FILE.db", help="The answers; what is there is not sampled again.")] = Path("pools.db"),
    model: Annotated[str, typer.Option("--model", "-m", help="Who answers: a name of `pondera models`, a path, or NAME@URL.")] = DEFAULT,
    judge: Annotated[str, typer.Option(metavar="MODEL", help="The model of the judge, where it is another one.")] = "",
    ask: Annotated[list[str] | None, typer.Option(help="A verifier whose scores are signals too, as in --ask 'second(n=4)'.")] = None,
    questions: Annotated[int, typer.Option(help="How many questions, from the first on.")] = 200,
    n: Annotated[int, typer.Option(help="Answers to each.")] = 16,
    seed: Annotated[int, typer.Option(help="Another seed, other answers.")] = 0,
    at_once: Annotated[int, typer.Option(help="Questions side by side.")] = 4,
    quiet: Quiet = False,
) -> None:
    """Fit the learned verifier to a model and its questions: sample, grade, learn; figures are of held-out questions."""
    import asyncio

    from pondera.plan import Plan

    if questions < 1 or n < 2 or at_once < 1:
        raise BadInput("--questions and --at-once are 1 or more, and --n is 2 or more: answers are judged beside each other.")
    plan = Plan(model=model, judge=judge, strategy=f"vote(n={n})")
    work = Training(plan, _problems(file)[:questions], pools, tuple(dict.fromkeys(ask or ())), seed)
    _writable(out, file, pools)
    _checked(work)
    if not asyncio.run(_sample(work, at_once, quiet)):
        typer.echo(f"Stopped: {len(work.done)} of {len(work.problems)} questions are in {pools}; the same command goes on.", err=True)
        raise typer.Exit(INTERRUPTED)
    _heard(work)
    _fit(work, out, file)


@dataclass(eq=False, slots=True)
class Training:
    """What is to be learned from, and the pools that are whole."""

    plan: Plan
    problems: list[tuple[Question, str]]
    file: Path
    asks: tuple[str, ...]
    seed: int
    done: dict[str, Pool] = field(default_factory=dict)
    lost: list[PonderaError] = field(default_factory=list)  # why questions have no pool

    def run_of(self, question: Question) -> str:
        """The name of a question's run in the file: another model, strategy or seed is another run."""
        told = [self.plan.model, self.plan.strategy, self.seed, question.text]
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def _problems(file: Path) -> list[tuple[Question, str]]:
    """Questions and their gold answers. Raises BadInput with the line of what is wrong."""
    with on_disk(file):
        lines = file.read_bytes().splitlines()
    found: dict[str, tuple[Question, str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            question, answer = row["question"], row["answer"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadInput(f"Line {number} of {file} has no `question` and `answer`: each line is a JSON object with both.")
        right = isinstance(question, str) and isinstance(answer, str | int | float) and not isinstance(answer, bool)
        if not right or not question.strip() or not str(answer).strip():
            raise BadInput(f"Line {number} of {file}: `question` is a text, and `answer` a text or a number.")
        found.setdefault(question, (Question.of(question), str(answer)))  # one pool each: the first line counts
    if not found:
        raise BadInput(f"{file} holds no problems: give JSON Lines with `question` and `answer`.")
    return list(found.values())


def _writable(out: Path, *others: Path) -> None:
    """Raises BadInput now, and not after hours of sampling, where the fit cannot be written or would replace what it is made from."""
    if others[-1].suffix == ".jsonl":
        raise BadInput(f"--pools {others[-1]} is to hold many runs, which JSON Lines cannot: name a database, such as pools.db.")
    if any(out.resolve() == other.resolve() for other in others):
        raise BadInput(f"--out {out} is a file that the fit is made from: give another one.")
    if out.is_dir() or not out.parent.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise BadInput(f"--out {out} cannot be written: give a file in a folder that is there.")


def _checked(work: Training) -> None:
    """What is wrong with names is said before a model is opened."""
    from pondera import parse
    from pondera.verifiers import VERIFIERS
    from pondera.verifiers.fit import sklearn

    sklearn("linear_model")
    for ask in work.asks:
        parse.call(ask, VERIFIERS, "verifier")()
    work.plan.run({})


# ---------------------------------------------------------------- sampling


async def _sample(work: Training, at_once: int, quiet: bool) -> bool:
    """Make every pool that the file lacks. Says whether all are there: Ctrl-C ends it before."""
    from pondera.terminal.batch import side_by_side
    from pondera.verifiers.keys import grade

    for question, gold in work.problems:
        try:
            await grade(question, [], gold)
        except BadInput as error:
            raise BadInput(f"{question.text[:60]!r}: {error}")

    async def sample(problem: tuple[Question, str], models: Mapping[str, Model]) -> None:
        if pool := await _pool(work, models, *problem):
            work.done[work.run_of(problem[0])] = pool

    return await side_by_side(work.plan, work.problems, sample, verb="sampling", at_once=at_once, quiet=quiet)


async def _pool(work: Training, models: Mapping[str, Model], question: Question, gold: str) -> Pool | None:
    """One question's answers, asked for or read, with their signals and what is right. None where every branch failed."""
    from pondera.verifiers.fit import Pool
    from pondera.verifiers.keys import grade
    from pondera.verifiers.learned import asked
    from pondera.verifiers.signals import signals

    run = work.plan.run(models, seed=work.seed)
    columns: list[list[float]] = []

    async def look(root: Thought) -> Thought:
        columns.extend(await asked(work.asks, nodes, keys))
        return answer.thought

    try:
        answer = await recorded(work, run, question, work.plan.strategy_of(), work.run_of(question))
        nodes = tuple(candidate.thought for candidate in answer.candidates)
        keys = [candidate.key for candidate in answer.candidates]
        if work.asks:
            await recorded(work, run, question, look, f"{work.run_of(question)} {' '.join(work.asks)} {work.plan.judge}")
    except PonderaError as error:
        if isinstance(error, BadInput | LedgerError):
            raise
        work.lost.append(error)
        return None
    rows = signals(nodes, keys)
    right = await grade(question, [node.reply if key is not None else "" for node, key in zip(nodes, keys, strict=True)], gold)
    whole = [[*row, *(column[i] for column in columns)] for i, row in enumerate(rows)]
    return Pool(whole, keys, [ok and key is not None for ok, key in zip(right, keys, strict=True)])


async def recorded(work: Training, run: Run, question: Question, strategy: Strategy, name: str) -> Answer:
    """A run whose ledger is in the file, gone on with where it ended; one whose every sample failed is made anew under another name."""
    with on_disk(work.file):
        rows = ledger.read(work.file, name) if work.file.exists() else []
        while (told := {row.body["status"] for row in rows if row.kind == "sample"}) and "answered" not in told:
            name += "+"
            rows = ledger.read(work.file, name)
        record = ledger.reopen(work.file, name) if rows else ledger.create(work.file, name)
    try:
        if rows and not any(row.kind == "answer" for row in rows):
            record.append("resume", "0", {})
        return await run.solve(question, strategy, ledger=record)
    finally:
        record.close()


# ---------------------------------------------------------------- learning


def _heard(work: Training) -> None:
    """Raises what kept all questions from having a pool; says how many have none, and which verifier scored nothing."""
    from pondera.verifiers.signals import NAMES

    if work.lost and not work.done:
        raise work.lost[0]
    if work.lost:
        typer.echo(f"{len(work.lost)} of {len(work.problems)} questions are left out: {work.lost[0]}", err=True)
    for k, ask in enumerate(work.asks, len(NAMES)):
        if all(math.isnan(row[k]) for pool in work.done.values() for row in pool.rows):
            typer.echo(f"{ask} scored no answer: see that its model can be asked, and give the same command again.", err=True)


def _fit(work: Training, out: Path, file: Path) -> None:
    from rich.table import Table

    from pondera.verifiers.fit import fit, votes

    names = [work.run_of(question) for question, _ in work.problems]
    pools = [work.done[name] for name in names if name in work.done]  # in the order of the file: folds go by it
    card = {"model": work.plan.model, "judge": work.plan.judge, "data": file.name, "strategy": work.plan.strategy, "seed": work.seed}
    made, told = fit(pools, work.asks, card | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()})
    head = ("right", "AUROC", "within a question", "Brier")
    lines = {"this fit": _figures(told), "the vote": _figures(votes(pools))}
    made = replace(made, card={**made.card, "held out": {name: dict(zip(head, line, strict=True)) for name, line in lines.items()}})
    with on_disk(out):
        made.save(out)
    table = Table("chosen by", *head, box=None, padding=(0, 2, 0, 0))
    for name, line in lines.items():
        table.add_row(name, *line)
    screen = console()
    screen.print(table)
    chance, ceiling = (told.choice.chance, told.choice.ceiling) if told.choice else (0.0, 0.0)
    screen.print(f"Of {len(pools)} questions, held out in turn; one answer is right in {chance:.1%}, some answer in {ceiling:.1%}.")
    heavy = sorted(zip(made.weights, made.names, strict=True), key=lambda pair: -abs(pair[0]))[:6]
    screen.print("Heaviest signals: " + ", ".join(f"{name} {weight:+.2f}" for weight, name in heavy))
    emit(str(out))


def _figures(told: Report) -> tuple[str, ...]:
    best = told.choice.best if told.choice else None
    share = f"{best.value:.1%} [{best.low:.1%}, {best.high:.1%}]" if best else "none"
    return (share, *(f"{one.value:.3f}" if one else "none" for one in (told.auroc, told.within, told.brier)))
