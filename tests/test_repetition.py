"""Loops are found, whatever comes before them; what merely looks alike is none."""

from __future__ import annotations

import inspect
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera import repetition
from pondera.models import openai
from pondera.repetition import FURTHEST, REPEATS, SHORT, TEXT, TOKENS, loop, loops

WORDS = re.findall(r"\w+", "so then we add carry check the number of apples that Ann has left over from Monday and gives to Bob at noon")


@given(st.text(max_size=500), st.text(min_size=1, max_size=120), st.integers(0, 200))
def test_a_planted_loop_is_found(before: str, piece: str, more: int) -> None:
    enough = max(REPEATS * len(piece), 2 * TEXT) + len(piece) + more
    text = before + (piece * enough)[:enough]
    found = loop(text)
    assert 0 < found <= len(piece)
    span = max(REPEATS * found, TEXT)
    assert text[-span:-found] == text[-span + found :], "what is found is one"


@given(st.lists(st.integers(0, 200_000), max_size=300), st.lists(st.integers(0, 200_000), min_size=1, max_size=60))
def test_a_planted_loop_of_tokens_is_found(before: list[int], piece: list[int]) -> None:
    assert loops(before + piece * (2 * TOKENS // len(piece) + REPEATS))


@given(st.integers(0, 1 << 30), st.integers(1, 3000))
def test_random_words_are_none(seed: int, size: int) -> None:
    rng = random.Random(seed)
    assert not loop(" ".join(rng.choices(WORDS, k=size)))
    assert not loops(rng.choices(range(50), k=size))


@given(st.integers(SHORT, 400))
def test_three_times_is_none_and_four_times_is(size: int) -> None:
    piece = "".join(chr(0x4E00 + i) for i in range(size))
    assert loop("x" + piece * 3) == 0
    assert loop("x" + piece * 3 + piece) == (size if 4 * size >= TEXT else 0)


def test_a_long_piece_is_found_and_what_has_ended_is_past() -> None:
    lines = [f"Wait, {word} is {i} times {i + 1}." for i, word in enumerate(WORDS)]
    piece = "\n".join(lines)
    assert loop("Let us see.\n" + piece * 5) == len(piece)
    assert not loop(piece * 5 + "\nSo the answer is 42, since all of that was checked.")
    assert not loop("y" * FURTHEST + "".join(map(chr, range(400, 400 + FURTHEST))))


def pi(digits: int) -> str:
    """Machin's formula, in whole numbers."""
    one = 10 ** (digits + 10)

    def arctan(x: int) -> int:
        total = term = one // x
        n = 1
        while term:
            term //= -x * x
            n += 2
            total += term // n
        return total

    return str(4 * (4 * arctan(5) - arctan(239)))[:digits]


VERSES = [
    "The sun came up on Monday, the sea was calm and wide",
    "The wind came up on Tuesday, and with the wind the tide",
    "The rain came down on Wednesday, and no one stayed outside",
]
REFRAIN = "And it's row, my lads, and row again,\nAnd it's row, my lads, till morning,\n"
LEGITIMATE = {
    "pi": pi(2000),
    "a googol": "1" + "0" * 100,
    "code": inspect.getsource(openai) + inspect.getsource(repetition),
    "csv": "name,month,clips,price\n" + "".join(f"friend {i},{'May' if i % 2 else 'April'},{i % 3},0.50\n" for i in range(300)),
    "markdown": "| n | n * 7 | even |\n"
    + "|---|---|---|\n"
    + "".join(f"| {n} | {n * 7} | {'yes' if n % 2 else 'no'} |\n" for n in range(200)),
    "rules": "# Title\n" + "=" * 300 + "\n" + "-" * 300,
    "json": json.dumps([{"id": i, "ok": True, "tags": []} for i in range(200)], indent=2),
    "matrix": "\n".join(" ".join("1" if i == j else "0" for j in range(24)) for i in range(24)),
    "steps": "".join(f"Step {n}: add {n} to the total, which is now {n * (n + 1) // 2}.\n\n" for n in range(1, 200)),
    "poem": "".join(f"{verse},\n{REFRAIN}\n" for verse in VERSES * 3),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_what_is_alike_is_no_loop_at_any_moment(name: str) -> None:
    text = LEGITIMATE[name]
    found = [end for end in range(1, len(text) + 1, 7) if loop(text[:end])]
    assert not found, text[: found[0]][-400:]


@pytest.mark.parametrize("name", LEGITIMATE)
def test_nor_is_it_as_tokens_of_a_few_characters(name: str) -> None:
    text = LEGITIMATE[name]
    tokens: dict[str, int] = {}
    ids = [tokens.setdefault(token, len(tokens)) for token in re.findall(r"\d|\D{1,3}", text)]
    assert not any(loops(ids[:end]) for end in range(1, len(ids) + 1, 5))
