"""Several benches in one file; a bench without texts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pondera.bench.compare import compare
from pondera.bench.file import Bench
from pondera.bench.merge import LEFT_OUT, merge
from pondera.cli import main
from pondera.errors import BadInput
from pondera.models.fake import Fake
from tests.bench.helpers import CHAINS, benched, dump, spec, sums


def merged(out: Path, *files: Path, texts: bool = True) -> list[int]:
    with Bench(out) as bench:
        return [merge(bench, file, texts=texts) for file in files]


async def halves(folder: Path) -> tuple[Path, Path]:
    """Two benches of one task: of half of its problems, and of another way to think."""
    file = sums(folder / "sums.jsonl")
    await benched(folder / "a.db", spec(file, n=6))
    await benched(folder / "b.db", spec(file, "cot", CHAINS))
    return folder / "a.db", folder / "b.db"


async def test_what_machines_have_done_apart_is_as_if_it_had_been_done_together(tmp_path: Path) -> None:
    a, b = await halves(tmp_path)
    assert merged(tmp_path / "all.db", a, b) == [6, 18]
    assert merged(tmp_path / "all.db", a, b) == [0, 0]
    assert dump(tmp_path / "all.db") == dump(b), "the fake keeps its seeds"
    model = Fake()
    await benched(tmp_path / "all.db", spec(tmp_path / "sums.jsonl", "cot", CHAINS), model)
    assert not model.asked


async def test_a_merge_takes_the_place_of_what_was_begun_and_not_of_what_is_done(tmp_path: Path) -> None:
    a, b = await halves(tmp_path)
    with Bench(a) as bench:
        [cell] = bench.cells()
        name = next(bench.results(cell)).problem
        bench.db.execute("UPDATE runs SET state = 'failed' WHERE problem = ?", (name,))
        kept = {one.problem: one.figures["seconds"] for one in bench.results(cell) if one.problem != name}
    assert merged(a, b) == [19]
    with Bench(a) as bench:
        assert [one.state for one in bench.results(cell)] == ["done"] * 12
        assert {one.problem: one.figures["seconds"] for one in bench.results(cell) if one.problem in kept} == kept
    assert dump(a) == dump(b)


def test_without_texts_there_are_none_and_every_figure_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, b = asyncio.run(halves(tmp_path))
    bare = tmp_path / "bare.db"
    assert main(["bench", "merge", str(bare), str(b), "--without-texts"]) == 0
    assert "24 runs new" in capsys.readouterr().out
    raw = bare.read_bytes()
    assert b"What is 3" not in raw
    assert b"boxed" not in raw
    with Bench(bare) as bench, Bench(b) as whole:
        for cell in whole.cells():
            assert list(bench.results(cell)) == list(whole.results(cell))
            assert all(bench.problem(cell.task, one.problem).question == LEFT_OUT for one in bench.results(cell))
    for file in (bare, b):
        assert main(["bench", "report", str(file), "--tables", str(tmp_path / file.stem)]) == 0
    for name in ("curves.csv", "problems.csv", "cells.csv"):
        assert (tmp_path / "bare" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "This text was left out." in bare.with_suffix(".html").read_text()
    [(_, _, _, told)] = compare(f"{bare}:cot", f"{b}:{CHAINS}")
    assert told.problems == 12
    capsys.readouterr()
    assert main(["bench", "replay", str(bare), "-s", "cot"]) == 2
    assert "give the bench that it was made of" in capsys.readouterr().err


async def test_a_merge_folds_what_samples_say_anew(tmp_path: Path) -> None:
    """A bench of a version that kept no signals gets them; grades stay as they are, also where the ledger has other samples."""
    _, b = await halves(tmp_path)
    with Bench(b) as bench:
        whole = {(cell.print, one.problem): one.pool for cell in bench.cells() for one in bench.results(cell)}
        for cell, problem in whole:
            old = [{k: v for k, v in one.items() if k != "signals"} | {"score": 0.25} for one in whole[cell, problem]]
            bench.db.execute("UPDATE runs SET pool = ? WHERE cell = ? AND problem = ?", (json.dumps(old), cell, problem))
        bench.db.execute("UPDATE runs SET pool = '[]' WHERE cell = ? AND problem = ?", (cell, problem))
    merged(tmp_path / "new.db", b, texts=False)
    with Bench(tmp_path / "new.db") as bench:
        got = {(cell.print, one.problem): one.pool for cell in bench.cells() for one in bench.results(cell)}
    assert got.pop((cell, problem)) == []
    assert got == {name: [one | {"score": 0.25} for one in pool] for name, pool in whole.items() if name != (cell, problem)}
    assert any("signals" in one for pool in got.values() for one in pool)


async def test_a_bench_goes_on_from_one_without_texts(tmp_path: Path) -> None:
    file, bare, model = sums(tmp_path / "sums.jsonl"), tmp_path / "bare.db", Fake()
    await benched(tmp_path / "a.db", spec(file, n=6))
    merged(bare, tmp_path / "a.db", texts=False)
    [*_, cell] = await benched(bare, spec(file, CHAINS, "best_of(n=6, over='chains')"), model)
    assert len(model.asked) == 6 + 6, "what is done is not done again; samples that are not there cannot be shared"
    with Bench(bare) as bench:
        assert len(list(bench.results(cell))) == 12
        assert all("What is" in bench.problem("sums", one.problem).question.text for one in bench.results(cell))


async def test_what_cannot_be_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, _ = await halves(tmp_path)
    with Bench(a) as bench, pytest.raises(BadInput, match="merged with itself"):
        merge(bench, a)
    other = tmp_path / "other"
    other.mkdir()
    sums(other / "sums.jsonl").write_text('{"question": "Who?", "answer": "I", "kind": "exact"}\n')
    await benched(other / "c.db", spec(Path(f"file(path={str(other / 'sums.jsonl')!r}, kind='exact')")))
    with Bench(a) as bench, pytest.raises(BadInput, match="keep them apart"):
        merge(bench, other / "c.db")
    assert main(["bench", "merge", str(tmp_path / "new.db"), str(tmp_path / "nothing.db")]) == 2
    assert "There is no bench" in capsys.readouterr().err
