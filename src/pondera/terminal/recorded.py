"""Runs that are on file: what they hold, whether they are complete, and what they may still spend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pondera.errors import BadInput, LedgerError
from pondera.ledger import Row, bills, effective, read
from pondera.thought import Budget, Spend


def rows_of(file: Path) -> list[Row]:
    """The rows of a recorded run. Raises LedgerError."""
    with on_disk(file):
        rows = read(file)
    if not rows or rows[0].kind != "run":
        raise LedgerError(f"{file} holds no run: give a file that --trace wrote.")
    return rows


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(f"{path} cannot be used ({error.strerror}): give another file, or mend its permissions.")


def complete(rows: Sequence[Row]) -> bool:
    kinds = {row.kind for row in effective(rows)}
    return "answer" in kinds and "stop" not in kinds


def reused(rows: Sequence[Row]) -> tuple[int, int]:
    """How many samples need not be asked again, and their tokens."""
    answered = {row.key: row for row in rows if row.kind == "sample" and row.body["status"] == "answered"}
    return len(answered), sum(spend.tokens for spend in bills(answered.values()).values())


def allowance(rows: Sequence[Row], given: Mapping[str, float]) -> Budget:
    """The budget to go on with: the recorded one, as earlier resumptions and then this one changed it.

    Raises BadInput where there is nothing left to go on with.
    """
    spent = sum(bills(rows).values(), Spend())
    used = {"tokens": spent.tokens, "calls": spent.calls, "usd": spent.usd, "seconds": max(r.body.get("at", 0.0) for r in rows)}
    for name, cap in given.items():
        if cap <= used[name]:
            raise BadInput(f"The run has used {used[name]:,.6g} {name} already: give --{name} more than that, or leave it out.")
    since = max((n for n, row in enumerate(rows) if row.kind == "resume"), default=0)
    why = next((row.body["why"] for row in rows[since:] if row.kind == "stop"), "")
    if why in ("budget", "deadline") and not given:
        more = "--tokens 20000" if why == "budget" else "--seconds 600"
        raise BadInput(f"The run stopped at its {why}: allow more, as in `pondera resume FILE {more}`.")
    caps = dict(rows[0].body.get("budget", {}))
    for row in rows:
        caps |= row.body.get("budget", {}) if row.kind == "resume" else {}
    return Budget(**{**caps, **given})
