"""Calls written as text, and the tables they are looked up in."""

from __future__ import annotations

import contextlib
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera import parse
from pondera.errors import BadInput
from pondera.strategies import STRATEGIES, strategy
from pondera.verifiers import VERIFIERS


def test_a_call_binds_its_arguments() -> None:
    bound: Any = strategy("vote(n=3, over='chains')")
    assert bound.keywords == {"n": 3, "over": "chains"}
    assert strategy(" cot ").keywords == {}  # type: ignore[attr-defined]


def test_defaults_bind_where_they_are_taken_and_not_given() -> None:
    assert strategy("vote", by="judge").keywords == {"by": "judge"}  # type: ignore[attr-defined]
    assert strategy("vote(by='tail')", by="judge").keywords == {"by": "tail"}  # type: ignore[attr-defined]
    assert strategy("cot", by="judge").keywords == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vot(n=8)", "did you mean 'vote'"),
        ("vote(m=8)", "takes no argument 'm'"),
        ("vote(ovr='both')", "did you mean 'over'"),
        ("vote(n='8')", "n must be an int"),
        ("vote(n=True)", "n must be an int"),
        ("vote(8)", "by keyword"),
        ("vote(**{'n': 8})", "by keyword"),
        ("vote(n=8, n=9)", "by keyword"),
        ("vote(n={[8]: 9})", "by keyword"),
        ("vote(n=8", "by keyword"),
        ("vote(n=__import__('os'))", "by keyword"),
        ("", "by keyword"),
        ("zzzz", "there are: abmcts, auto, beam, best_of"),
    ],
)
def test_a_mistake_gets_one_sentence(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("(", r"\(")) as caught:
        strategy(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(BadInput):
        strategy(text)


def test_everything_listed_says_what_it_is_and_can_be_made() -> None:
    for name, make in VERIFIERS.items():
        assert callable(parse.call(name, VERIFIERS, "verifier")())
        assert make.__doc__
    assert all(function.__doc__ for function in STRATEGIES.values())


def test_other_packages_add_theirs_and_cannot_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [
            EntryPoint("theirs", "pondera.verifiers.confidence:tail", "group"),
            EntryPoint("ours", "pondera.verifiers.confidence:tail", "group"),
            EntryPoint("gone", "pondera_has_no_such_module:verifier", "group"),
            EntryPoint("number", "math:pi", "group"),
        ]
    )
    monkeypatch.setattr(parse, "entry_points", lambda group: points.select(group=group))
    table = parse.registry({"ours": VERIFIERS["judge"]}, "group")
    assert table["theirs"] is VERIFIERS["tail"]
    assert table["ours"] is VERIFIERS["judge"]
    with pytest.raises(BadInput, match="No module named 'pondera_has_no_such_module'"):
        parse.call("gone", table, "verifier")()
    with pytest.raises(BadInput, match="not a function"):
        parse.call("number", table, "verifier")()
