"""`pondera verifier train`: a fit from questions and a model, gone on with where it ended, and one sentence for what is wrong."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from pondera.cli import main
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
