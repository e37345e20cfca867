"""Signals: what is read from a pool, its tokens and its texts, and that bad text never breaks it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.thought import Question, Thought, root_of
from pondera.verifiers.signals import NAMES, equations, numbers, signals, sliced

ROOT = root_of(Question.of("Tom has 12 boxes of 5 pens and gives away half of them. How many pens are left?"))


def chain(i: int, text: str, *logprobs: float) -> Thought:
    return Thought(f"0.0/{i}", ROOT, text=text, finish="done", tokens=len(text.split()), logprobs=logprobs or (-0.1,) * 20)


def program(i: int, code: str, printed: str) -> Thought:
    written = Thought(f"0.1/{i}", ROOT, text=f"```python\n{code}\n```", finish="done", logprobs=(-0.2,) * 30)
    return Thought(f"0.1.{i}/0", written, text=printed, finish="done", tool="python")


def column(rows: list[list[float]], name: str) -> list[float]:
    return [row[NAMES.index(name)] for row in rows]


def test_agreement_within_and_between_the_sorts() -> None:
    pool = [chain(0, "\\boxed{30}"), chain(1, "\\boxed{60}"), program(2, "print(30)", "30"), program(3, "print(30)", "30")]
    rows = signals(pool, ["30", "60", "30", "30"])
    assert column(rows, "share") == [0.75, 0.25, 0.75, 0.75]
    assert column(rows, "share of its sort") == [0.5, 0.5, 1.0, 1.0]
    assert column(rows, "share of the other sort") == [1.0, 0.0, 0.5, 0.5]
    assert column(rows, "lead") == [0.5, -0.5, 0.5, 0.5]
    assert column(rows, "rank") == [0, 1, 0, 0]
    assert column(rows, "program") == [0, 0, 1, 1]


def test_an_abstention_has_no_votes() -> None:
    rows = signals([chain(0, "\\boxed{1}"), chain(1, "who knows")], ["1", None])
    assert column(rows, "share") == [0.5, 0.0]
    assert math.isnan(column(rows, "answer asked")[1])


def test_sure_and_weakest_and_end() -> None:
    [row] = signals([chain(0, "x", *[-0.1] * 40, *[-2.0] * 16, *[-0.5] * 16)], ["1"])
    assert row[NAMES.index("weakest")] == pytest.approx(-2.0)
    assert row[NAMES.index("end")] == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12 * 5 = 60", [(True, 60.0)]),
        ("12 x 5", []),
        ("\\(12 \\times 5 = 61\\)", [(False, 61.0)]),
        ("\\[ \\frac{60}{2} = 30 \\]", [(True, 30.0)]),
        ("$60 - $12.50 = $47.50", [(True, 47.5)]),
        ("10 / 3 = 3.33", [(True, 3.33)]),
        ("10 / 3 = 3.3", [(True, 3.3)]),
        ("1,200 + 300 = 1,500", [(True, 1500.0)]),
        ("5 / 0 = 7", []),
        ("(2 + 3) * 4 = 20", [(True, 20.0)]),
        ("9" * 400 + " + 1 = 2", []),
        ("3 + 4 = 7\n8 + 1 = 9", [(True, 7.0), (True, 9.0)]),
        ("3 + 4 = 7 + 1 = 8", [(True, 7.0)]),
        ("so 2 = 2 + 1 = 3", [(True, 3.0)]),
        ("1 + " * 20_000, []),
        ("1" * 100_000, []),
        ("1 + 1 = 2 " + " " * 100_000 + "x", [(True, 2.0)]),
    ],
)
def test_sums_are_done_again(text: str, found: list[tuple[bool, float]]) -> None:
    assert equations(text) == found


def test_numbers_are_read_as_words_too() -> None:
    assert numbers("Tom has 12 boxes, twice as many as 1,500.5 minus three.") == [12.0, 1500.5, 2.0, 3.0]


def test_only_what_reaches_the_print_counts() -> None:
    code = "```python\nboxes = 12\npens = 5\nunused = 7\ntotal = boxes * pens\nprint(total / 2)\n```"
    assert sliced(code) == ({12.0, 5.0, 2.0}, 0.75)
    assert sliced("```python\nfor x in\n```")[0] == set()


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5), st.integers(0, 3))
def test_any_text_has_signals(texts: list[str], rotate: int) -> None:
    pool = [program(i, text, text) if i % 2 else chain(i, text) for i, text in enumerate(texts)]
    keys = [text or None for text in texts]
    rows = signals(pool, keys)
    assert all(len(row) == len(NAMES) for row in rows)
    assert not any(math.isinf(value) for row in rows for value in row)
    k = rotate % len(pool)  # the order of a pool is no signal
    turned = signals(pool[k:] + pool[:k], keys[k:] + keys[:k])
    back = turned[len(pool) - k :] + turned[: len(pool) - k]
    assert [[round(v, 9) if not math.isnan(v) else None for v in row] for row in back] == [
        [round(v, 9) if not math.isnan(v) else None for v in row] for row in rows
    ]
