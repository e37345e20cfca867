"""`pondera calibrate`: from questions with known answers to a table that `auto` goes by."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from pondera.allocate import table as tables
from pondera.allocate.policies import Deck, Ends
from pondera.bench import calibrate
from pondera.bench.file import Bench, Result
from pondera.cli import main
from pondera.errors import BadInput
from pondera.models.fake import Fake
from pondera.plan import Plan
from pondera.terminal.calibrate import _made
from pondera.thought import Question
from pondera.verifiers.alone import fit_of
from tests.bench.helpers import benched, spec, sums


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sums(tmp_path / "sums.jsonl", 40)
    assert main(["calibrate", "--data", "sums.jsonl", "-m", "fake", "--samples", "6", "--bank", "b.db", "--out", "t.json", "-q"]) == 0
    return tmp_path / "t.json"


def test_a_table_says_what_it_was_made_from_and_what_thinking_comes_to(made: Path) -> None:
    table = tables.load(str(made))
    assert table.model == "fake"
    assert table.card["data"] == ["sums"]
    assert (table.card["questions"], table.card["samples"]) == (40, 240)
    assert table.most == 6
    assert [point.worth for point in table.curve] == list(calibrate.WORTHS)
    assert min(point.right for point in table.curve) > 0.8, "one sample of the fake model is right in six of ten"
    assert table.curve[-1].samples > table.curve[0].samples >= 1
    assert list(table.efforts.values()) == sorted(table.efforts.values())
    for worth in calibrate.WORTHS:
        rows = [row for row in table.rows if row.worth == worth]
        assert sum(row.share for row in rows) == pytest.approx(1.0, abs=1e-3)
        assert all(row.tokens[0] <= row.tokens[1] <= row.tokens[2] for row in rows)


def test_nothing_is_drawn_twice_and_the_same_samples_make_the_same_table(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = sqlite3.connect("b.db").execute("SELECT count(*) FROM rows WHERE kind = 'sample'").fetchone()
    assert main(["calibrate", "-m", "fake", "--bank", "b.db", "--out", "again.json"]) == 0
    assert json.loads(made.read_text()) == json.loads(Path("again.json").read_text())
    assert sqlite3.connect("b.db").execute("SELECT count(*) FROM rows WHERE kind = 'sample'").fetchone() == samples
    told = " ".join(capsys.readouterr().out.split())
    assert "as a right answer is worth more" in told
    assert told.endswith("again.json")


def test_a_larger_model_is_known_by_what_it_said_to_the_same_questions(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["calibrate", "--data", "sums.jsonl", "-m", "fake", "--samples", "6", "--bank", "b.db", "--out", "l.json"]
    assert main([*given, "--larger", "fake", "--times", "5"]) == 0
    one = tables.load("l.json").larger["fake"]
    assert (one.times, one.price) == (5.0, 5.0 * one.tokens)
    with Bench(Path("b.db")) as bench:
        [cot] = [cell for cell in bench.cells() if cell.plan.strategy == "cot"]
        right = [result.figures["right"] for result in bench.results(cot)]
    table = tables.load("l.json")
    expected = table.card["held out"]["expected"]
    assert expected + one.gain(expected) == pytest.approx(sum(right) / len(right), abs=0.2)
    assert "fake is right in" in " ".join(capsys.readouterr().out.split())
    for more, said in (
        (["--larger", "fake"], "How much dearer fake is than fake is not known: say it, as in --times 10"),
        (["--larger", "fake", "--times", "-1"], "--times -1 is no ratio"),
        (["--larger", "fake", "--times", "2", "-n", "5", "--bank", "few.db"], "5 questions with samples calibrate nothing"),
    ):
        assert main([*given, *more]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    assert main(["calibrate", "-m", "fake", "--bank", "b.db", "--out", "x.json", "--larger", "other", "--times", "2"]) == 2
    assert "other has answered 0 of the questions with samples" in " ".join(capsys.readouterr().err.split())


def test_what_a_larger_model_comes_to_is_fitted_where_there_is_enough_to_learn_from() -> None:
    luck = np.random.default_rng(1)
    chances = luck.uniform(0.05, 0.95, 600)
    ends = [Ends(np.zeros(1), np.array([x]), np.zeros((1, 2)), np.zeros(1), np.zeros(1)) for x in chances]
    odds = 1.2 + 0.3 * np.log(chances / (1 - chances))
    right = luck.random(600) < 1 / (1 + np.exp(-odds))
    answers = {str(i): Result(str(i), "done", {"right": float(good), "tokens": 200, "prompt": 50}, []) for i, good in enumerate(right)}
    told = calibrate._larger(calibrate.Beside("big", answers, 3.0), [str(i) for i in range(600)], ends)
    assert (told.tokens, told.times) == (250.0, 3.0)
    assert (told.start, told.slope) == (pytest.approx(1.2, abs=0.25), pytest.approx(0.3, abs=0.15))


async def test_auto_goes_by_it(made: Path) -> None:
    plan = Plan(model="fake", strategy=f"auto(table={str(made)!r})")
    answer = await plan.run({"think": Fake()}).solve(Question.of("What is 5 + 16?"), plan.strategy_of())
    assert answer.key == "21"
    other = Plan(model="another", strategy=f"auto(table={str(made)!r})")
    with pytest.raises(BadInput, match="was calibrated for fake, not for another"):
        other.run({})
    assert Plan(model="fake", strategy="auto(table='elsewhere.json')").strategy_of(), "what ran elsewhere can be read here"


async def test_its_verifier_is_used_and_does_not_know_the_other_samples(made: Path) -> None:
    table = tables.load(str(made))
    if table.verifier:
        fit = fit_of(str(made))
        assert any(fit.weights)
        assert not any(weight for name, weight in zip(fit.names, fit.weights, strict=True) if "share" in name or "beside" in name)


async def test_a_bank_in_which_all_is_right_is_learned_from_without_a_verifier(tmp_path: Path) -> None:
    await benched(tmp_path / "b.db", spec(sums(tmp_path / "s.jsonl", 12), "vote(n=4)"))
    with Bench(tmp_path / "b.db") as bench:
        [cell] = bench.cells()
        results = list(bench.results(cell))
    right = [Result(r.problem, r.state, r.figures, [{**one, "key": "1", "score": 1.0} for one in r.pool]) for r in results]
    table = calibrate.calibrate(right, "fake", {})
    assert table.verifier == {}
    assert "none" in table.card["verifier"]
    assert table.curve[0].right == 1.0
    wrong = [Result(r.problem, r.state, r.figures, [{**one, "key": None, "score": 0.0} for one in r.pool]) for r in results]
    assert calibrate.calibrate(wrong, "fake", {}).curve[-1].right == 0.0


async def test_a_few_questions_calibrate_nothing(tmp_path: Path) -> None:
    await benched(tmp_path / "b.db", spec(sums(tmp_path / "s.jsonl", 5), "vote(n=4)"))
    with Bench(tmp_path / "b.db") as bench:
        [cell] = bench.cells()
        with pytest.raises(BadInput, match="5 questions with samples calibrate nothing"):
            calibrate.calibrate(list(bench.results(cell)), "fake", {})


def test_with_its_orm_a_table_goes_by_what_that_says(made: Path) -> None:
    given = ["calibrate", "--data", "sums.jsonl", "-m", "fake", "--samples", "6", "--bank", "b.db", "-q"]
    assert main([*given, "--orm", "--out", "o.json"]) == 0
    with Bench(Path("b.db")) as bench:
        plain, asked = (sum(one.figures["shared"] for one in bench.results(cell)) for cell in bench.cells())
    assert (plain, asked > 0) == (0, True), "the samples that are there are not drawn again"
    assert main([*given[:1], *given[3:], "--out", "p.json"]) == 0, "without --data too"
    assert tables.load("o.json").costs == tables.load("p.json").costs
    assert tables.load("o.json").costs["chains"] > tables.load(str(made)).costs["chains"], "a verdict costs"


async def test_of_equal_samples_those_with_verdicts_are_learned_from(tmp_path: Path) -> None:
    file = sums(tmp_path / "s.jsonl", 40)
    for by in ("confidence", "orm"):  # in one file the first one's samples are the second's
        await benched(tmp_path / "b.db", spec(file, f"best_of(n=6, over='both', by={by!r})"))
    with Bench(tmp_path / "b.db") as bench:
        cells = bench.cells()
        bills = [sum(one.figures["judging"] for one in bench.results(cell)) for cell in cells]
        table = _made(bench, cells, "fake", True, "", 0.0)
        plain = _made(bench, cells[:1], "fake", True, "", 0.0)
    assert (bills[0], bills[1] > 0) == (0, True)
    assert table.costs["chains"] > plain.costs["chains"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--samples", "2"], "--samples is 4 or more"),
        (["--bank", "none.db"], "There is no bench"),
        (["--bank", "b.db", "-m", "other"], "has no samples of other to learn from (it has fake)"),
        (["--out", "no/where.json"], "cannot be written"),
        (["--data", "none.jsonl"], "none.jsonl"),
    ],
)
def test_mistakes_are_one_sentence(made: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str) -> None:
    capsys.readouterr()
    assert main(["calibrate", "-m", "fake", "--out", "x.json", *more]) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert "Traceback" not in told


def test_a_sort_that_nobody_tried_is_as_dear_as_the_other() -> None:
    assert calibrate._costs([Deck.of(["1"], [True], [10.0])]) == {"chains": 10.0, "programs": 10.0}
    assert isinstance(Deck.of(["1"], [True]).opening, tuple)
