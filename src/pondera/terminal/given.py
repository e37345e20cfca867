"""What is given at the command line: the options that commands share, and how a question and caps are read."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pondera import parse
from pondera.errors import BadInput
from pondera.thought import QUESTION_LIMIT, Budget

Tokens = Annotated[int | None, typer.Option(help="Generate at most so many tokens, thinking and judging counted in.")]
Calls = Annotated[int | None, typer.Option(help="Ask the model for at most so many samples.")]
Seconds = Annotated[float | None, typer.Option(help="Answer within so many seconds.")]
Usd = Annotated[float | None, typer.Option(help="Spend at most so many US dollars.")]
Rates = Annotated[str, typer.Option("--price", metavar="PROMPT,GENERATED", help="The model's price, in dollars a million tokens.")]
Effort = Annotated[str | None, typer.Option(help="How much the answer is worth, for `auto`: low, medium, high or max.")]
Value = Annotated[float | None, typer.Option(help="Dollars that a right answer brings, for `auto`; needs --price.")]
ErrorCost = Annotated[float | None, typer.Option(help="Dollars that a wrong answer costs, for `auto`.")]
LatencyCost = Annotated[float | None, typer.Option(help="Dollars that a second of waiting costs, for `auto`.")]
Parallel = Annotated[int, typer.Option(help="Samples in flight at once, at most.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing while the run goes on.")]
Trace = Annotated[Path, typer.Argument(metavar="FILE", help="A file that --trace wrote.")]


def question_of(given: str | None) -> str:
    """The question: what was given, or standard input for "-" and where nothing was given and something is piped."""
    if given is None and (sys.stdin is None or sys.stdin.isatty()):
        raise BadInput('The question is empty: write what you want to know, as in pondera ask "What is 17 * 23?".')
    piped = given is None or given == "-"
    most = 4 * QUESTION_LIMIT + 4  # bytes; a longer question is refused, and reading on would only fill the memory
    data = sys.stdin.buffer.read(most) if piped else str(given).encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8", "replace" if len(data) == most else "strict")
    except UnicodeDecodeError:
        raise BadInput("The question is not text in UTF-8: convert it first.")


def caps_of(tokens: float | None, calls: float | None, usd: float | None, seconds: float | None) -> dict[str, float]:
    """The caps that were given. Raises BadInput, by way of Budget, for one that allows nothing."""
    every = {"tokens": tokens, "calls": calls, "usd": usd, "seconds": seconds}
    given = {name: cap for name, cap in every.items() if cap is not None}
    Budget(**given)
    return given


def worth_of(strategy: str, **given: Any) -> str:
    """The strategy, with what flags say of an answer's worth among its arguments; they are those of `auto`. Raises BadInput."""
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return strategy
    for flag, value in said.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"--{flag.replace('_', '-')} {value:g} is no amount of dollars: give a number.")
    if not said.get("value", 1) and not said.get("error_cost"):
        raise BadInput("--value 0 says that no answer is worth a token: give dollars above 0, or leave it out.")
    name, own = parse.split(strategy or "auto", "strategy")
    if name != "auto":
        flags = " and ".join(f"--{one.replace('_', '-')}" for one in said)
        raise BadInput(f"What an answer is worth ({flags}) guides the strategy auto, not {name}: leave out --strategy {name}.")
    return f"auto({', '.join(f'{one}={value!r}' for one, value in {**own, **said}.items())})"
