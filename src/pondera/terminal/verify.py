"""`pondera verifier check`: a verifier on samples of which it is known whether they are right.

Each problem's samples are scored in one run, with its own budget and seed, so that a verifier which compares them sees them all. Problems
go on side by side; Ctrl-C ends with the table of what is done, and `--out` keeps it for the next time.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pondera.errors import BadInput, LedgerDrift, NoAnswer
from pondera.ledger import Ledger
from pondera.models.known import DEFAULT
from pondera.terminal.given import AsJson, Parallel, Quiet, Rates, caps_of
from pondera.terminal.text import INTERRUPTED, console, emit
from pondera.thought import Answer, Budget, Kind, Spend, Thought

if TYPE_CHECKING:
    from pondera.plan import Plan
    from pondera.ports import Model
    from pondera.terminal.labelled import Problem, Scored, Scores

SIDE_BY_SIDE = 4  # problems

verifier_app = typer.Typer(no_args_is_help=True, help="Check verifiers on labelled samples.")


@verifier_app.command("check", epilog='Example:  pondera verifier check samples.jsonl --verifier "judge(think=200)" --out scores.jsonl')
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines: `question`, and `samples` with `text` and `correct`.")],
    verifier: Annotated[str, typer.Option(help="Who judges: see `pondera verifiers`.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A name of `pondera models`, a path, 'fake', or NAME@URL.")] = DEFAULT,
    judge: Annotated[str, typer.Option(metavar="MODEL", help="The model of the judge, where it is another one.")] = "",
    draft: Annotated[str, typer.Option(metavar="MODEL", help="A cheaper model, for verifiers that ask one first.")] = "",
    reward: Annotated[str, typer.Option(metavar="NAME@URL", help="A reward model on a server, for the verifier `reward`.")] = "",
    kind: Annotated[Kind, typer.Option(help="What answers are graded as, where samples have no `correct`.")] = "math",
    tokens: Annotated[int | None, typer.Option(help="Generate at most so many tokens for each problem.")] = None,
    calls: Annotated[int | None, typer.Option(help="Ask for at most so many samples for each problem.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Judge each problem within so many seconds.")] = None,
    usd: Annotated[float | None, typer.Option(help="Spend at most so many US dollars on each problem.")] = None,
    price: Rates = "",
    seed: Annotated[int, typer.Option(help="Another seed, other verdicts where chance has a part.")] = 0,
    parallel: Parallel = 64,
    problems: Annotated[int, typer.Option(help="Problems side by side, at most.")] = SIDE_BY_SIDE,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.jsonl", help="Keep the scores here; what is there is not made again.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """How well a verifier tells right answers from wrong ones: AUROC, calibration, coverage, cost.

    Ctrl-C gives the table of what is done.
    """
    if not verifier.strip():
        raise BadInput("No verifier is named: give one of `pondera verifiers`, as in --verifier judge.")
    if problems < 1 or (limit is not None and limit < 1):
        raise BadInput("--problems and --limit are numbers of problems: give 1 or more.")
    import asyncio

    from pondera.plan import Plan
    from pondera.terminal import labelled
    from pondera.terminal.calibrated import show

    plan = Plan(model=model, verifier=verifier, judge=judge, draft=draft, reward=reward, price=price)
    budget = Budget(**caps_of(tokens, calls, usd, seconds))
    plan.price_of()
    plan.run({}, budget, seed, parallel)  # what is wrong with it is said before anything is read
    asked = labelled.read(file, kind)[:limit]
    head = {"scores": 1, **{name: text for name, text in plan.origin().items() if name not in ("strategy", "price")}, "seed": seed}
    work = Check(plan, budget, seed, parallel, asked, labelled.reopen(out, head), quiet)
    began = time.monotonic()
    whole = asyncio.run(_run(work, problems))
    if as_json:
        emit(json.dumps(summary(work), indent=2))
    else:
        show(console(), summary(work), time.monotonic() - began)
    if not whole:
        raise typer.Exit(INTERRUPTED)


@dataclass(eq=False, slots=True)
class Check:
    """What is to be scored, how, and what has come of it."""

    plan: Plan
    budget: Budget
    seed: int
    parallel: int
    problems: list[Problem]
    scores: Scores
    quiet: bool = False

    @property
    def done(self) -> list[Scored]:
        return [self.scores.done[p.print] for p in self.problems if p.print in self.scores.done]


# ---------------------------------------------------------------- scoring


async def _run(work: Check, at_once: int) -> bool:
    """Score what has no scores yet. Says whether all of it was done: Ctrl-C ends it before."""
    from pondera.terminal.batch import side_by_side

    left = [problem for problem in work.problems if problem.print not in work.scores.done]
    await _readable(left)
    if not left:
        return True

    async def score(problem: Problem, models: Mapping[str, Model]) -> None:
        work.scores.add(await _score(work, problem, models))

    plan = work.plan if await _asks_a_model(work, left[0]) else None
    before = len(work.problems) - len(left)
    return await side_by_side(plan, left, score, verb="judging", at_once=at_once, quiet=work.quiet, before=before)


async def _readable(problems: list[Problem]) -> None:
    """Raises BadInput, with the line, for a gold answer that holds none."""
    from pondera.verifiers.keys import grade

    for problem in problems:
        if problem.gold:
            try:
                await grade(problem.question, [], problem.gold)
            except BadInput as error:
                raise BadInput(f"Line {problem.line}: {error}")


async def _asks_a_model(work: Check, problem: Problem) -> bool:
    """Whether the verifier asks one: many do not, and then none is loaded."""
    try:
        await _score(work, problem, {})
    except LedgerDrift:  # what a run says that has no model
        return True
    return False


async def _score(work: Check, problem: Problem, models: Mapping[str, Model]) -> Scored:
    """One problem, in a run of its own."""
    from pondera.ops import Offer, Score
    from pondera.terminal.labelled import Scored
    from pondera.verifiers.keys import grade

    nodes = problem.thoughts()
    scores: list[float | None] = [None] * len(nodes)

    async def judged(root: Thought) -> Thought:
        await Offer(nodes[0])
        scores[:] = await Score(nodes, work.plan.verifier)
        return nodes[0]

    run, record = work.plan.run(models, work.budget, work.seed, work.parallel), Ledger()
    try:
        answer = await run.solve(problem.question, judged, ledger=record)
    except NoAnswer as error:  # stopped before the first of its ops
        raise BadInput(f"The budget is too small to judge anything: {error}")
    labels = [sample.correct for sample in problem.samples]
    if None in labels:
        graded = await grade(problem.question, [sample.text for sample in problem.samples], problem.gold)
        labels = [right if label is None else label for label, right in zip(labels, graded, strict=True)]
    cut = _reasons(answer, record) if None in scores else ()
    return Scored(problem.print, tuple(scores), tuple(bool(label) for label in labels), answer.spend, cut)


def _reasons(answer: Answer, record: Ledger) -> tuple[str, ...]:
    """Why scores are missing: what failed, each cause once; a verdict that went on too long is no cause."""
    dropped = [line.partition(": ")[2] for line in answer.cut]
    failed = [row.body["error"][1] for row in record.rows if row.kind == "op" and "error" in row.body]
    ended = [] if answer.stopped == "done" else [f"the problem's {'time' if answer.stopped == 'deadline' else 'budget'} ended"]
    return tuple(dict.fromkeys([reason for reason in (*dropped, *failed) if not reason.startswith("cut off after")] + ended))


# ---------------------------------------------------------------- what came of it


def summary(work: Check) -> dict[str, Any]:
    """All that is known, as JSON values."""
    from pondera.verifiers.calibration import report

    done = work.done
    scores = [score for one in done for score in one.scores]
    right = [label for one in done for label in one.correct]
    questions = [one.print for one in done for _ in one.scores]
    spend = sum((one.spend for one in done), Spend())
    reasons = Counter(reason for one in done for reason in one.cut)
    return {
        **{name: text for name, text in work.plan.origin().items() if name != "strategy"},
        "seed": work.seed,
        "problems": len(work.problems),
        "done": len(done),
        **asdict(report(scores, right, questions)),
        "spend": asdict(spend) | {"tokens": spend.tokens},
        "reasons": dict(reasons.most_common(3)),
    }
