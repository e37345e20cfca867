"""The command line: parse, call, render.

What a command needs beyond its own arguments is imported when it runs, so that `pondera --help` is there at once.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pondera import __version__, ledger
from pondera.errors import BadInput, PonderaError
from pondera.models.known import DEFAULT
from pondera.terminal.benched import bench_app
from pondera.terminal.calibrate import calibrate
from pondera.terminal.given import (
    AsJson,
    Calls,
    Effort,
    ErrorCost,
    LatencyCost,
    Parallel,
    Quiet,
    Rates,
    Seconds,
    Tokens,
    Trace,
    Usd,
    Value,
    caps_of,
    question_of,
    worth_of,
)
from pondera.terminal.listed import models_app, strategies, verifiers
from pondera.terminal.recorded import allowance, complete, on_disk, reused, rows_of
from pondera.terminal.text import INTERRUPTED, console, emit, hush, safe
from pondera.terminal.train import verifier_app
from pondera.thought import Answer, Budget, Kind, Question

if TYPE_CHECKING:
    from pondera.terminal.session import Job


app = typer.Typer(no_args_is_help=True, add_completion=False, help="Give a language model time to think, under a hard budget.")
app.add_typer(models_app, name="models")
app.add_typer(verifier_app, name="verifier")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def pondera(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False) -> None:
    if version:
        typer.echo(f"pondera {__version__}")
        raise typer.Exit


# ---------------------------------------------------------------- think


@app.command(epilog='Example:  pondera ask "What is 17 * 23?" --strategy "vote(n=16)" --tokens 8000 --trace run.db')
def ask(
    question: Annotated[str | None, typer.Argument(help="What you want to know; from standard input where it is '-' or piped.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A name of `pondera models`, a path, 'fake', or NAME@URL.")] = DEFAULT,
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="How to think: see `pondera strategies`.", show_default="auto")] = "",
    verifier: Annotated[str, typer.Option(help="Who judges the branches: see `pondera verifiers`.")] = "",
    judge: Annotated[str, typer.Option(metavar="MODEL", help="The model of the judge, where it is another one.")] = "",
    draft: Annotated[str, typer.Option(metavar="MODEL", help="A cheaper model, for strategies that ask one first.")] = "",
    reward: Annotated[str, typer.Option(metavar="NAME@URL", help="A reward model on a server, for the verifier `reward`.")] = "",
    kind: Annotated[Kind, typer.Option(help="What answers are compared as.")] = "math",
    tokens: Tokens = None,
    calls: Calls = None,
    seconds: Seconds = None,
    usd: Usd = None,
    price: Rates = "",
    effort: Effort = None,
    value: Value = None,
    error_cost: ErrorCost = None,
    latency_cost: LatencyCost = None,
    seed: Annotated[int, typer.Option(help="Another seed, other branches.")] = 0,
    parallel: Parallel = 64,
    system: Annotated[str, typer.Option(help="A system prompt.")] = "",
    as_json: AsJson = False,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Record the run: SQLite, or JSON Lines for *.jsonl.")] = None,
    quiet: Quiet = False,
) -> None:
    """Think about a question and answer it, with the bill.

    Ctrl-C gives the best answer so far; twice, it leaves at once.
    """
    asked = Question.of(question_of(question), system=system, kind=kind)
    budget = Budget(**caps_of(tokens, calls, usd, seconds))

    from pondera.plan import Plan
    from pondera.terminal.session import Job

    strategy = worth_of(strategy, effort=effort, value=value, error_cost=error_cost, latency_cost=latency_cost)
    named: dict[str, Any] = {"strategy": strategy} if strategy else {}
    plan = Plan(model=model, verifier=verifier, judge=judge, draft=draft, reward=reward, price=price, **named)
    plan.check()
    job = Job(plan=plan, question=asked, budget=budget, seed=seed, parallel=parallel, quiet=quiet)
    with _recorded(job, trace):
        _conclude(job, as_json)


@app.command(epilog="Example:  pondera replay run.db")
def replay(file: Trace, as_json: AsJson = False) -> None:
    """Print the answer of a recorded run again, without a model."""
    _replay(rows_of(file), as_json)


@app.command(epilog="Example:  pondera resume run.db --tokens 20000")
def resume(
    file: Trace,
    tokens: Tokens = None,
    calls: Calls = None,
    seconds: Seconds = None,
    usd: Usd = None,
    price: Rates = "",
    parallel: Parallel = 64,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was cut or stopped: what is recorded is not paid again. Caps that are given replace the recorded ones."""
    given, rows = caps_of(tokens, calls, usd, seconds), rows_of(file)
    if complete(rows):
        typer.echo(f"The run in {file} is complete: this is its answer, and nothing was paid.", err=True)
        return _replay(rows, as_json)
    from pondera.plan import replayed
    from pondera.terminal.session import Job

    question, plan, _, seed = replayed(ledger.Ledger(rows))
    budget, plan = allowance(rows, given), replace(plan, price=price or plan.price)
    plan.check()
    with on_disk(file):
        record = ledger.reopen(file)
    job = Job(plan=plan, question=question, budget=budget, seed=seed, parallel=parallel, quiet=quiet, ledger=record)
    old = len(record.rows)
    try:
        record.append("resume", "0", {"budget": given} if given else {})
        _conclude(job, as_json)
    finally:
        record.close()
        (had, had_tokens), paid = reused(rows), ledger.bills(record.rows[old:]).values()
        now = f"{sum(s.calls for s in paid):,} of {sum(s.tokens for s in paid):,} tokens"
        typer.echo(f"Samples reused: {had:,} of {had_tokens:,} tokens; paid now: {now}.", err=True)


