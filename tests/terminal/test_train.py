"""`pondera verifier train`: a fit from questions and a model, gone on with where it ended, and one sentence for what is wrong."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from pondera.cli import main
from pondera.errors import ModelUnavailable, PonderaError
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.verifiers.learned import load


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [{"question": f"What is {i} + {i + 7}?", "answer": str(2 * i + 7)} for i in range(12)]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def told(tmp_path: Path, data: Path, *more: str) -> list[str]:
    """The arguments; with seed 1 the fake model is right now and then."""
    places = ["--out", str(tmp_path / "fit.json"), "--pools", str(tmp_path / "pools.db")]
    return ["verifier", "train", str(data), "--model", "fake", *places, "--seed", "1", *more]


def test_a_fit_from_questions(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(told(tmp_path, data, "--n", "6")) == 0
    out = capsys.readouterr().out
    assert "the vote" in out
    assert "Heaviest signals" in out
    card = load(str(tmp_path / "fit.json")).card
    assert (card["model"], card["data"], card["questions"]) == ("fake", "sums.jsonl", 12)
    assert "AUROC" in card["held out"]["this fit"]


def test_what_is_sampled_is_not_sampled_again(tmp_path: Path, data: Path) -> None:
    def rows() -> int:
        with sqlite3.connect(tmp_path / "pools.db") as db:
            return int(db.execute("SELECT count(*) FROM rows WHERE kind = 'sample'").fetchone()[0])

    assert main(told(tmp_path, data, "--n", "6")) == 0
    first = rows()
    assert main(told(tmp_path, data, "--n", "6")) == 0
    assert rows() == first > 0
    assert main(told(tmp_path, data, "--n", "6", "--seed", "3")) == 0
    assert rows() > first


def test_scores_of_other_verifiers_are_signals(tmp_path: Path, data: Path) -> None:
    assert main(told(tmp_path, data, "--n", "6", "--ask", "second(n=2, over='chains')", "--ask", "judge")) == 0
    assert load(str(tmp_path / "fit.json")).asks == ("second(n=2, over='chains')", "judge")


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        ("", [], "holds no problems"),
        ('{"question": "What is 1 + 1?", "answer": "2"}\nnot json\n', [], "Line 2"),
        ('{"question": "What is 1 + 1?"}\n', [], "Line 1"),
        ('{"question": 5, "answer": "2"}\n', [], "Line 1"),
        ('{"question": " ", "answer": "2"}\n', [], "Line 1"),
        ('{"question": "What is 1 + 1?", "answer": ""}\n', [], "Line 1"),
        ('{"question": "What is 1 + 1?", "answer": true}\n', [], "Line 1"),
        ('{"question": "What is 1 + 1?", "answer": "2"}\n', ["--out", "nowhere/fit.json"], "cannot be written"),
        ('{"question": "What is 1 + 1?", "answer": "2"}\n', ["--pools", "pools.jsonl"], "a database"),
        ('{"question": "What is 1 + 1?", "answer": "2"}\n', [], "teach nothing"),
        ('{"question": "What is 1 + 1?", "answer": "2"}\n', ["--n", "1"], "2 or more"),
        ('{"question": "What is 1 + 1?", "answer": "2"}\n', ["--ask", "jugde"], "did you mean 'judge'"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, more: list[str], sentence: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    assert main(told(tmp_path, file, *more)) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "fit.json").exists()


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(told(tmp_path, tmp_path / "nowhere.jsonl")) == 1
    assert "nowhere.jsonl" in capsys.readouterr().err


def test_the_fit_does_not_replace_what_it_is_made_from(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = data.read_bytes()
    assert main(told(tmp_path, data, "--out", str(data))) == 2
    assert "made from" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_pools_in_a_file_of_another_sort(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.txt"
    other.write_text("not a ledger\n" * 500)
    assert main(told(tmp_path, data, "--pools", str(other))) == 1
    assert "other.txt" in capsys.readouterr().err
    assert other.read_text() == "not a ledger\n" * 500


def test_a_model_that_is_down_is_said(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(told(tmp_path, data, "--model", "any@http://127.0.0.1:9", "--questions", "1", "--n", "2")) != 0
    assert "cannot be reached" in " ".join(capsys.readouterr().err.split())


def test_folds_go_by_the_file_and_a_question_counts_once(tmp_path: Path, data: Path) -> None:
    assert main(told(tmp_path, data, "--n", "6")) == 0
    first = (tmp_path / "fit.json").read_text()
    data.write_text(data.read_text() + data.read_text().splitlines()[0] + "\n")
    assert main(told(tmp_path, data, "--n", "6", "--at-once", "1")) == 0
    assert (tmp_path / "fit.json").read_text() == first


def test_an_outage_does_not_stay_in_the_pools(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that fails at first is asked again by the same command, and so is a judge."""
    down = [True, True]

    def script(op: Expand, index: int, seed: int) -> str | PonderaError:
        if down[op.by == "judge"]:
            return ModelUnavailable("it is down")
        return "Yes" if op.by == "judge" else f"\\boxed{{{seed % 2}}}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pondera.models.fake.Fake", lambda **options: Fake(script, **options))
        command = told(tmp_path, data, "--n", "4", "--ask", "judge")
        assert main(command) == 1
        assert "it is down" in capsys.readouterr().err
        down[0] = False
        assert main(command) == 2
        assert "judge scored no answer" in " ".join(capsys.readouterr().err.split())
        down[1] = False
        assert main(command) == 2  # nothing is right; but all was asked
        said = " ".join(capsys.readouterr().err.split())
        assert "12 questions with 0 right answers of 24" in said
        assert "judge scored" not in said
