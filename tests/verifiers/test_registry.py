"""Verifiers by name: our own, and other packages' by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from pondera import verifiers
from pondera.errors import BadInput
from pondera.verifiers import VERIFIERS, confidence, describe, find


def test_ours() -> None:
    assert find("confidence") is confidence
    assert set(VERIFIERS) == {"confidence", "judge", "lowest", "tail"}
    assert all(callable(factory()) for factory in VERIFIERS.values())


def test_each_says_in_a_line_what_it_is() -> None:
    assert set(describe()) == set(VERIFIERS)
    assert all(10 < len(line) < 120 for line in describe().values())


def test_a_wrong_name_is_told_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'confidence'"):
        find("confidense")
    with pytest.raises(BadInput, match="use one of confidence, judge"):
        find("zzz")


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [
            EntryPoint("theirs", "pondera.verifiers.confidence:tail", verifiers.GROUP),
            EntryPoint("judge", "pondera.verifiers.confidence:tail", verifiers.GROUP),
            EntryPoint("gone", "pondera_has_no_such_module:verifier", verifiers.GROUP),
            EntryPoint("number", "math:pi", verifiers.GROUP),
        ]
    )
    monkeypatch.setattr(verifiers, "entry_points", lambda group: points.select(group=group))
    assert find("theirs") is verifiers.tail
    assert find("judge") is verifiers.judge  # ours cannot be replaced unseen
    with pytest.raises(BadInput, match="cannot be loaded"):
        find("gone")
    with pytest.raises(BadInput, match="not a function"):
        find("number")
