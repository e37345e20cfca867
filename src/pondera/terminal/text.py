"""What all views share: consoles, safe text, and numbers and bars as people read them."""

from __future__ import annotations

import os
import re
import sys

from rich.console import Console
from rich.text import Text

INTERRUPTED = 130  # the exit code of a command that was ended by Ctrl-C, as shells have it

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Output(Console):
    """A console for which a reader that has seen enough (`| head`) is no error."""

    def on_broken_pipe(self) -> None:
        hush()
        raise SystemExit(0)


def hush() -> None:
    """Let what is still buffered for a closed pipe go nowhere, so that Python does not complain when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console(*, stderr: bool = False) -> Console:
    """Standard output or error; no colours and no wrapping to a guessed width where it is not a terminal."""
    return Output(stderr=stderr, highlight=False, markup=False, emoji=False)


def emit(text: str) -> None:
    """Write a line to standard output just as it is."""
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError:
        hush()
        raise SystemExit(0)


def safe(text: str) -> str:
    """Text of a model without what could steer a terminal: control characters, reversed writing, halves of characters."""
    return _UNSAFE.sub("", text.replace("\r\n", "\n").replace("\t", "    "))


def one_line(text: str) -> str:
    return " ".join(safe(text).split())


def bar(part: float, cells: int) -> str:
    """A bar of `part` (0 to 1) of `cells` cells, in eighths of a cell."""
    eighths = round(max(0.0, min(1.0, part)) * cells * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8].strip())


def seconds(value: float) -> str:
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def dollars(value: float) -> str:
    return f"${value:.2f}" if value >= 1 else f"${value:.4f}" if value >= 0.0001 or value == 0 else f"${value:.2g}"


def count(number: int, what: str) -> str:
    """ "1 branch", "2 branches": a number and its noun."""
    many = what + ("es" if what.endswith(("s", "ch")) else "s")
    return f"{number:,} {what if number == 1 else many}"


def vote_line(name: str, votes: int, style: str, most: int, width: int, lead: str = "") -> Text:
    """`lead`, a name, a bar and a number: one row of a bar chart whose longest bar stands for `most`."""
    cell = Text(name, "bold" if style == "green" else style)
    cell.truncate(max(9, width // 4), overflow="ellipsis", pad=True)
    cells = max(4, min(40, width - len(lead) - cell.cell_len - 8))
    return Text.assemble((lead, "dim"), cell, " ", (bar(votes / max(1, most), cells), style), f" {votes}")
