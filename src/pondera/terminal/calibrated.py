"""What `pondera verifier check` found, for people: a table and a reliability curve."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from pondera.terminal.text import bar, count, safe, seconds

CELLS, BESIDE = 40, 36  # of a bar, and of what stands beside it


def show(out: Console, told: dict[str, Any], took: float) -> None:
    """Print what `summary` told, after so many seconds."""
    table = Table(title=safe(told["verifier"]), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _lines(told, seconds(took)):
        table.add_row(name, value)
    out.print(table)
    if told["bins"]:
        out.print("\nReliability: the mean score of about equally many samples, and the share of them that is right (95 %)")
        for one in told["bins"]:
            out.print(_drawn(one, told["brier"] is not None, max(1, min(CELLS, out.width - BESIDE))))
    for reason, times in told["reasons"].items():
        out.print(f"\nWithout a score, in {times} of {count(told['done'], 'problem')}: {safe(reason)}", style="yellow", soft_wrap=True)


def _lines(told: dict[str, Any], took: str) -> list[tuple[str, str]]:
    """The rows of the table: a name and a value."""
    silent, spend = told["samples"] - told["judged"], told["spend"]
    right = f", {_share(told['right'])} of those judged are right" if told["judged"] else ""
    lines = [("samples", f"{told['samples']:,} of {count(told['questions'], 'question')}{right}")]
    if told["done"] < told["problems"]:
        lines += [("not yet judged", f"{told['problems'] - told['done']:,} of {told['problems']:,} problems")]
    lines += [("judged", f"{told['judged']:,} ({_share(told['judged'] / max(1, told['samples']))}); {silent:,} got no score")]
    if told["judged"]:
        lines += [("AUROC", _interval(told["auroc"]))]
    if told["within"]:
        mixed = count(told["mixed"], "question")
        lines += [("  within", f"{_interval(told['within'])}, mean over {mixed} with right and wrong samples")]
    if choice := told["choice"]:
        best = choice["best"]
        shares = f"{_share(best['value'])} [{_share(best['low'])}, {_share(best['high'])}]"
        lines += [("choosing by it", f"{shares} right; at random {_share(choice['chance'])}, at best {_share(choice['ceiling'])}")]
    if brier := told["brier"]:
        parts = f"reliability {brier['reliability']:.3f}, resolution {brier['resolution']:.3f}, uncertainty {brier['uncertainty']:.3f}"
        lines += [("Brier score", f"{brier['value']:.3f} ({parts})"), ("calibration error", f"{told['ece']:.3f}")]
    else:
        lines += [("calibration", "cannot be told: the scores are no probabilities" if told["judged"] else "cannot be told: no scores")]
    each = spend["tokens"] / max(1, told["samples"])
    money = f", ${spend['usd']:.4f}" if spend["usd"] else ""
    lines += [
        ("cost", f"{spend['tokens']:,} tokens generated ({each:.1f} a sample), {spend['prompt']:,} read, {spend['calls']:,} calls{money}")
    ]
    return [*lines, ("time", f"{took}; {spend['seconds'] / max(1, told['done']):.2f} s a problem")]


def _interval(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "cannot be told: it needs samples both right and wrong"
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"


def _drawn(one: dict[str, Any], probability: bool, cells: int = CELLS) -> str:
    """A bin: its mean score, a bar of the share that is right with a mark where the score would have it, and the numbers."""
    right = one["right"]
    drawn = list(bar(right["value"], cells).ljust(cells, "·"))
    if probability:
        drawn[min(cells - 1, int(one["score"] * cells))] = "|"
    return f"{one['score']:>8.3f} {''.join(drawn)} {right['value']:.2f} [{right['low']:.2f}, {right['high']:.2f}] n={one['count']}"
