"""The learned verifier: what it reads of a file, what it refuses, that it learns what there is to learn, and second opinions."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from pondera.errors import BadInput, ModelError
from pondera.models.fake import Fake
from pondera.ops import Expand, Score
from pondera.strategies import strategy
from pondera.thought import Thought
from pondera.verifiers import VERIFIERS
from pondera.verifiers.fit import Pool, fit, votes
from pondera.verifiers.learned import Fit, learned, load, read, shipped
from pondera.verifiers.signals import NAMES
from tests.test_laws import QUESTION, run_of


def pools(count: int = 60, seed: int = 1, strength: float = 2.0) -> list[Pool]:
    """Right answers have a higher first signal; the others are noise, the last one NaN now and then."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        right = [rng.random() < 0.4 for _ in range(8)]
        rows = [[rng.gauss(strength * ok, 1), *(rng.gauss(0, 1) for _ in NAMES[1:-1]), rng.choice([1.0, math.nan])] for ok in right]
        made.append(Pool(rows, [str(ok) for ok in right], right))
    return made


def test_it_learns_what_there_is_to_learn() -> None:
    made, told = fit(pools(), card={"data": "made up"})
    assert told.auroc is not None
    assert told.auroc.value > 0.85
    assert max(range(len(NAMES)), key=lambda j: abs(made.weights[j])) == 0
    assert made.card["questions"] == 60
    assert votes(pools()).auroc is not None


def test_noise_teaches_nothing_and_says_so() -> None:
    _, told = fit(pools(strength=0.0))
    assert told.auroc is not None
    assert told.auroc.value < 0.6


@pytest.mark.parametrize(
    "few", [pools(4), [Pool(p.rows, p.keys, [True] * 8) for p in pools(20)], [Pool(p.rows, [None] * 8, p.right) for p in pools()]]
)
def test_too_little_to_learn_from(few: list[Pool]) -> None:
    with pytest.raises(BadInput, match="teach nothing"):
        fit(few)


def test_a_fit_comes_back_from_its_file(tmp_path: Path) -> None:
    made, _ = fit(pools())
    made.save(tmp_path / "fit.json")
    again = load(str(tmp_path / "fit.json"))
    assert (again.weights, again.mean, again.scale, again.bias) == (made.weights, made.mean, made.scale, made.bias)
    row = pools(1)[0].rows[0]
    assert again.chance(row) == made.chance(row)


def test_what_does_not_apply_counts_as_the_mean() -> None:
    one = Fit((5.0,) * len(NAMES), (2.0,) * len(NAMES), (1.0,) * len(NAMES), -1.0)
    assert one.chance([math.nan] * len(NAMES)) == one.chance([5.0] * len(NAMES)) == pytest.approx(1 / (1 + math.e))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"signals": 3, "asks": []}', "not json"])
def test_a_file_that_is_none(text: str) -> None:
    with pytest.raises(BadInput, match="holds no fitted verifier"):
        read(text, "fit.json")


def test_a_file_for_other_signals(tmp_path: Path) -> None:
    made, _ = fit(pools())
    made.save(tmp_path / "fit.json")
    body = json.loads((tmp_path / "fit.json").read_text())
    for spoiled in (body | {"version": 0}, body | {"signals": body["signals"][1:]}, body | {"bias": math.nan}):
        with pytest.raises(BadInput, match="train it anew"):
            read(json.dumps(spoiled), "fit.json")
    with pytest.raises(BadInput, match="There is no fitted verifier"):
        load(str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("name", shipped())
def test_those_that_are_shipped_have_a_card(name: str) -> None:
    card = load(name).card
    assert {"model", "data", "date", "questions", "answers", "right", "held out"} <= set(card)


async def test_it_judges_a_pool_in_a_run() -> None:
    answer = await run_of(Fake(), verifiers={"learned": learned()}).solve(QUESTION, strategy("best_of(n=6, by='learned')"))
    scores = [c.scores["learned"] for c in answer.candidates if c.key is not None]
    assert scores
    assert all(0 < score < 1 for score in scores)
    assert answer.spend.judging == 0


def test_a_fit_that_cannot_be_read_is_refused_before_anything_is_asked() -> None:
    for name in ("nowhere.json", "no\0where"):
        with pytest.raises(BadInput, match="fitted verifier"):
            learned(name)


def test_a_fit_is_read_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "fit.json"
    for seed in (1, 2):
        made, _ = fit(pools(seed=seed))
        made.save(file)
        assert load(str(file)).weights == made.weights


def opinions(text: str) -> Fake:
    return Fake(lambda op, index, seed: text if op.by == "judge" else ["\\boxed{42}", "\\boxed{41}"][index % 2])


async def scored(model: Fake, by: str) -> list[float | None]:
    found: list[float | None] = []

    async def look(root: Thought) -> Thought:
        nodes = await Expand(root, 2)
        found.extend(await Score(tuple(nodes), by))
        return nodes[0]

    answer = await run_of(model, verifiers={by: VERIFIERS["second"](over="chains", n=2)}).solve(QUESTION, look)
    assert sum(answer.votes.values()) <= 1, "what the other model said is no candidate"
    return found


async def test_a_second_opinion_is_billed_and_is_no_vote() -> None:
    assert await scored(opinions("\\boxed{42}"), "second") == [1.0, 0.0]


async def test_without_an_answer_there_is_no_second_opinion() -> None:
    assert await scored(opinions("who knows"), "second") == [None, None]


async def test_a_second_model_that_fails_has_no_opinion() -> None:
    model = Fake(lambda op, index, seed: ModelError("down") if op.by == "judge" else "\\boxed{42}")
    assert await scored(model, "second") == [None, None]


def test_numbers_that_ask_nothing() -> None:
    with pytest.raises(BadInput, match="1 answer or more"):
        VERIFIERS["second"](n=0)


@pytest.mark.parametrize("name", sorted(set(VERIFIERS) - {"reward"}))
async def test_no_candidates_are_no_fault(name: str) -> None:
    heard: list[Any] = []

    async def look(root: Thought) -> Thought:
        heard.append(await Score((), name))
        [node] = await Expand(root)
        return node

    answer = await run_of(Fake(), verifiers={name: VERIFIERS[name]()}).solve(QUESTION, look)
    assert (heard, answer.cut) == ([[]], ())


async def test_a_second_model_that_is_down_leaves_the_signals() -> None:
    model = Fake(lambda op, index, seed: ModelError("down") if op.by == "judge" else f"\\boxed{{{index}}}")
    second = "qwen2.5-coder-0.5b-second"
    answer = await run_of(model, verifiers={"learned": learned(second)}).solve(QUESTION, strategy("best_of(n=3, by='learned')"))
    assert all(0 < c.scores["learned"] < 1 for c in answer.candidates if c.key is not None)
    assert any("down" in line for line in answer.cut)
