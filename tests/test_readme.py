"""What the README shows is true: its code runs, its commands and options are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import pondera
from pondera import cli
from pondera.models.fake import Fake
from tests.test_laws import QUESTION, run_of

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README.read_text(), re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line.split("  #")[0].strip() for _, text in BLOCKS for line in text.splitlines() if line.startswith("pondera ") and "|" not in line
]


def test_the_first_program_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from pondera import plan

    model = Fake(lambda op, index, seed: "\nprint(72)\n```" if op.force else "\\boxed{72}")
    monkeypatch.setattr(plan, "open_model", lambda *given, **named: model)
    exec(PYTHON[0], {})
    assert capsys.readouterr().out.startswith("72 1.0 {'72': ")


async def test_the_strategy_of_ones_own_runs() -> None:
    names: dict[str, Any] = {}
    exec(PYTHON[1], names)
    run = pondera.Run(models={"think": Fake()}, keyer=run_of(Fake()).keyer, verifiers={"confidence": run_of(Fake()).verifiers["scorer"]})
    answer = await run.solve(QUESTION, names["two_rounds"])
    assert answer.thought.said.startswith("Check this answer")


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_there(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.split()
    assert cli.main([*words[1 : 3 if words[1] in ("bench", "verifier") else 2], "--help"]) == 0
    known = capsys.readouterr().out
    assert all(word in known for word in words if word.startswith("--"))


def test_there_are_commands_to_test() -> None:
    assert len(COMMANDS) >= 6
