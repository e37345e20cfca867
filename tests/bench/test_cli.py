"""`pondera bench` as people use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pondera.cli import main
from tests.bench.helpers import CHAINS, sums


def pondera(*arguments: str) -> int:
    return main(["bench", *arguments])


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sums(tmp_path / "sums.jsonl")
    assert pondera("run", "--task", "sums.jsonl", "-m", "fake", "-s", "cot", "-s", CHAINS, "--out", "b.db") == 0
    return tmp_path / "b.db"


def test_run_show_and_json(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert pondera("show", "b.db") == 0
    assert "sums · fake" in capsys.readouterr().out
    assert pondera("show", "b.db", "--json") == 0
    cot, vote = json.loads(capsys.readouterr().out)
    assert (cot["label"], cot["done"], vote["label"]) == ("cot", 12, CHAINS)
    assert vote["accuracy"] >= cot["accuracy"]


def test_a_spec_file_and_flags_that_replace_what_it_says(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.toml").write_text('tasks = ["sums.jsonl"]\nmodels = ["fake"]\nstrategies = ["cot"]\nout = "c.db"\nn = 9\n')
    capsys.readouterr()
    assert pondera("run", "s.toml", "-n", "4", "--tokens", "20", "--tokens", "50", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["label"], one["done"]) for one in told] == [("cot, 20 tokens", 4), ("cot, 50 tokens", 4)]


def test_report_compare_replay(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert pondera("report", "b.db", "--value", "0.01", "--price", "fake=1,4", "--tables", "t", "--pictures", "p") == 0
    written = capsys.readouterr().out.split()
    assert written[0] == "b.html"
    assert all((tmp_path / name).stat().st_size > 100 for name in written)
    assert pondera("compare", "b.db:cot", f"b.db:{CHAINS}") == 0
    assert "12 problems" in capsys.readouterr().out
    assert pondera("replay", "b.db", "-s", "vote(n=3, over='chains')", "--way", CHAINS, "--json") == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["done"], told["calls"]) == (12, 3.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "none.db"), "There is no bench none.db"),
        (("report", "b.db", "--error-cost", "1"), "give --value"),
        (("report", "b.db", "--value", "-1"), "is no sum of dollars"),
        (("report", "b.db", "--price", "cheap"), "is no price of a model"),
        (("report", "b.db", "--parameters", "fake=many"), "is no size of a model"),
        (("report", "b.db", "--out", "/dev/null/x.html"), "cannot be written"),
        (("report", "b.db", "--out", "b.db"), "is the bench itself"),
        (("report", "b.db", "--tables", "sums.jsonl"), "The tables cannot be written"),
        (("exchange", "b.db"), "no smaller model with samples"),
        (("replay", "b.db", "-s", "vote(m=2)"), "takes no argument 'm'"),
        (("replay", "b.db", "-s", "cot", "--way", "cat"), "has no way to think 'cat'"),
        (("replay", "b.db", "-s", "cot", "--repeats", "0"), "draws nothing"),
        (("run", "--task", "none.jsonl", "-m", "fake", "--out", "x.db"), "none.jsonl cannot be read"),
        (("run", "--task", "sums.jsonl", "-m", "fake", "--on", "moon", "--out", "x.db"), "--on moon"),
        (("run", "none.toml"), "none.toml cannot be read"),
        (("run", "--out", "/nowhere/x.db", "-m", "fake"), "cannot be opened"),
    ],
)
def test_a_mistake_is_one_sentence(done: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert pondera(*arguments) == 2 or said == "cannot be opened"
    assert said in capsys.readouterr().err


def test_ctrl_c_ends_in_order_and_the_same_command_goes_on(tmp_path: Path) -> None:
    sums(tmp_path / "sums.jsonl", 3000)
    command = [sys.executable, "-m", "pondera.cli", "bench", "run", "--task", "sums.jsonl", "-m", "fake", "-s", CHAINS, "--out", "b.db"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(tmp_path.glob("b.db.*.lock")):
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    assert "sums · fake" in out
    assert not list(tmp_path.glob("*.lock"))
    went = subprocess.run([*command, "-n", "400", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(went.stdout)[0]["done"] >= 400
