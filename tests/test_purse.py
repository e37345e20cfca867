"""The purse: a cap is hard whatever the order of holds and bills."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import BadInput
from pondera.purse import FLOOR, Purse
from pondera.thought import Budget, Price, Spend

prices = st.builds(Price, st.floats(0, 100), st.floats(0, 100), st.one_of(st.none(), st.floats(0, 100)))
budgets = st.builds(
    Budget,
    tokens=st.one_of(st.integers(1, 5000), st.just(math.inf)),
    calls=st.one_of(st.integers(1, 50), st.just(math.inf)),
    usd=st.one_of(st.floats(1e-7, 1e-2), st.just(math.inf)),
)


@given(budgets, prices, st.lists(st.tuples(st.integers(1, 600), st.integers(0, 400), st.floats(0, 1), st.booleans()), max_size=60))
def test_no_order_of_holds_and_bills_breaks_a_cap(budget: Budget, price: Price, asks: list[tuple[int, int, float, bool]]) -> None:
    purse = Purse(budget)
    held: list[Any] = []
    for wanted, prompt, used, settle_first in asks:
        if settle_first and held:
            hold, bill = held.pop(0)
            purse.settle(hold, bill)
        length = purse.longest(wanted, prompt, price)
        assert 0 <= length <= wanted
        assert length == 0 or length >= min(wanted, FLOOR) or not purse.spent.calls
        if length and purse.affords(hold := purse.worst(length, prompt, price)):
            purse.hold(hold)
            tokens = int(length * used)
            held.append((hold, Spend(prompt=prompt, answer=tokens, calls=1, usd=price.of(prompt, 0, tokens))))
    for hold, bill in held:
        purse.settle(hold, bill)
    assert purse.spent.tokens <= budget.tokens
    assert purse.spent.calls <= budget.calls
    assert purse.spent.usd <= budget.usd * (1 + 1e-9)
    assert purse.held_tokens == purse.held_calls == 0


def test_a_cache_that_costs_more_than_computing_is_held_for() -> None:
    dear = Price(1.0, 1.0, 2.0)
    purse = Purse(Budget(usd=0.0015))
    assert not purse.affords(purse.worst(1, 1000, dear))
    assert purse.longest(100, 1000, dear) == 0
    assert Purse(Budget(usd=0.0025)).longest(1000, 1000, dear) == 500


def test_a_last_branch_gets_what_is_left_if_that_is_worth_a_call() -> None:
    purse = Purse(Budget(tokens=100))
    assert purse.longest(512, 10, None) == 100
    assert purse.longest(40, 10, None) == 40
    assert Purse(Budget(tokens=9)).longest(512, 10, None) == 9, "a first one is worth it whatever there is"
    purse.spent = Spend(answer=50, calls=1)
    assert purse.longest(512, 10, None) == 0
    assert purse.longest(40, 10, None) == 40


def test_a_price_next_to_nothing_overflows_nothing() -> None:
    purse = Purse(Budget(usd=1e-7))
    assert purse.longest(100, 12, Price(75.0, 5e-324)) == 0
    assert purse.longest(100, 0, Price(0.0, 5e-324)) == 100


@pytest.mark.parametrize("cap", [0, -1, math.nan, -math.inf])
@pytest.mark.parametrize("name", ["tokens", "calls", "usd", "seconds"])
def test_a_budget_of_nothing_is_refused(name: str, cap: float) -> None:
    with pytest.raises(BadInput, match=f"{name} allows nothing"):
        Budget(**{name: cap})


def test_what_a_price_means() -> None:
    assert Price(1.0, 2.0, 0.1).of(1_000_000, 500_000, 1_000_000) == pytest.approx(0.5 + 0.05 + 2.0)
    assert Price(1.0, 2.0).of(1_000_000, 500_000, 0) == pytest.approx(1.0)
    with pytest.raises(BadInput, match="not negative"):
        Price(-1.0, 2.0)
