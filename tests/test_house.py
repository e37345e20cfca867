"""The walls of the house: who may import whom, what is public, and how long a strategy may be."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pondera
from pondera.strategies import STRATEGIES
from pondera.terminal.catalogue import papers_of
from pondera.verifiers import VERIFIERS

SOURCE = Path(pondera.__file__).parent

# Each room, and the rooms that it may know besides itself. What is not named here may be known by cli and plan alone.
KNOWS: dict[str, set[str]] = {
    "errors": set(),
    "thought": {"errors"},
    "ops": {"thought"},
    "ports": {"errors", "ops", "thought"},
    "events": {"ports", "thought"},
    "parse": {"errors"},
    "purse": {"thought"},
    "plain": {"errors", "thought"},
    "ledger": {"errors", "plain", "thought"},
    "record": {"errors", "events", "ledger", "ops", "plain", "thought"},
    "growth": {"errors", "events", "ledger", "ops", "plain", "ports", "purse", "record", "thought"},
    "coroutines": {"errors", "growth", "ops", "record", "thought"},
    "judging": {"errors", "ops", "thought"},
    "drive": {
        "coroutines",
        "errors",
        "events",
        "growth",
        "judging",
        "ledger",
        "ops",
        "plain",
        "ports",
        "purse",
        "record",
        "runtime",
        "thought",
    },
    "runtime": {"drive", "errors", "events", "ledger", "ops", "ports", "thought"},
    "quoting": set(),
    "repetition": set(),
    "strategies": {"allocate", "errors", "ops", "parse", "quoting", "repetition", "thought"},
    "models": {"errors", "ops", "ports", "repetition", "thought"},
    "intervals": set(),
    "allocate": {"errors", "intervals"},
    "bench": {
        "allocate",
        "errors",
        "intervals",
        "__version__",
        "ledger",
        "models",  # their sizes
        "ops",
        "parse",
        "plain",
        "plan",
        "ports",
        "strategies",  # what they think of a node
        "thought",
        "unit_tests",
        "verifiers",
    },
    # a verifier may have a question answered as strategies do
    "verifiers": {"allocate", "errors", "intervals", "ops", "parse", "quoting", "strategies", "thought"},
    "_dialect": set(),
    "sandbox": {"_dialect", "errors"},
    "_candidate": {"_dialect"},
    "unit_tests": {"_candidate", "_dialect", "errors", "sandbox"},
}
OPEN = {"", "cli", "plan", "terminal"}  # they bind and show the others; nothing knows them but each other, and bench knows plan


def room(module: str) -> str:
    return [*module.split("."), ""][1]


def imports(path: Path) -> set[str]:
    """The rooms that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pondera":
            names = [f"pondera.{alias.name}" for alias in node.names] if node.module == "pondera" else [node.module]
            found |= {room(name) for name in names}
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.split(".")[0] == "pondera"}
    return found


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_layers_hold(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py").replace("__init__", "")
    if own in OPEN:
        return
    assert own in KNOWS, f"{own} is a new room: say in tests/test_house.py whom it may know"
    assert imports(path) - {own} <= KNOWS[own]


def test_public_names_are_sorted_and_there() -> None:
    assert pondera.__all__ == sorted(pondera.__all__)
    assert all(getattr(pondera, name) is not None for name in pondera.__all__)
    with pytest.raises(AttributeError):
        pondera.nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_strategy_is_short_and_says_what_it_does(name: str) -> None:
    function = STRATEGIES[name]
    assert inspect.getdoc(function)
    tree = ast.parse(inspect.getsource(function)).body[0]
    assert isinstance(tree, ast.AsyncFunctionDef)
    body = tree.body[1:]
    assert sum((node.end_lineno or 0) - node.lineno + 1 for node in body) <= 40


@pytest.mark.parametrize("function", [*STRATEGIES.values(), *VERIFIERS.values()], ids=lambda function: function.__name__)
def test_each_way_to_think_and_to_judge_names_its_paper(function: Callable[..., object]) -> None:
    assert re.search(r"(19|20)\d\d", papers_of(inspect.getdoc(function) or ""))


def test_the_core_imports_no_engine() -> None:
    """Importing pondera and its command line loads no engine and no SDK: they come with the models that need them."""
    import subprocess
    import sys

    code = (
        "import sys, pondera.runtime, pondera.strategies; print([m for m in ('openvino', 'httpx', 'numpy', 'sympy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
