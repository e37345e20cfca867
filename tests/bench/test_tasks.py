"""Where problems come from, and what is wrong with a file, in one sentence with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pondera.bench import tasks
from pondera.bench.spec import Spec, read
from pondera.errors import BadInput

ROW = {"id": "a", "question": "What is 2 + 2?", "answer": "4"}


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROW, {"id": "b", "answer": "4"}], "line 2: `question` is missing"),
        ([{"question": "What is 2 + 2?"}], "line 1: `answer` is missing"),
        ([{**ROW, "answer": True}], "line 1: `answer` is missing"),
        ([{**ROW, "answer": "not json", "kind": "json"}], "line 1: the answer 'not json' holds none"),
        ([{**ROW, "answer": "!!"}], "line 1: the answer '!!' holds none"),
        ([ROW, {**ROW, "question": "What is 3 + 1?"}], "line 2: the id 'a' is that of line 1 too"),
        ([ROW, '{"question": "What'], "line 2: this is not a JSON object"),
        ([ROW, "[1, 2]"], "line 2: this is not a JSON object"),
        ([{**ROW, "kind": "poem"}], "`kind` is not one of math, exact, json"),
        ([], "is empty: give a problem a line"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("(", r"\(").replace("?", r"\?").replace("+", r"\+")):
        list(tasks.task(written(tmp_path / "x.jsonl", *rows)).problems())


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.jsonl cannot be read"):
        list(tasks.task("nowhere.jsonl").problems())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gsm9k", "There is no task 'gsm9k', did you mean 'gsm8k'"),
        ("file", "needs a path"),
        ("file(path='x.jsonl', kind='poem')", "answers are compared as math, exact, json"),
        ("file(path='x.jsonl', scorer='mine')", "names no scorer"),
        ("file(path='x.jsonl', scorer='none.py:score')", "cannot be read"),
        ("gym(name='chain_sun')", "has no task 'chain_sun', did you mean 'chain_sum'"),
        ("gym(n=0)", "n=0 is no number of problems"),
    ],
)
def test_a_task_that_is_none(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        tasks.task(text)


def test_a_million_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"question": "What is {i} + 1?", "answer": {i + 1}}}\n' for i in range(20_000))
    problems = tasks.first(3, tasks.task(str(path)).problems)
    assert [one.id for one in problems] == ["1", "2", "3"]


async def test_grading_by_answer_tests_and_scorer(tmp_path: Path) -> None:
    code = {"id": "c", "question": "Write double(x).", "tests": ["assert double(2) == 4", "assert double(0) == 0"]}
    task = tasks.task(written(tmp_path / "x.jsonl", ROW, code))
    plain, tested = task.problems()
    assert await task.check(plain, ["The answer is \\boxed{4}.", "It is 5.", ""]) == [1.0, 0.0, 0.0]
    replies = ["```python\ndef double(x):\n    return 2 * x\n```", "```python\ndef double(x):\n    return 4\n```", "I cannot."]
    assert await task.check(tested, replies) == [1.0, 0.5, 0.0]
    (tmp_path / "mine.py").write_text("def score(row, reply):\n    return len(reply) / row['most']\n")
    free = written(tmp_path / "y.jsonl", {"id": "f", "question": "Say something.", "most": 10})
    mine = tasks.task(f"file(path={free!r}, scorer={str(tmp_path / 'mine.py') + ':score'!r})")
    [one] = mine.problems()
    assert await mine.check(one, ["12345", ""]) == [0.5, 0.0]
    with pytest.raises(BadInput, match=r"scorer score gave 2\.0 for problem f"):
        await mine.check(one, ["x" * 20])


async def test_a_scorer_that_fails_says_where(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(row, reply):\n    return row['nothing']\n")
    task = tasks.task(f"file(path={written(tmp_path / 'x.jsonl', ROW)!r}, scorer={str(tmp_path / 'mine.py') + ':score'!r})")
    [one] = task.problems()
    with pytest.raises(BadInput, match=r"scorer score failed on problem a \(KeyError: 'nothing'\)"):
        await task.check(one, ["4"])


async def test_a_scorer_of_a_generator_that_fails_gives_nothing() -> None:
    task = tasks.task("gym(name='prime_factorization', n=1)")
    [one] = task.problems()
    assert await task.check(one, ["\\boxed{2 \\times a}"]) == [0.0]


def test_ids_that_are_null_are_none(tmp_path: Path) -> None:
    rows = ({**ROW, "id": None}, {**ROW, "id": None, "question": "What is 1 + 3?"})
    assert [one.id for one in tasks.task(written(tmp_path / "x.jsonl", *rows)).problems()] == ["1", "2"]


async def test_generated_problems_are_graded_by_their_own_scorer() -> None:
    task = tasks.task("gym(name='chain_sum', n=3, seed=1)")
    problems = list(task.problems())
    again = list(tasks.task("gym(name='chain_sum', n=3, seed=1)").problems())
    assert [one.question for one in problems] == [one.question for one in again]
    for one in problems:
        assert await task.check(one, [f"So \\boxed{{{one.gold}}}.", "I do not know.", "\\boxed{-1}"]) == [
            1.0,
            0.0,
            pytest.approx(0.0, abs=0.1),
        ]


@pytest.mark.network
def test_a_hub_that_cannot_be_reached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="needs the library datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match="cannot be fetched from the model hub"):
        list(tasks.task("gsm8k").problems())


# ---------------------------------------------------------------- what is to be done


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks = [", "is no TOML"),
        ("strategy = ['cot']", "there is no `strategy`, did you mean 'strategies'"),
        ("tasks = [1]", "`tasks` is a list of texts"),
        ("at_once = 'many'", "`at_once` must be a int, such as 8"),
        ("budgets = [{ token = 5 }]", "a budget has no `token`, did you mean 'tokens'"),
        ("budgets = [{ tokens = 'x' }]", "tokens = 'x' is no number"),
    ],
)
def test_a_spec_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        read(tmp_path / "s.toml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategies": ("vote(m=3)",)}, "takes no argument 'm'"),
        ({"strategies": ()}, "`strategies` is empty"),
        ({"models": ("fake", "fake")}, "names one of its own twice"),
        ({"at_once": 0}, "at_once=0 does nothing"),
        ({"n": -1}, "n=-1 is no number"),
        ({"budgets": ({"tokens": -5},)}, "A budget of -5 tokens allows nothing"),
        ({"price": "much"}, "is no price"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Spec(**given)


def test_a_spec_from_a_file(tmp_path: Path) -> None:
    lines = ('tasks = ["a.jsonl", "b.jsonl"]', 'models = ["fake"]', 'strategies = ["cot", "vote(n=4)"]')
    (tmp_path / "s.toml").write_text("\n".join([*lines, "budgets = [{}, { tokens = 100 }]", "seeds = [0, 1]"]))
    spec = Spec(**read(tmp_path / "s.toml"))
    cells = list(spec.cells(("a", "b")))
    assert len(cells) == 16
    assert len({cell.print for cell in cells}) == 16
    assert cells == [type(cells[0]).from_json(cell.to_json()) for cell in cells]
    dearer = list(Spec(**{**read(tmp_path / "s.toml"), "price": "1,2"}).cells(("a", "b")))
    assert [cell.print for cell in dearer] == [cell.print for cell in cells]  # a price changes no answer
