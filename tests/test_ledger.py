"""The ledger in files: written as it happens, read back whole, torn lines and full disks survived."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera import ledger
from pondera.errors import LedgerError
from pondera.ledger import Ledger, Row, bills, effective, tree
from pondera.ops import Expand, Key
from pondera.plain import fingerprint, thought_from_json, thought_to_json
from pondera.thought import Question, Spend, Thought, root_of
from tests.test_laws import QUESTION, run_of, strategy_of


@pytest.fixture(params=["run.db", "run.jsonl"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


async def write(path: Path, text: str = "vote(n=4)") -> Ledger:
    """A real run, recorded in a file."""
    from pondera.models.fake import Fake

    kept = ledger.create(path)
    await run_of(Fake()).solve(QUESTION, strategy_of(text), ledger=kept)
    kept.close()
    return kept


async def test_what_is_written_is_read(path: Path) -> None:
    kept = await write(path)
    assert ledger.read(path) == [Row(r.kind, r.key, json.loads(json.dumps(dict(r.body)))) for r in kept.rows]


async def test_half_a_surrogate_pair_is_kept(path: Path) -> None:
    from pondera.models.fake import Fake

    kept = ledger.create(path)
    answer = await run_of(Fake(["half \ud83d \\boxed{42}"])).solve(QUESTION, strategy_of("cot"), ledger=kept)
    kept.close()
    again = await run_of(None).solve(QUESTION, strategy_of("cot"), ledger=Ledger(ledger.read(path)))
    assert again.text == answer.text == "half \ud83d \\boxed{42}"


async def test_rows_are_there_before_the_run_ends(path: Path) -> None:
    kept = ledger.create(path)
    kept.append("run", "0", {"question": {"messages": []}})
    kept.append("sample", "0.0/0", {"by": "think"})
    assert [row.kind for row in ledger.read(path)] == ["run", "sample"]
    kept.close()


async def test_a_file_that_holds_a_run_is_not_written_over(path: Path) -> None:
    await write(path)
    with pytest.raises(LedgerError, match="exists: resume it, or give another file"):
        ledger.create(path)


async def test_it_is_gone_on_with_where_it_ended(path: Path) -> None:
    kept = await write(path)
    again = ledger.reopen(path)
    again.append("resume", "0", {})
    again.close()
    rows = ledger.read(path)
    assert len(rows) == len(kept.rows) + 1
    assert rows[-1].kind == "resume"


async def test_a_line_cut_anywhere_loses_that_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    kept = await write(path)
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == 10]
    for cut in (ends[3] + 1, ends[3] + 40, ends[4] - 1, ends[4]):
        path.write_bytes(data[:cut])
        assert len(ledger.read(path)) == sum(end <= cut for end in ends)
    path.write_bytes(data[: ends[3] + 17])
    again = ledger.reopen(path)
    again.append("resume", "0", {})
    again.close()
    assert [row.kind for row in ledger.read(path)] == [*(row.kind for row in kept.rows[:4]), "resume"]


async def test_a_damaged_line_in_the_middle_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await write(path)
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-5]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(LedgerError, match=r"Line 3 of .* is damaged"):
        ledger.read(path)


async def test_damaged_or_foreign_files_are_said(tmp_path: Path) -> None:
    await write(path := tmp_path / "run.db")
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    with pytest.raises(LedgerError):
        ledger.reopen(path)
    (other := tmp_path / "notes.txt").write_text("hello\nworld\n")
    with pytest.raises(LedgerError):
        ledger.reopen(other)
    with pytest.raises(LedgerError, match="There is no ledger"):
        ledger.read(tmp_path / "nothing")
    with pytest.raises(LedgerError, match="cannot be opened"):
        ledger.create(tmp_path / "no" / "such" / "folder.db")


async def test_two_writers_of_one_run_do_not_mix(tmp_path: Path) -> None:
    await write(path := tmp_path / "run.db")
    one, two = ledger.reopen(path), ledger.reopen(path)
    one.append("resume", "0", {})
    with pytest.raises(LedgerError, match="Another process is writing"):
        two.append("resume", "0", {})
    one.close()
    two.close()


async def test_one_file_holds_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    for name in ("a", "b"):
        kept = ledger.create(path, name)
        kept.append("run", "0", {"question": {"messages": [name]}})
        kept.close()
    assert ledger.read(path, "a")[0].body["question"] == {"messages": ["a"]}
    with pytest.raises(LedgerError, match="exists"):
        ledger.create(path, "a")


class Full:
    """A disk that fills after some rows."""

    def __init__(self, room: int) -> None:
        self.room = room

    def append(self, n: int, row: Row) -> None:
        if n >= self.room:
            raise LedgerError("The ledger cannot be written (No space left on device): make room; what was written is safe.")

    def close(self) -> None: ...


@pytest.mark.parametrize("room", range(9))
async def test_a_full_disk_ends_the_run_in_one_sentence_with_the_best_at_hand(room: int) -> None:
    import asyncio

    from pondera.models.fake import Fake

    model = Fake()
    before = asyncio.all_tasks()
    with pytest.raises(LedgerError, match="make room") as caught:
        await run_of(model).solve(QUESTION, strategy_of("vote(n=4, over='chains')"), ledger=Ledger(store=Full(room)))
    assert asyncio.all_tasks() == before
    assert model.open == 0
    if room == 8:  # all was recorded but the last row: the answer is there
        assert caught.value.answer is not None


def test_a_disk_that_is_really_full() -> None:
    """/dev/full answers every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    store = ledger._JsonLines.__new__(ledger._JsonLines)
    store.path, store.file = Path("/dev/full"), Path("/dev/full").open("ab")  # noqa: SIM115
    with pytest.raises(LedgerError, match="No space left"):
        store.append(0, Row("run", "0", {}))
    store.close()


