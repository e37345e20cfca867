"""The calibrated table's file: what is written is read, and what is not one is said to be none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pondera.allocate import table as tables
from pondera.allocate.posterior import Belief
from pondera.allocate.table import EFFORTS, JUDGED, Larger, Point, Row, Table
from pondera.errors import BadInput
from pondera.models.known import DEFAULT
from pondera.plan import Plan


def made(**more: Any) -> Table:
    rows = tuple(
        Row(worth=worth, low=low, high=low + 0.5, share=0.5, chains=1.0, programs=2.5, tokens=(100.0, 300.0, worth), right=0.4)
        for worth in (1000.0, 4000.0)
        for low in (0.0, 0.5)
    )
    given: dict[str, Any] = {
        "model": "fake",
        "belief": Belief(share=2.5),
        "costs": {"chains": 210.0, "programs": 90.0},
        "efforts": dict(zip(EFFORTS, (1000.0, 4000.0, 16000.0, 1e6), strict=True)),
        "curve": (Point(worth=1000.0, right=0.4, samples=3.5, tokens=500.0),),
        "rows": rows,
        "verifier": {"bias": -1.0, "signals": [{"signal": "sure", "mean": -0.2, "scale": 0.1, "weight": 0.7}]},
        "card": {"data": ["sums"], "questions": 40},
    }
    return Table(**(given | more))


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    for table in (made(), made(verifier={}, rows=(), curve=()), made(larger={"big": Larger(times=3.0)})):
        table.save(tmp_path / "t.json")
        assert tables.load(str(tmp_path / "t.json")) == table
    assert json.loads((tmp_path / "t.json").read_text())["card"]["model"] == "fake"


def test_what_is_expected_goes_by_the_worth_and_the_first_chance() -> None:
    assert made().expected(1000.0, 0.2) == (100.0, 300.0, 1000.0)
    assert made().expected(2000.0, 0.2) == pytest.approx((100.0, 300.0, 2500.0))
    assert made().expected(10.0, 0.2) == (100.0, 300.0, 1000.0)
    assert made().expected(1e9, 0.9) == (100.0, 300.0, 4000.0)
    assert made().expected(1200.0, 1.1) is None
    assert made(rows=()).expected(1200.0, 0.2) is None


def test_a_larger_model_gains_most_where_the_small_one_is_unsure() -> None:
    one = Larger(tokens=200.0, times=5.0, start=1.0, slope=0.5)
    assert one.price == 1000.0
    assert one.gain(0.1) > one.gain(0.6) > one.gain(0.97)
    assert one.gain(0.5) == pytest.approx(1 / (1 + 2.718281828**-1) - 0.5)
    assert one.gain(0.0) == pytest.approx(one.gain(0.02) + 0.02)


@pytest.mark.parametrize("given", [{"times": 0.0}, {"tokens": -1.0}, {"start": float("nan")}])
def test_a_larger_model_that_costs_nothing_is_none(tmp_path: Path, given: dict[str, float]) -> None:
    made(larger={"big": Larger(**given)}).save(tmp_path / "t.json")
    with pytest.raises(BadInput, match="holds no calibrated table"):
        tables.load(str(tmp_path / "t.json"))
    assert Larger(start=-5_000.0).gain(0.3) == pytest.approx(-0.3)


def test_a_mean_and_an_accuracy_are_places_on_the_curve() -> None:
    points = [(100.0, 0.2, 50.0), (1000.0, 0.4, 100.0), (2000.0, 0.39, 150.0), (10_000.0, 0.5, 300.0)]
    table = made(curve=tuple(Point(worth=w, right=r, samples=1.0, tokens=t) for w, r, t in points))
    assert table.worth_of("tokens", 50.0) == pytest.approx(100.0)
    assert table.worth_of("tokens", 75.0) == pytest.approx((100 * 1000) ** 0.5)
    assert table.worth_of("tokens", 300.0) == pytest.approx(10_000.0)
    assert table.worth_of("right", 0.45) == pytest.approx((1000 * 10_000) ** 0.5), "a dip is passed over"
    for name, wanted, said in (
        ("tokens", 20.0, "from 50 tokens to 300 tokens on the questions of its table, not to 20 tokens"),
        ("right", 0.9, "from 20% to 50% on the questions of its table, not to 90%"),
    ):
        with pytest.raises(BadInput, match=said):
            table.worth_of(name, wanted)
    with pytest.raises(BadInput, match="goes nowhere"):
        made(curve=()).worth_of("tokens", 20.0)


def test_the_middle_is_what_the_verifier_thinks_of_nothing() -> None:
    assert (made().middle, made(verifier={}).middle) == (-1.0, 0.0)


@pytest.mark.parametrize(
    "more",
    [
        {"belief": {}},
        {"belief": {"share": "much"}},
        {"costs": {"chains": 3.0}},
        {"costs": {"chains": -3.0, "programs": 1.0}},
        {"efforts": {"low": 1.0}},
        {"efforts": dict.fromkeys(EFFORTS, float("nan"))},
        {"curve": [{"worth": 1.0}]},
        {"rows": 3},
        {"most": 0},
        {"most": float("inf")},
        {"card": {}},
        {"card": None},
    ],
)
def test_a_file_of_another_shape_is_no_table(tmp_path: Path, more: dict[str, Any]) -> None:
    file = tmp_path / "t.json"
    made().save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    with pytest.raises(BadInput, match="holds no calibrated table: give a file that `pondera calibrate` wrote"):
        tables.load(str(file))


@pytest.mark.parametrize("text", ["", "[]", "{", "7", '{"version": 2}', "[" * 100_000])
def test_text_that_is_no_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(BadInput, match="holds no calibrated table"):
        tables.load(str(tmp_path / "t.json"))


def test_another_version_and_no_file_at_all(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    made().save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))
    with pytest.raises(BadInput, match="another version"):
        tables.load(str(file))
    with pytest.raises(BadInput, match="There is no calibrated table"):
        tables.load(str(tmp_path / "none.json"))
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="holds no calibrated table"):
        tables.load(str(tmp_path / "b.json"))


def test_those_that_come_with_pondera_can_be_used() -> None:
    for name in tables.shipped():
        table = tables.load(name)
        assert (table.model, set(table.efforts)) == (name.removesuffix(JUDGED), set(EFFORTS))
        assert table.verifier.get("asks") == (["orm"] if name.endswith(JUDGED) else None)
        assert list(table.efforts.values()) == sorted(table.efforts.values())
        assert table.rows
        assert "gsm8k_train_2001_3000" in table.card["data"]
        assert not {"gsm8k_dev", "multiarith", "math500_dev", "amc23", "aime24"} & set(table.card["data"]), "fitted on train data alone"
        assert replace(table) == table


def test_who_can_judge_itself_goes_by_the_table_that_was_fitted_with_that() -> None:
    for spec, table in {
        DEFAULT: DEFAULT + JUDGED,
        f"{DEFAULT}@http://127.0.0.1:1/v1": DEFAULT,  # a server has no adapter of ours
        f"/some/where/{DEFAULT}.gguf": DEFAULT,  # perhaps another file
        "qwen2.5-coder-1.5b": "",
    }.items():
        for plan in (Plan(model=spec), Plan(model="fake", draft=spec)):
            made: Any = plan.strategy_of()
            assert made.keywords.get("table", "") == table


@pytest.mark.parametrize("model", ["m", "m@http://127.0.0.1:1/v1", "/some/where/m.gguf", "m.gguf"])
def test_a_model_is_known_by_its_name_alone(model: str) -> None:
    assert tables.name_of(model) == "m"
