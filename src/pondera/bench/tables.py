"""A report as tables: CSV, and Parquet for whoever has pyarrow."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pondera.bench.exchange import Exchange
from pondera.bench.report import Report, Shown
from pondera.bench.spec import Cell
from pondera.errors import BadInput

Table = Mapping[str, Sequence[Any]]


def write(report: Report, folder: Path) -> list[Path]:
    """Each table as CSV and as Parquet in a folder. Raises BadInput where that cannot be."""
    if not find_spec("pyarrow"):
        raise BadInput("pyarrow is not here: install it with pip install 'pondera[bench]'.")
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables(report).items():
            written += _written(folder, name, table) if table else []
    except OSError as error:
        raise BadInput(f"The tables cannot be written to {folder} ({error.strerror}): give another folder.")
    return written


def _written(folder: Path, name: str, table: Table) -> list[Path]:
    import pyarrow as pa
    from pyarrow import parquet

    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(table)
        out.writerows(zip(*table.values(), strict=True))
    parquet.write_table(pa.table(dict(table)), folder / f"{name}.parquet")
    return [folder / f"{name}.csv", folder / f"{name}.parquet"]


def tables(report: Report) -> dict[str, Table]:
    """Everything with a number, as columns: `cells`, `curves`, `problems` and `exchange`."""
    shown = [one for some in report.tasks.values() for one in some]
    return {
        "cells": _columns([_flat(one) for one in shown]),
        "curves": _columns([row for one in shown for row in _points(one)]),
        "problems": _columns([row for one in shown for row in _answers(one)]),
        "exchange": _columns([row for made, _ in report.exchanges for row in rates(made)]),
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_plain(row.get(name)) for row in rows] for name in names}


def _whose(cell: Cell) -> dict[str, Any]:
    return {"task": cell.task, "model": cell.plan.model, "way": cell.label, "cell": cell.print}


def _flat(shown: Shown) -> dict[str, Any]:
    told = {name: value for name, value in shown.told.items() if isinstance(value, int | float) and name != "seed"}
    return _whose(shown.cell) | {"seed": shown.cell.seed} | told


def _points(shown: Shown) -> Iterator[dict[str, Any]]:
    for name, one in shown.returns.items():
        costs = zip(*(one.curve.mean(axis) for axis in ("tokens", "seconds", "usd")), strict=True)
        for x, at, (tokens, seconds, usd) in zip(one.curve.x, one.band, costs, strict=True):
            told = {"curve": name, "samples": float(x), "right": at.value, "low": at.low, "high": at.high}
            yield _whose(shown.cell) | told | {"tokens": float(tokens), "seconds": float(seconds), "usd": float(usd)}


def _answers(shown: Shown) -> Iterator[dict[str, Any]]:
    names = ("right", "key", "confidence", "tokens", "prompt", "cached", "calls", "usd", "seconds", "stopped", "error")
    for one in shown.results:
        yield _whose(shown.cell) | {"problem": one.problem, "state": one.state} | {name: one.figures.get(name) for name in names}


def rates(made: Exchange) -> Iterator[dict[str, Any]]:
    for rate in made.rates:
        at = rate.samples
        where = {"samples": at and at.value, "samples_low": at and at.low, "samples_high": _finite(at.high if at else None)}
        told = {
            "accuracy": rate.accuracy,
            "single": made.single.value,
            "gap": rate.gap.value,
            "gap_low": rate.gap.low,
            "gap_high": rate.gap.high,
        }
        costs = {"flops": rate.flops, "flops_uncached": rate.uncached, "seconds": rate.seconds, "usd": rate.usd}
        yield {"task": made.task, "small": made.small, "samples_of": made.way, "large": made.large, "way": rate.way} | where | told | costs


def _finite(value: float | None) -> float | None:
    """None for what is beyond what was measured: JSON knows no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Half of a surrogate pair, as models may give, is no text that a file can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