def test_a_sqlite_that_is_really_full(tmp_path: Path) -> None:
    store = ledger._Sqlite(tmp_path / "run.db", "0")
    store.db.execute("PRAGMA max_page_count = 4")

    def fill() -> None:
        for n in range(1000):
            store.append(n, Row("sample", str(n), {"text": "x" * 1000}))

    with pytest.raises(LedgerError, match="full"):
        fill()
    assert store.read(), "what was written is safe"
    store.close()


async def test_it_is_wal(tmp_path: Path) -> None:
    await write(path := tmp_path / "run.db")
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


async def test_the_folds(path: Path) -> None:
    await write(path, "program")
    rows = ledger.read(path)
    nodes = tree(rows)
    assert nodes["0"].about == QUESTION
    output = next(node for node in nodes.values() if node.tool == "python")
    assert output.parent is nodes["0.0/0"]
    assert sum(bills(rows).values(), Spend()).calls == 1


async def test_export_and_read_again(tmp_path: Path) -> None:
    kept = await write(tmp_path / "run.db")
    ledger.export(ledger.read(tmp_path / "run.db"), tmp_path / "out.jsonl")
    assert [row.key for row in ledger.read(tmp_path / "out.jsonl")] == [row.key for row in kept.rows]


thoughts = st.builds(
    Thought,
    id=st.just("0.0/0"),
    said=st.text(),
    text=st.text(),
    forced=st.text(),
    thinking=st.text(),
    finish=st.sampled_from(["done", "step", "tokens", "length"]),
    tokens=st.integers(0, 1000),
    model=st.text(max_size=5),
    tool=st.sampled_from(["", "python"]),
    ids=st.lists(st.integers(0, 1 << 20), max_size=5).map(tuple),
    logprobs=st.lists(st.floats(-50, 0), max_size=5).map(tuple),
)


@given(thoughts)
def test_a_thought_survives_json(thought: Thought) -> None:
    again = thought_from_json("0.0/0", json.loads(json.dumps(thought_to_json(thought))), None)
    assert repr(again) == repr(thought)
    assert (again.forced, again.thinking, again.ids, again.logprobs) == (thought.forced, thought.thinking, thought.ids, thought.logprobs)


def test_an_op_is_known_by_what_it_asks() -> None:
    root = root_of(Question.of("?"))
    same: Callable[[], Any] = lambda: Expand(root, 2, say="go")  # noqa: E731
    assert fingerprint(same()) == fingerprint(same())
    assert len({fingerprint(op) for op in (same(), Expand(root, 3, say="go"), Expand(Thought("1"), 2, say="go"), Key((root,)))}) == 4


def test_what_followed_a_stop_is_void_after_a_resumption() -> None:
    rows = [Row(kind, str(i), {}) for i, kind in enumerate(["run", "op", "sample", "stop", "op", "sample", "answer", "resume", "op"])]
    assert [row.key for row in effective(rows)] == ["0", "1", "2", "5", "7", "8"]
    assert effective(rows[:7]) == rows[:7]
