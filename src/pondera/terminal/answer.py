"""An answer on the page: its key, how sure it is, the text, the votes, why it stopped, and the bill."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pondera.terminal.text import count, dollars, one_line, safe, seconds, vote_line
from pondera.thought import Answer, Spend

HEAD, LAST = 4, 10  # lines of a long text that a terminal shows: how it begins, and how it ends, where the answer is
SHOWN_KEYS = 12
SHOWN_CUTS = 5
WHY = {
    "done": "thought to its end",
    "budget": "the budget was spent",
    "deadline": "the time was over",
    "cancelled": "you stopped it",
}


def show_answer(console: Console, answer: Answer) -> None:
    """Print an answer; text is folded on a terminal only, a pipe gets all of it."""
    console.print(_key(answer, console.is_terminal))
    for part in (*_text(answer, console), *_votes(answer, console.width)):
        console.print(part, soft_wrap=not console.is_terminal)
    console.print()
    console.print(_ending(answer))
    console.print()
    show_bill(console, answer.spend, answer.by_role)


def _key(answer: Answer, boxed: bool) -> RenderableType:
    sure = [] if answer.confidence is None or answer.key is None else [f"confidence {answer.confidence:.0%}"]
    if answer.key is not None and len(answer.candidates) > 1:
        sure.append(f"{answer.votes.get(answer.key, 0)} of {len(answer.candidates)} branches")
    big = Text(
        one_line(answer.key) if answer.key is not None else "no answer was found in the text", "bold green" if answer.key else "yellow"
    )
    lines: list[RenderableType] = [Text(f"  {', '.join(sure)}" if boxed else ", ".join(sure))] if sure else []
    if boxed:
        return Group(Panel(big, title="answer", title_align="left", expand=False, padding=(0, 3)), *lines)
    return Group(Text("answer: ").append_text(big), *lines)


def _text(answer: Answer, console: Console) -> list[RenderableType]:
    text = safe(answer.text).strip()
    if not text or text == answer.key:
        return []
    if not console.is_terminal:
        return [Text("\n" + text)]
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, max(20, console.width - 4)) or [""]]
    parts = [Text("\n".join(lines))]
    if (hidden := len(lines) - HEAD - LAST) > 2:
        fold = Text(f"… {hidden} more lines (--json has them all)", "dim")
        parts = [Text("\n".join(lines[:HEAD])), fold, Text("\n".join(lines[-LAST:]))]
    return [Padding(Group(*parts), (1, 2, 0, 2))]


def _votes(answer: Answer, width: int) -> list[Text]:
    if len(answer.candidates) < 2:
        return []
    rows = [(one_line(key), votes, "green") for key, votes in answer.votes.items()]
    if len(rows) > SHOWN_KEYS:
        rest = rows[SHOWN_KEYS - 1 :]
        rows = [*rows[: SHOWN_KEYS - 1], (f"{len(rest)} others", sum(votes for _, votes, _ in rest), "dim")]
    if answer.abstentions:
        rows.append(("no answer", answer.abstentions, "dim"))
    most = max(votes for _, votes, _ in rows)
    return [Text("\nvotes", "bold"), *(vote_line(*row, most, min(width, 80), "  ") for row in rows)]


def _ending(answer: Answer) -> Text:
    why = one_line(answer.why.removeprefix("end: "))
    more = f" ({'next were ' if why == answer.why else ''}{why})" if why else ""
    text = Text.assemble(("stopped  ", "bold"), WHY[answer.stopped], more)
    if answer.cut:
        text.append("\ncut short  ", "bold").append(count(len(answer.cut), "time"))
        for line in answer.cut[:SHOWN_CUTS]:
            text.append(f"\n  {one_line(line)[:200]}", "yellow")
        if len(answer.cut) > SHOWN_CUTS:
            text.append(f"\n  … and {len(answer.cut) - SHOWN_CUTS} more", "dim")
    return text


# ---------------------------------------------------------------- the bill


def show_bill(console: Console, spend: Spend, by_role: Mapping[str, Spend]) -> None:
    """A row for each role and one for all, in tokens; columns of which nothing was spent are left out, save prompt and answer."""
    columns = [("prompt", "prompt"), ("cached", "(cached)"), ("thinking", "thinking"), ("answer", "answer"), ("judging", "judging")]
    shown = [(name, title) for name, title in columns if getattr(spend, name) or name in ("prompt", "answer")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("bill", style="dim", header_style="bold")
    for _, title in shown:
        table.add_column(title, justify="right")
    table.add_column("calls", justify="right")
    if spend.usd:
        table.add_column("dollars", justify="right")
    rows = [*by_role.items(), ("all", spend)] if len(by_role) > 1 else [("tokens", spend)]
    for role, part in rows:
        cells = [f"{getattr(part, name):,}" for name, _ in shown]
        table.add_row(role, *cells, f"{part.calls:,}", *([dollars(part.usd)] if spend.usd else []))
    console.print(table)
    console.print(Text(_total(spend)))


def _total(spend: Spend) -> str:
    parts = [f"{spend.tokens:,} tokens generated"]
    if spend.seconds:
        parts += [seconds(spend.seconds), f"{spend.tokens / spend.seconds:,.0f} tokens/s"]
    parts += [dollars(spend.usd)] if spend.usd else []
    return " · ".join(parts) + (" (partly estimated)" if spend.estimated else "")