@app.command(epilog="Example:  pondera show run.db --full")
def show(
    file: Trace,
    full: Annotated[bool, typer.Option("--full", help="Whole texts, not their first lines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON Lines.")] = False,
) -> None:
    """Print the tree of a recorded run: every thought, what was read from it, what failed and why."""
    rows = rows_of(file)
    if as_json:
        for row in rows:
            emit(json.dumps({"kind": row.kind, "key": row.key, "body": row.body}))
        return
    from pondera.terminal.trace import trace_tree

    out = console()
    out.print(trace_tree(rows, full=full), soft_wrap=not out.is_terminal)


@app.command(epilog="Example:  pondera export run.db run.jsonl")
def export(file: Trace, out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="The file to be written.")]) -> None:
    """Write a recorded run as JSON Lines."""
    if out.suffix != ".jsonl":
        raise BadInput(f"{out} would hold JSON Lines: give it a name that ends in .jsonl, as in {out.with_suffix('.jsonl')}.")
    rows = rows_of(file)
    with on_disk(out):
        ledger.export(rows, out)


app.command("strategies", epilog='Example:  pondera ask "..." --strategy "vote(n=16, over=\'chains\')"')(strategies)
app.command("verifiers", epilog='Example:  pondera ask "..." --verifier confidence')(verifiers)
app.command("calibrate", epilog="Example:  pondera calibrate --data gsm8k_train.jsonl --out mine.json")(calibrate)


# ---------------------------------------------------------------- recorded runs


@contextlib.contextmanager
def _recorded(job: Job, trace: Path | None) -> Iterator[None]:
    """The job's ledger in a file, which is not left behind where nothing came to be recorded."""
    if trace is None:
        yield
        return
    with on_disk(trace):
        new = not trace.exists()
        job.ledger = ledger.create(trace)
    try:
        yield
    finally:
        job.ledger.close()
        if new and not job.ledger.rows:
            trace.unlink(missing_ok=True)


def _replay(rows: list[ledger.Row], as_json: bool) -> None:
    import asyncio

    from pondera.plan import replayed
    from pondera.terminal.session import Job

    record = ledger.Ledger(list(rows))
    question, plan, budget, seed = replayed(record)
    answer = asyncio.run(plan.run({}, budget, seed).solve(question, plan.strategy_of(), ledger=record))
    recorded = ledger.last(rows, "answer")
    spent = recorded["spend"]["seconds"] if recorded else answer.spend.seconds
    answer = replace(answer, spend=replace(answer.spend, seconds=spent))  # what the run took, not what the replay took
    _print(Job(plan=plan, question=question, budget=budget, seed=seed, ledger=record), answer, as_json)


# ---------------------------------------------------------------- what came of it


def _conclude(job: Job, as_json: bool) -> None:
    """Run a job and print its answer; its bill is printed whatever comes of it."""
    import asyncio

    from pondera.terminal.session import think

    err = console(stderr=True)

    def bill() -> None:
        from pondera.terminal.answer import show_bill

        show_bill(err, job.spent, ledger.bills(job.ledger.rows))

    try:
        answer = think(job, err)
        if job.stopped:  # an impatient second Ctrl-C must not take the answer away while it is printed
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except asyncio.CancelledError:
        err.print("Cancelled.")
        bill()
        raise typer.Exit(INTERRUPTED)
    except PonderaError as error:
        if error.answer is not None:
            _print(job, error.answer, as_json)
        elif job.spent.calls:
            bill()
        if job.stopped and error.answer is None:
            _complain(str(error))
            raise typer.Exit(INTERRUPTED)
        raise
    _print(job, answer, as_json)


def _print(job: Job, answer: Answer, as_json: bool) -> None:
    if as_json:
        how = {"model": job.plan.model, "strategy": job.plan.strategy, "seed": job.seed}
        emit(json.dumps(answer.to_dict() | how, indent=2))
        return
    from pondera.terminal.answer import show_answer

    show_answer(console(), answer)


def _complain(sentence: str) -> None:
    from rich.text import Text

    console(stderr=True).print(Text(safe(sentence), "red"), soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """The entry point: the exit code. One red sentence, and no traceback, for whatever a user can get wrong."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows a question mark
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        hush()
        return 0
    if "pondera.terminal.session" in sys.modules:
        from pondera.terminal.session import leave_now

        leave_now(code)
    return code


def _run(arguments: list[str] | None) -> int:
    try:
        return typer.main.get_command(app).main(arguments, prog_name="pondera", standalone_mode=False) or 0
    except PonderaError as error:
        _complain(str(error))
        return 2 if isinstance(error, BadInput) else 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for arguments that it cannot parse
            raise
        if message := error.format_message():
            _complain(message)
        return getattr(error, "exit_code", 2)


if __name__ == "__main__":
    sys.exit(main())
