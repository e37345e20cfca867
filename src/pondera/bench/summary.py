"""A cell's figures over its problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pondera.bench.bank import Prices, paid
from pondera.bench.file import Result
from pondera.bench.grading import SURE
from pondera.bench.spec import Cell
from pondera.intervals import wilson


def summary(cell: Cell, results: Sequence[Result], prices: Prices | None = None) -> dict[str, Any]:
    """A cell's figures over its problems, as JSON values; dollars at `prices`, and else as they were recorded."""
    whole = [one for one in results if one.state == "done"]
    done = [one.figures for one in whole]
    failed = [one.figures["error"] for one in results if one.state == "failed"]
    told: dict[str, Any] = {**cell.to_json(), "cell": cell.print, "label": cell.label, "done": len(done), "failed": len(failed)}
    if failed:
        told["error"] = failed[-1]
    if not done:
        return told
    right = sum(one["right"] >= SURE for one in done)
    sure = wilson(right, len(done))
    took = [one["seconds"] for one in done]
    told |= {
        "right": right,
        "accuracy": sure.value,
        "low": sure.low,
        "high": sure.high,
        "score": float(np.mean([one["right"] for one in done])),
    }
    told |= {name: sum(one[name] for one in done) / len(done) for name in ("tokens", "judging", "prompt", "cached", "calls")}
    told["usd"] = sum(paid(cell, one, prices or {}) for one in whole) / len(done)
    return told | {"seconds": float(np.median(took)), "seconds_95": float(np.percentile(took, 95))}
