"""`pondera verifier check`: what it tells of a verifier, what it keeps, and what wrong files get."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from pondera import cli, plan, verifiers
from pondera.errors import ModelUnavailable
from pondera.models.fake import Fake
from pondera.ops import Expand, Verifier
from pondera.terminal import labelled
from pondera.terminal.verify import verifier_app
from pondera.thought import Thought

Run = Callable[..., SimpleNamespace]
FAKE = ("--model", "fake")
RECORDED = Path(__file__).parents[3] / "shared/data/recorded_math_rm.jsonl"


def length() -> Verifier:
    """Scores by length, up to 10 characters; the sample "?" has none. Notes how many it saw at once."""

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        pools.append(len(nodes))
        return [None if node.reply == "?" else min(1.0, len(node.reply) / 10) for node in nodes]

    return verifier


pools: list[int] = []


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.add_typer(verifier_app, name="verifier")
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(plan, "VERIFIERS", dict(verifiers.VERIFIERS) | {"length": length})
    pools.clear()

    def go(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = cli.main(["verifier", "check", *(str(a) for a in arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return go


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Fake]]:
    def use(script: Any, **options: Any) -> list[Fake]:
        made: list[Fake] = []

        def open_model(spec: str, **_: object) -> Fake:
            made.append(Fake(script, name=spec, **options))
            return made[-1]

        monkeypatch.setattr(plan, "open_model", open_model)
        return made

    return use


def problem(question: str, *samples: tuple[str, bool]) -> dict[str, Any]:
    return {"question": question, "samples": [{"text": text, "correct": right} for text, right in samples]}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


ROWS = (
    problem("What is 1 + 1?", ("1234567890", True), ("12", False), ("1234", False)),
    problem("What is 2 + 2?", ("123456", True), ("?", True), ("1234567", False)),
)


def test_the_table(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path / "samples.jsonl", *ROWS), "--verifier", "length")
    assert done.code == 0, done.err
    assert pools == [3, 3, 3], "each problem's samples are scored together, the first once more to see that no model is asked"
    for wanted in (
        "6 of 2 questions, 40.0 % of those judged",
        "5 (83.3 %); 1 got no score",
        "0.833 [",
        "0.500 [",
        "Brier",
        "0 tokens generated",
        "n=5",
    ):
        assert wanted in done.out


def test_json(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path / "samples.jsonl", *ROWS), "--verifier", "length", "--json", "--limit", 1)
    told = json.loads(done.out)
    assert (told["problems"], told["done"], told["samples"], told["judged"], told["mixed"]) == (1, 1, 3, 3, 1)
    assert told["auroc"]["value"] == told["within"]["value"] == 1.0
    assert told["brier"]["value"] == pytest.approx((0.04 + 0.16) / 3)
    assert [one["count"] for one in told["bins"]] == [3]
    assert (told["verifier"], told["seed"], told["spend"]["tokens"]) == ("length", 0, 0)


def test_one_sample_a_line_and_gold_answers(run: Run, tmp_path: Path) -> None:
    rows = [{"question": "What is 1 + 1?", "text": f"\\boxed{{{n}}}{'.' * n}", "answer": "2"} for n in (2, 1)]
    rows += [{"question": "What is 3 + 3?", "samples": ["\\boxed{6}....", "\\boxed{5}"], "answer": 6}]
    told = json.loads(run(write(tmp_path / "flat.jsonl", *rows), "--verifier", "length", "--json").out)
    assert (told["problems"], told["samples"], told["right"], told["within"]["value"]) == (2, 4, 0.5, 0.5 + 0.25)
    assert pools[-2:] == [2, 2]


def test_a_judge_is_asked_and_billed(run: Run, tmp_path: Path, scripted: Callable[..., list[Fake]]) -> None:
    made = scripted(lambda op, index, seed: "Yes" if "1234567890" in op.node.about.text else "No")
    done = run(write(tmp_path / "samples.jsonl", *ROWS), "--verifier", "judge", "--model", "small", "--judge", "big", "--json")
    told = json.loads(done.out)
    assert [one.name for one in made] == ["small", "big"]
    assert len(made[1].asked) == 6
    assert not made[0].asked
    assert (told["judged"], told["spend"]["judging"], told["spend"]["calls"]) == (6, 6, 6)
    assert told["within"]["high"] == 1.0, "the right one of the first question got the only yes"


def test_what_is_done_is_not_made_again(run: Run, tmp_path: Path, scripted: Callable[..., list[Fake]]) -> None:
    made = scripted(lambda op, index, seed: "Yes")
    file, out = write(tmp_path / "samples.jsonl", *ROWS), tmp_path / "scores.jsonl"
    first = run(file, "--verifier", "judge", "--json", "--limit", 1, "--out", out)
    data = out.read_bytes()
    out.write_bytes(data + b'{"print": "torn')
    both = run(file, "--verifier", "judge", "--json", "--out", out)
    assert [len(one.asked) for one in made] == [3, 3]
    assert json.loads(both.out)["samples"] == 6
    assert json.loads(both.out)["spend"]["judging"] == 2 * json.loads(first.out)["spend"]["judging"]
    again = run(file, "--verifier", "judge", "--json", "--out", out)
    assert again.out == both.out
    assert len(made) == 2, "no model is opened where nothing is left to be done"
    other = run(file, "--verifier", "judge(think=9)", "--out", out)
    assert (other.code, "in another way (verifier 'judge', not 'judge(think=9)')" in other.err.replace("\n", " ")) == (2, True)
    wrong = run(file, "--verifier", "length", "--out", file)
    assert wrong.code == 2


def test_a_judge_that_is_down_is_said(run: Run, tmp_path: Path, scripted: Callable[..., list[Fake]]) -> None:
    scripted(lambda op, index, seed: ModelUnavailable("The server is down."))
    done = run(write(tmp_path / "samples.jsonl", *ROWS), "--verifier", "judge")
    assert done.code == 0
    assert "0 (0.0 %); 6 got no score" in done.out
    assert "in 2 of 2 problems: The server is down." in done.out
    assert "Brier" not in done.out


def test_budget_and_seed_reach_the_run(run: Run, tmp_path: Path, scripted: Callable[..., list[Fake]]) -> None:
    made = scripted(lambda op, index, seed: "Yes")
    done = run(write(tmp_path / "samples.jsonl", *ROWS), "--verifier", "judge", "--calls", 2, "--seed", 3, "--json")
    told = json.loads(done.out)
    assert (told["judged"], told["spend"]["calls"], told["seed"], len(made)) == (4, 4, 3, 1)
    assert told["reasons"] == {"the problem's budget ended": 2}


def test_recorded_logprobs_are_read(run: Run, tmp_path: Path) -> None:
    rows = problem("Q?", ("a", True), ("b", False))
    rows["samples"][0]["logprobs"], rows["samples"][1]["logprobs"] = [-0.1, -0.1], [-2.0]
    told = json.loads(run(write(tmp_path / "samples.jsonl", rows), "--verifier", "confidence", "--json").out)
    assert (told["judged"], told["auroc"]["value"]) == (2, 1.0)


def test_unit_tests_are_run_and_no_model_is_opened(run: Run, tmp_path: Path, scripted: Callable[..., list[Fake]]) -> None:
    made = scripted(lambda op, index, seed: "Yes")
    samples = [("```python\ndef f(x):\n    return x + 1\n```", True), ("```python\ndef f(x):\n    return 2\n```", False), ("Add 1.", False)]
    file = write(tmp_path / "samples.jsonl", problem("Write f.\n\n>>> f(1)\n2\n>>> f(-3)\n-2\n", *samples))
    told = json.loads(run(file, "--verifier", "code", "--json").out)
    assert (told["judged"], told["auroc"]["value"], told["choice"]["best"]["value"]) == (2, 1.0, 1.0)
    assert told["reasons"] == {"There is no program in the reply.": 1}
    assert made == []


GOOD = json.dumps(ROWS[0])
BAD = {
    (): "is empty",
    ("",): "is empty",
    (GOOD, "{oops"): "line 2: this is not a JSON object",
    (GOOD, "[1]"): "line 2: this is not a JSON object",
    ("[" * 100_000,): "line 1: this is not a JSON object",
    ("", '{"samples": []}'): "line 2: `question` is missing",
    ('{"question": 7, "samples": []}',): "`question` is missing, or no text",
    ('{"question": " ", "samples": []}',): "`question` is missing",
    ('{"question": "Q?"}',): "`samples` is missing",
    ('{"question": "Q?", "samples": []}',): "`samples` is missing",
    ('{"question": "Q?", "samples": {"text": "a"}}',): "`samples` is missing",
    ('{"question": "Q?", "samples": [{"text": 5, "correct": true}]}',): "`text` is missing, or no text",
    ('{"question": "Q?", "samples": [7]}',): "`text` is missing, or no text",
    ('{"question": "Q?", "samples": [{"text": "a"}]}',): "no `correct`",
    ('{"question": "Q?", "samples": [{"text": "a", "correct": "yes"}]}',): "neither true nor false",
    ('{"question": "Q?", "samples": [{"text": "a", "correct": [1]}]}',): "neither true nor false",
    ('{"question": "Q?", "text": "a", "correct": true, "logprobs": ["x"]}',): "`logprobs` is no list",
    ('{"question": "Q?", "text": "a", "correct": true, "kind": "poem"}',): "`kind` is not one of",
    (GOOD, '{"question": "Q?", "text": "a", "answer": "\\\\text{ }"}'): "Line 2: The gold answer",
}


@pytest.mark.parametrize("rows", BAD, ids=range(len(BAD)))
def test_wrong_files_get_one_sentence(run: Run, tmp_path: Path, rows: tuple[Any, ...]) -> None:
    done = run(write(tmp_path / "samples.jsonl", *rows), "--verifier", "length")
    assert (done.code, done.out) == (2, "")
    assert BAD[rows] in done.err.replace("\n", " ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--verifier", "lengths"), "did you mean 'length'"),
        (("--verifier", "judge(thnk=3)"), "did you mean 'think'"),
        (("--verifier", ""), "No verifier is named"),
        (("--verifier", "length", "--limit", "0"), "1 or more"),
        (("--verifier", "length", "--tokens", "0"), "allows nothing"),
        (("--verifier", "length", "--kind", "poem"), "poem"),
        ((), "--verifier"),
    ],
)
def test_wrong_options_get_one_sentence(run: Run, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = run(write(tmp_path / "samples.jsonl", *ROWS), *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err.replace("\n", " ")


def test_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere.jsonl", "--verifier", "length")
    assert (done.code, "cannot be read" in done.err.replace("\n", " ")) == (2, True)


def test_ctrl_c_gives_the_table_of_what_is_done(run: Run, tmp_path: Path, scripted: Callable[..., list[Fake]]) -> None:
    asked = threading.Event()

    def script(op: Expand, index: int, seed: int) -> str:
        if "2 + 2" in op.node.about.text:
            asked.set()
            return "so " * 10_000
        return "Yes"

    made = scripted(script, latency=0.001)
    out = tmp_path / "scores.jsonl"

    def interrupt() -> None:
        asked.wait(20)
        while not out.exists() or len(out.read_bytes().splitlines()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = run(
        write(tmp_path / "samples.jsonl", *ROWS), "--verifier", "judge(max_tokens=9999)", "--model", "fake", "--out", out, "--problems", 1
    )
    thread.join()
    assert done.code == 130
    assert "1 of 2 problems" in done.out
    assert "3 (100.0 %)" in done.out
    assert made[0].open == 0


def test_recorded_samples_are_read_whole() -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded samples are not beside this checkout")
    problems = labelled.read(RECORDED)
    assert (len(problems), sum(len(one.samples) for one in problems)) == (100, 800)
    assert all(sample.correct is not None for one in problems for sample in one.samples)


def test_the_command_line_loads_no_numbers_for_its_help() -> None:
    code = "import sys, pondera.terminal.verify; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_scores_that_were_never_made_bind_nobody(tmp_path: Path, run: Run) -> None:
    """A model that cannot be opened leaves a head: the right name goes on with the same file."""
    samples = write(tmp_path / "samples.jsonl", problem("What is 1 + 1?", ("2", True), ("3", False)))
    kept = tmp_path / "scores.jsonl"
    assert run(samples, *FAKE, "--verifier", "judge", "--judge", "nosuchmodel", "--out", kept).code == 2
    assert run(samples, *FAKE, "--verifier", "judge", "--out", kept).code == 0
    assert len(kept.read_text().splitlines()) == 2
    assert "nosuchmodel" not in kept.read_text()
    assert run(samples, *FAKE, "--verifier", "length", "--out", kept).code == 2
