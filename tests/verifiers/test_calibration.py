"""The measures of a verifier, against brute force and closed forms; what cannot be told is None."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pondera.intervals import wilson
from pondera.verifiers.calibration import auroc, brier, choice, ece, reliability, report, within

near = pytest.approx
samples = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans(), st.integers(0, 5)), max_size=40
)
quick = settings(max_examples=30, deadline=None)


def brute(pairs: list[tuple[float, bool]]) -> float | None:
    """AUROC by looking at every pair."""
    good, bad = [s for s, y in pairs if y], [s for s, y in pairs if not y]
    won = [1.0 if g > b else 0.5 if g == b else 0.0 for g, b in itertools.product(good, bad)]
    return sum(won) / len(won) if won else None


@quick
@given(samples)
def test_auroc_counts_pairs(rows: list[tuple[float, bool, int]]) -> None:
    scores, right, questions = ([row[i] for row in rows] for i in range(3))
    found, wanted = auroc(scores, right, questions), brute([(s, y) for s, y, _ in rows])  # type: ignore[arg-type]
    assert (found is None) == (wanted is None)
    if found and wanted is not None:
        assert found.value == near(wanted)
        assert 0 <= found.low <= found.value <= found.high <= 1
    each = [brute([(s, y) for s, y, q in rows if q == g]) for g in range(6)]
    known = [value for value in each if value is not None]
    inside = within(scores, right, questions)  # type: ignore[arg-type]
    assert (inside is None) == (not known)
    if inside:
        assert inside.value == near(sum(known) / len(known))


@quick
@given(samples)
def test_the_parts_of_brier_and_the_bins_agree(rows: list[tuple[float, bool, int]]) -> None:
    scores, right = [row[0] for row in rows], [row[1] for row in rows]
    bins = reliability(scores, right)
    assert sum(one.count for one in bins) == len(rows)
    assert len(bins) <= 10
    assert [one.score for one in bins] == sorted(one.score for one in bins)
    found = brier(scores, right)
    assert (found is None) == (not rows)
    if found:
        n = len(rows)
        assert found.value == near(sum((s - y) ** 2 for s, y in zip(scores, right, strict=True)) / n)
        assert ece(scores, right) == near(sum(one.count / n * abs(one.score - one.right.value) for one in bins))
        base = sum(right) / n
        assert found.reliability == near(sum(one.count / n * (one.score - one.right.value) ** 2 for one in bins), abs=1e-12)
        assert found.resolution == near(sum(one.count / n * (one.right.value - base) ** 2 for one in bins), abs=1e-12)
        assert found.uncertainty == near(base * (1 - base), abs=1e-12)
        if len(set(scores)) == len(bins):  # one score a bin: the decomposition is exact
            assert found.value == near(found.reliability - found.resolution + found.uncertainty, abs=1e-9)


def test_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = random.Random(3)
    scores = [round(rng.random(), 1) for _ in range(300)]
    right = [rng.random() < s for s in scores]
    found = auroc(scores, right)
    assert found is not None
    assert found.value == near(metrics.roc_auc_score(right, scores))
    one = brier(scores, right)
    assert one is not None
    assert one.value == near(metrics.brier_score_loss(right, scores))


def test_equal_scores_are_never_parted() -> None:
    bins = reliability([0.5] * 30 + [0.7] * 3, [True] * 33)
    assert [(one.count, one.score) for one in bins] == [(30, near(0.5)), (3, near(0.7))]
    assert [one.count for one in reliability([i / 100 for i in range(100)], [True] * 100)] == [10] * 10


def test_wilson() -> None:
    some = wilson(8, 10)
    assert (some.value, some.low, some.high) == (0.8, near(0.4902, abs=1e-4), near(0.9433, abs=1e-4))  # Newcombe 1998's example sizes
    assert (wilson(0, 10).low, wilson(10, 10).high) == (0.0, 1.0)
    assert wilson(0, 10).high == near(0.2775, abs=1e-4)


def test_the_interval_covers() -> None:
    """Scores of right ones N(1, 1), of wrong ones N(0, 1): the truth is Phi(1 / sqrt 2); a bootstrap's 95 % holds it nearly so often."""
    truth, rng, held = 0.5 * (1 + math.erf(0.5)), random.Random(7), 0
    for _ in range(30):
        right = [rng.random() < 0.5 for _ in range(120)]
        found = auroc([rng.gauss(float(y), 1.0) for y in right], right)
        assert found is not None
        held += found.low <= truth <= found.high
    assert held >= 25


def test_samples_of_one_question_are_not_independent() -> None:
    """Ten questions whose eight samples are copies know no more than ten samples."""
    scores, right = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [False, False, True, False, False, True, True, False, True, True]
    eight = [one for score in scores for one in [score] * 8], [one for y in right for one in [y] * 8]
    alone, together = auroc(scores, right), auroc(*eight, [i // 8 for i in range(80)])
    naive = auroc(*eight)
    assert alone is not None
    assert together is not None
    assert naive is not None
    assert (alone.value, alone.low, alone.high) == (near(together.value), near(together.low), near(together.high))
    assert naive.high - naive.low < together.high - together.low


def test_one_question_knows_little() -> None:
    found = report([0.1, 0.5, 0.4, 0.9], [False, True, False, True], ["q"] * 4)
    assert found.within is not None
    assert found.choice is not None
    assert (found.within.value, found.within.low, found.within.high) == (1.0, 0.0, 1.0)
    assert (found.choice.best.low, found.choice.best.high) == (0.0, 1.0)
    mixed = auroc([0.1, 0.5, 0.4, 0.9, 0.3], [False, True, False, True, True], ["q"] * 5)
    assert mixed is not None
    assert mixed.low < mixed.value < mixed.high


def test_choosing_by_score() -> None:
    scores = [0.9, 0.1, 0.5, 0.5, 0.2, None, None]
    right = [True, False, True, False, False, True, True]
    found = choice(scores, right, ["a", "a", "b", "b", "c", "c", "d"])
    assert found is not None
    assert (found.best.value, found.chance, found.ceiling) == (near(0.5), near(1 / 3), near(2 / 3))


def test_what_cannot_be_told_is_none() -> None:
    empty = report([], [], [])
    assert (empty.samples, empty.right, empty.auroc, empty.within, empty.choice, empty.brier, empty.ece, empty.bins) == (0, *[None] * 6, ())
    silent = report([None, math.nan, math.inf], [True, False, True], [1, 1, 2])
    assert (silent.samples, silent.judged, silent.questions, silent.auroc, silent.brier) == (3, 0, 2, None, None)
    good = report([0.5, 0.7], [True, True], [1, 1])
    assert (good.auroc, good.within, good.right, good.mixed) == (None, None, 1.0, 0)
    assert good.brier is not None
    one = report([0.5], [False], ["q"])
    assert (one.judged, one.auroc, one.ece) == (1, None, 0.5)


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    found = report([-3.0, 2.0, 5.5], [False, True, True], [1, 1, 2])
    assert (found.brier, found.ece) == (None, None)
    assert found.auroc is not None
    assert found.auroc.value == 1.0
    assert [one.count for one in found.bins] == [3]


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one of each"):
        auroc([0.5], [True, False])
