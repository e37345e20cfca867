"""Fits, bends, ceilings and intervals on curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from pondera.allocate.curve import Curve, Floats, band, bootstrap
from pondera.allocate.paired import mcnemar, paired
from pondera.allocate.resample import passed
from pondera.allocate.returns import Worth, bins, choose, fit, matches, returns
from pondera.intervals import Interval, spread

near = pytest.approx
X = np.array([1.0, 2, 4, 8, 16, 32, 64])


def curve(right: Floats, x: Floats = X, usd: float = 1e-4, seconds: float = 0.5) -> Curve:
    each = np.ones((len(right), 1)) * x
    return Curve(name="curve", x=x, right=right, tokens=each * 300, seconds=each * seconds, usd=each * usd, samples=each)


def drawn(law: Floats, problems: int, seed: int = 0) -> Floats:
    """Problems of which a share `law` is right at each point: each has a threshold of its own."""
    return (np.random.default_rng(seed).random((problems, 1)) < law).astype(float)


@pytest.mark.parametrize(
    ("form", "law"),
    [
        ("log", 0.1 + 0.12 * np.log(X)),
        ("power", 0.8 - 0.6 * X**-0.7),
        ("monkeys", 0.9 * np.exp(-2.0 * X**-0.5)),
    ],
)
def test_a_form_is_found_in_what_it_made(form: str, law: Floats) -> None:
    assert fit(form, X, law[None]).at(X)[0] == near(law, abs=5e-3)
    best = next(iter(choose(curve(drawn(law, 4000)))))
    assert best == form


def test_a_ceiling_is_found_and_a_logarithm_has_none() -> None:
    told = returns(curve(drawn(0.7 - 0.5 * X**-1.0, 3000)))
    assert told.fit is not None
    assert told.fit.form in ("power", "monkeys")
    assert told.ceiling is not None
    assert told.ceiling.low <= 0.7 <= told.ceiling.high
    assert told.ceiling.high - told.ceiling.low < 0.1
    assert returns(curve(drawn(0.1 + 0.12 * np.log(X), 3000))).ceiling is None


def test_no_ceiling_is_above_one() -> None:
    assert fit("power", X, (0.2 * X**0.35)[None]).top[0] <= 1.0


def test_the_bend_is_where_the_next_dollar_buys_a_dollars_worth() -> None:
    law = 0.9 - 0.8 / X
    told = returns(curve(np.repeat(law[None], 20, axis=0), usd=1e-4), Worth(0.01))
    assert told.bend is not None
    assert told.bend.x.value == near(np.sqrt(0.01 * 0.8 / 1e-4), rel=0.03)  # v B / x^2 = c
    assert told.bend.measured
    assert told.bend.reached


def test_waiting_and_errors_move_the_bend() -> None:
    rows = curve(np.repeat((0.9 - 0.8 / X)[None], 20, axis=0))
    plain, dear, slow = (returns(rows, worth).bend for worth in (Worth(0.01), Worth(0.01, 0.03), Worth(0.01, 0.0, 0.001)))
    assert plain is not None
    assert dear is not None
    assert slow is not None
    assert slow.x.value < plain.x.value < dear.x.value


def test_a_bend_beyond_what_was_measured_says_so() -> None:
    told = returns(curve(np.repeat((0.9 - 0.8 * X**-0.5)[None], 20, axis=0), usd=1e-7), Worth(1.0))
    assert told.bend is not None
    assert not told.bend.measured
    assert not told.bend.reached


def test_too_few_points_are_shown_and_not_fitted() -> None:
    told = returns(curve(drawn(np.array([0.2, 0.4]), 50), X[:2]), Worth(0.01))
    assert (told.fit, told.ceiling, told.bend) == (None, None, None)
    assert len(told.band) == 2


def test_intervals_cover_at_their_nominal_rate() -> None:
    """pass@k of problems whose rates are drawn from a beta distribution: the truth is its moment."""
    rng, hits, k = np.random.default_rng(7), np.zeros(2), (1, 8)
    truth = [0.4, 1 - np.prod([(3 + i) / (5 + i) for i in range(8)])]  # 1 - E[(1 - p)^k] of Beta(2, 3)
    for trial in range(300):
        right = np.array([passed(list(rng.random(8) < rate)) for rate in rng.beta(2, 3, 60)])
        one = curve(right, np.arange(1.0, 9.0))
        sure = band(one, bootstrap(one, 300, seed=trial))
        hits += [sure[i - 1].low <= truth[j] <= sure[i - 1].high for j, i in enumerate(k)]
    assert (hits / 300 > 0.91).all()
    assert (hits / 300 < 0.985).all()


def test_curves_with_equal_problems_are_drawn_alike() -> None:
    a = curve(drawn(0.9 - 0.8 / X, 40))
    assert (bootstrap(a).right == bootstrap(a).right).all()
    assert (bootstrap(a, seed=1).right != bootstrap(a).right).any()


def test_problems_are_parted_by_their_rate() -> None:
    parts = bins(np.array([0.1, 0.9, 0.5, 0.3, 0.7]), 5)
    assert [part.tolist() for part in parts] == [[1], [4], [2], [3], [0]]
    assert len(bins(np.array([0.5, 0.6]), 5)) == 2


def test_where_a_curve_reaches_a_level() -> None:
    one = curve(np.repeat((0.9 - 0.8 / X)[None], 20, axis=0))
    means = bootstrap(one)
    at = matches(one, means, 0.6, np.full(1000, 0.6))
    assert at is not None
    assert 2 < at.value < 4
    assert matches(one, means, 0.95, np.full(1000, 0.95)) is None


def test_what_is_no_number_is_left_out_of_an_interval() -> None:
    assert spread(1.0, np.array([0.5, np.inf, np.nan, 1.5])).high <= 1.5
    assert spread(1.0, np.array([])) == Interval(1.0, 1.0, 1.0)


# ---------------------------------------------------------------- pairs


def test_mcnemar_is_the_binomial_of_the_discordant() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == near(2 * 11 / 1024)
    assert mcnemar(5, 5) == 1.0


def test_pairs_see_what_unpaired_means_would_not() -> None:
    rng = np.random.default_rng(0)
    a = (rng.random(200) < 0.5).astype(float)
    b = a.copy()
    b[:12] = 1.0
    told = paired(a, b)
    assert told.only_a == 0
    assert told.p < 0.05
    assert told.difference.low > 0


def test_fractions_are_compared_by_flips() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(60)
    assert paired(a, np.clip(a + 0.05, 0, 1)).p < 0.001
    assert paired(a, rng.permutation(a)).p > 0.01


def test_no_difference_is_found_at_the_rate_that_is_said() -> None:
    rng = np.random.default_rng(3)
    found = [paired((rng.random(50) < 0.5).astype(float), (rng.random(50) < 0.5).astype(float)).p < 0.05 for _ in range(200)]
    assert np.mean(found) <= 0.07
