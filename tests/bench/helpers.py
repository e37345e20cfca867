"""Benches of the fake model, as tests need them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pondera.bench.file import Bench, Result
from pondera.bench.run import Here, enlist, run
from pondera.bench.spec import Cell, Spec
from pondera.models.fake import Fake
from pondera.plan import Plan
from pondera.ports import Model

CHAINS = "vote(n=6, over='chains')"


def sums(path: Path, n: int = 12, start: int = 0) -> Path:
    """A file of problems that the fake model is right about six times in ten."""
    rows = ({"id": f"s{i}", "question": f"What is {i} + {3 * i + 1}?", "answer": str(4 * i + 1)} for i in range(start, start + n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def benched(path: Path, spec: Spec, model: Model | None = None, heard: list[Any] | None = None) -> list[Cell]:
    """Run a bench in a file; answers its cells."""

    async def opened(plan: Plan) -> Mapping[str, Model]:
        return {"think": model or Fake()}

    with Bench(path) as bench:
        listed, thinker = enlist(bench, spec), Here(opened)
        await run(bench, spec, listed, thinker, (heard if heard is not None else []).append)
        await thinker.close()
        return list(listed.cells)


def spec(file: Path, *strategies: str, **more: Any) -> Spec:
    return Spec(tasks=(str(file),), models=("fake",), strategies=strategies or (CHAINS,), **more)


def dump(path: Path) -> dict[str, dict[str, Any]]:
    """All that a bench came to, without its times: results, and every sample by its key."""
    found = {}
    with Bench(path, new=False) as bench:
        for cell in bench.cells():
            for result in bench.results(cell):
                rows = [row for row in bench.rows(cell.print, result.problem) if row.kind == "sample"]
                samples = [(row.key, row.body["status"], row.body.get("text")) for row in rows]
                found[f"{cell.label}/{result.problem}"] = {**untimed(result), "samples": sorted(samples)}
    return found


def untimed(result: Result) -> dict[str, Any]:
    told = {name: value for name, value in result.figures.items() if name not in ("seconds", "by_role", "at_once")}
    pool = [{name: value for name, value in one.items() if name != "seconds"} for one in result.pool]
    return {"state": result.state, **told, "pool": pool}
