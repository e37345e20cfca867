"""The command line: what is printed, what it costs, what a wrong word gets, and what Ctrl-C leaves."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pondera import cli, ledger, plan
from pondera.errors import BadInput, ModelError, ModelUnavailable
from pondera.models.fake import Fake
from pondera.terminal import recorded
from pondera.thought import QUESTION_LIMIT

Run = Callable[..., SimpleNamespace]
Q = "What is 12 + 30?"
FAKE = ("--model", "fake")
CHAINS = ("--strategy", "vote(n=4, over='chains')")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in this process: exit code, standard output, standard error."""

    def go(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return go


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Fake]]:
    """Models that are opened from now on are Fakes with this script; gives them out as they are made."""

    def use(*script: object, **options: object) -> list[Fake]:
        made: list[Fake] = []

        def open_model(spec: str, **_: object) -> Fake:
            made.append(Fake(list(script) or None, name=spec, **options))  # type: ignore[arg-type]
            return made[-1]

        monkeypatch.setattr(plan, "open_model", open_model)
        return made

    return use


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(data))
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stream)


# ---------------------------------------------------------------- ask


def test_ask_prints_answer_votes_and_bill(run: Run) -> None:
    done = run("ask", Q, *FAKE)
    assert done.code == 0
    assert done.out.startswith("answer: 42\n")
    assert "votes" in done.out
    assert "calls" in done.out
    assert "tokens generated" in done.out
    assert "\x1b" not in done.out + done.err


def test_ask_json(run: Run) -> None:
    done = run("ask", Q, *FAKE, "--json", "--seed", 7, "-s", "vote(n=3)")
    body = json.loads(done.out)
    assert (body["model"], body["strategy"], body["seed"]) == ("fake", "vote(n=3)", 7)
    assert body["spend"]["calls"] == 3
    assert body["key"] in body["votes"]
    assert done.err == ""


def test_ask_reads_a_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ((), ("-",)):
        stdin(monkeypatch, Q.encode())
        assert run("ask", *arguments, *FAKE).out.startswith("answer: 42\n")


def test_ask_passes_on_what_it_was_told(run: Run, scripted: Callable[..., list[Fake]]) -> None:
    made = scripted('{"a": 1}')
    done = run("ask", Q, "-m", "one", "--judge", "two", "--verifier", "judge", "--kind", "json", "--system", "Be brief.", "--json", *CHAINS)
    assert json.loads(done.out)["key"] == '{"a":1}'
    assert [model.name for model in made] == ["one", "two"]
    assert made[0].asked[0].node.about.messages[0].content == "Be brief."
    assert made[1].asked


def test_one_model_that_thinks_and_judges_is_opened_once(run: Run, scripted: Callable[..., list[Fake]]) -> None:
    made = scripted("The answer is 42.")
    assert run("ask", Q, "-m", "one", "--judge", "one", *CHAINS).code == 0
    assert len(made) == 1


def test_price_makes_a_bill(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "open_model", lambda spec, price, **_: Fake(price=price))
    done = run("ask", Q, *FAKE, "--price", "1,2.5", "--usd", "0.5", "--json")
    spend = json.loads(done.out)["spend"]
    assert spend["usd"] == pytest.approx((spend["prompt"] + 2.5 * spend["tokens"]) / 1e6)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["ask", ""], 2, "The question is empty"),
        (["ask", " \n "], 2, "The question is empty"),
        (["ask", Q, *FAKE, "--tokens", "0"], 2, "A budget of 0 tokens allows nothing"),
        (["ask", Q, *FAKE, "--seconds", "-1"], 2, "A budget of -1 seconds"),
        (["ask", Q, *FAKE, "--usd", "nan"], 2, "A budget of nan usd"),
        (["ask", Q, *FAKE, "--parallel", "0"], 2, "parallel=0"),
        (["ask", Q, *FAKE, "-s", "vot(n=8)"], 2, "did you mean 'vote'"),
        (["ask", Q, *FAKE, "-s", "vote(k=8)"], 2, "takes no argument 'k'"),
        (["ask", Q, *FAKE, "-s", "vote(n='x')"], 2, "must be an int"),
        (["ask", Q, *FAKE, "-s", "vote(8"], 2, "is not a strategy"),
        (["ask", Q, *FAKE, "--verifier", "confidense"], 2, "did you mean 'confidence'"),
        (["ask", Q, *FAKE, "--price", "cheap"], 2, "is no price"),
        (["ask", Q, *FAKE, "--price", "1,-2"], 2, "not negative"),
        (["ask", Q, *FAKE, "--kind", "maths"], 2, "maths"),
        (["ask", Q, "-m", "qwen2.5-coder"], 2, "There is no model 'qwen2.5-coder'"),
        (["ask", Q, "-m", "@http://localhost"], 2, "names no model on a server"),
        (["ask", b"\xff\xfe".decode("utf-8", "surrogateescape"), *FAKE], 2, "not text in UTF-8"),
        (["ask", "w" * (QUESTION_LIMIT + 1), *FAKE], 2, "shorten it"),
        (["ask", Q, *FAKE, "--trace", "/"], 1, "/"),
        (["ask", Q, *FAKE, "--trace", "/no/such/folder/run.db"], 1, "/no/such/folder/run.db"),
        (["ask", Q, *FAKE, "--trace", "/no/such/folder/run.jsonl"], 1, "/no/such/folder/run.jsonl"),
        (["aks"], 2, "Did you mean 'ask'"),
        (["ask", Q, "--tokens", "many"], 2, "--tokens"),
        (["replay", "nowhere.db"], 1, "There is no ledger nowhere.db"),
        (["resume", "nowhere.db"], 1, "There is no ledger nowhere.db"),
        (["show", "/"], 1, "There is no ledger /"),
        (["export", "nowhere.db", "out.json"], 2, "ends in .jsonl"),
        (["models", "pull", "smollm"], 2, "did you mean 'smollm2-135m'"),
    ],
)
def test_what_is_wrong_gets_one_sentence(run: Run, arguments: list[str], code: int, sentence: str) -> None:
    done = run(*arguments)
    assert done.code == code
    assert sentence in done.err
    assert done.out == ""
    assert done.err.count("\n") == 1


def test_nothing_to_ask_at_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"", terminal=True)
    assert "The question is empty" in run("ask", *FAKE).err
    monkeypatch.setattr(sys, "stdin", None)
    assert run("ask", *FAKE).code == 2


def test_an_endless_pipe_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "é".encode() * (3 * QUESTION_LIMIT))
    done = run("ask", *FAKE)
    assert done.code == 2
    assert "shorten it" in done.err


def test_a_model_that_cannot_be_opened(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(spec: str, **_: object) -> Fake:
        raise ModelUnavailable("The server is down: start it.")

    monkeypatch.setattr(plan, "open_model", refuse)
    done = run("ask", Q, *FAKE, "--trace", tmp_path / "run.db")
    assert (done.code, done.err) == (1, "The server is down: start it.\n")
    assert list(tmp_path.iterdir()) == [], "no empty trace is left behind"


def test_all_branches_failed(run: Run, scripted: Callable[..., list[Fake]]) -> None:
    scripted(ModelError("it is out of order"))
    done = run("ask", Q, *FAKE, *CHAINS)
    assert done.code == 1
    assert "it is out of order" in done.err
    assert "bill" in done.err, "what was spent in vain is shown too"
    assert done.out == ""


def test_a_sentence_cannot_steer_the_terminal(run: Run, scripted: Callable[..., list[Fake]]) -> None:
    scripted(ModelError("bad\x1b[2J"))
    assert "\x1b" not in run("ask", Q, *FAKE, *CHAINS).err


# ---------------------------------------------------------------- traces


@pytest.fixture(params=["run.db", "run.jsonl"])
def trace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def cut(trace: Path, keep: Callable[[list[ledger.Row]], list[ledger.Row]]) -> Path:
    """A copy of a trace with some of its rows, as a killed process leaves it."""
    out = trace.with_name("cut" + trace.suffix)
    copy = ledger.create(out)
    for row in keep(ledger.read(trace)):
        copy.append(row.kind, row.key, row.body)
    copy.close()
    return out


def test_replay_prints_the_same(run: Run, trace: Path) -> None:
    asked = run("ask", Q, *FAKE, "--trace", trace, "--tokens", 4000)
    before = ledger.read(trace)
    replayed = run("replay", trace)
    assert replayed.code == 0
    assert replayed.out == asked.out
    assert ledger.read(trace) == before, "a replay writes nothing"


def test_replay_json_is_the_same(run: Run, trace: Path) -> None:
    asked = run("ask", Q, *FAKE, "--trace", trace, "--json")
    assert run("replay", trace, "--json").out == asked.out


def test_trace_file_that_exists(run: Run, trace: Path) -> None:
    run("ask", Q, *FAKE, "--trace", trace)
    again = run("ask", Q, *FAKE, "--trace", trace)
    assert again.code == 1
    assert "exists" in again.err


def test_replay_of_a_cut_trace_says_what_to_do(run: Run, trace: Path) -> None:
    run("ask", Q, *FAKE, "--trace", trace, *CHAINS)
    done = run("replay", cut(trace, lambda rows: rows[:3]))
    assert done.code == 1
    assert "resume" in done.err


def test_resume_pays_only_for_what_is_missing(run: Run, trace: Path) -> None:
    whole = json.loads(run("ask", Q, *FAKE, "--trace", trace, "--json", *CHAINS).out)
    part = cut(trace, lambda rows: rows[:3])
    old = ledger.read(part)
    assert [row.kind for row in old] == ["run", "sample", "sample"]
    done = run("resume", part, "--json")
    assert done.code == 0
    body = json.loads(done.out)
    assert {name: body[name] for name in ("key", "votes", "text")} == {name: whole[name] for name in ("key", "votes", "text")}
    assert "Samples reused: 2 of" in done.err
    assert "paid now: 2 of" in done.err
    rows = ledger.read(part)
    assert rows[: len(old)] == old
    assert (rows[3].kind, rows[3].key, dict(rows[3].body)) == ("resume", "0", {})
    assert [row.kind for row in rows].count("sample") == 4
    assert json.loads(run("replay", part, "--json").out)["key"] == whole["key"]


def test_resume_of_a_complete_run_is_a_replay(run: Run, trace: Path, scripted: Callable[..., list[Fake]]) -> None:
    asked = run("ask", Q, *FAKE, "--trace", trace)
    before, made = ledger.read(trace), scripted("nothing")
    done = run("resume", trace)
    assert done.code == 0
    assert done.out == asked.out
    assert "complete" in done.err
    assert ledger.read(trace) == before
    assert made == []


def test_resume_with_a_larger_budget(run: Run, trace: Path) -> None:
    first = json.loads(run("ask", Q, *FAKE, "--trace", trace, "--calls", 2, "--json", *CHAINS).out)
    assert first["stopped"] == "budget"
    assert first["spend"]["calls"] == 2
    refused = run("resume", trace)
    assert refused.code == 2
    assert "allow more" in refused.err
    assert "used 2 calls already" in run("resume", trace, "--calls", 2).err
    more = run("resume", trace, "--calls", 10, "--json")
    body = json.loads(more.out)
    assert body["stopped"] == "done"
    assert body["spend"]["calls"] == 4
    assert next(row.body for row in ledger.read(trace) if row.kind == "resume")["budget"] == {"calls": 10}
    assert recorded.allowance(ledger.read(trace), {}).calls == 10


def test_resume_opens_the_recorded_model(run: Run, trace: Path, scripted: Callable[..., list[Fake]]) -> None:
    scripted("It is \\boxed{5}.")
    run("ask", Q, "-m", "a-model", "--trace", trace, *CHAINS)
    made = scripted("It is \\boxed{5}.")
    assert run("resume", cut(trace, lambda rows: rows[:2])).code == 0
    assert [model.name for model in made] == ["a-model"]
    assert sum(op.n for op in made[0].asked) == 3


def test_a_trace_cut_in_mid_line(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "run.jsonl"
    whole = json.loads(run("ask", Q, *FAKE, "--trace", trace, "--json", *CHAINS).out)
    lines = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    shown = run("show", trace)
    assert shown.code == 0
    assert "no answer yet" in shown.out
    done = run("resume", trace, "--json")
    assert json.loads(done.out)["votes"] == whole["votes"]
    assert "Samples reused: 2" in done.err
    trace.write_bytes(lines[0][:30])
    assert "holds no run" in run("resume", trace).err
    trace.write_bytes(lines[0] + b"{broken}\n" + lines[1])
    assert "Line 2" in run("show", trace).err


def test_show_says_how_likely_the_answer_and_the_others_are(run: Run, trace: Path) -> None:
    run("ask", Q, *FAKE, "--trace", trace, "-s", "auto(effort='max', most=9)")
    offer = [row.body for row in ledger.read(trace) if row.kind == "offer"][-1]
    assert 0 < offer["others"] < 1 - offer["confidence"]
    assert f"({offer['confidence']:.0%}, another answer {offer['others']:.0%})" in run("show", trace).out


def test_show_a_finished_run(run: Run, trace: Path) -> None:
    run("ask", Q, *FAKE, "--trace", trace, "-s", "vote(n=6)", "--verifier", "judge")
    done = run("show", trace)
    assert done.code == 0
    for word in (Q, "vote(n=6)", "= 42", "★ chosen", "logprob -", "python", "judge", "offer", "answer 0."):
        assert word in done.out
    whole = run("show", trace, "--full").out
    assert "boxed{" in whole
    assert len(whole) > len(done.out)
    rows = [json.loads(line) for line in run("show", trace, "--json").out.splitlines()]
    assert rows == [{"kind": row.kind, "key": row.key, "body": row.body} for row in ledger.read(trace)]


def test_show_failed_branches_where_they_grew(run: Run, trace: Path, scripted: Callable[..., list[Fake]]) -> None:
    scripted("It is \\boxed{5}.", ModelError("it is out of order"), "It is \\boxed{5}.")
    run("ask", Q, "-m", "m", "--trace", trace, *CHAINS)
    shown = run("show", trace).out
    assert [line for line in shown.splitlines() if "0.0.0.0/1" in line] == ["├── 0.0.0.0/1 ✗ it is out of order"]


def test_show_programs_that_failed_under_themselves(run: Run, trace: Path, scripted: Callable[..., list[Fake]]) -> None:
    scripted("\n1 / 0\n```", "\nprint(5)\n```")
    run("ask", Q, "-m", "m", "--trace", trace, "-s", "vote(n=2, over='programs')")
    lines = run("show", trace).out.splitlines()
    fault = next(line for line in lines if "ZeroDivisionError" in line)
    assert fault.startswith("│   └── 0."), "under the program, not beside it"
    assert sum("ZeroDivisionError" in line for line in lines) == 1


def test_export(run: Run, trace: Path, tmp_path: Path) -> None:
    run("ask", Q, *FAKE, "--trace", trace)
    out = tmp_path / "out.jsonl"
    assert run("export", trace, out).code == 0
    assert ledger.read(out) == ledger.read(trace)
    assert "exists" in run("export", trace, out).err


# ---------------------------------------------------------------- what there is


def test_lists(run: Run) -> None:
    assert "vote(n=8, " in run("strategies").out
    assert "confidence(how='mean'" in run("verifiers").out
    assert "smollm2-135m" in run("models").out
    assert run("--version").out.startswith("pondera 0.")


def test_what_an_answer_is_worth_may_be_said_by_flags(run: Run) -> None:
    done = run("ask", "What is 2 + 2?", "-m", "fake", "--effort", "low", "--json", "-q")
    assert (done.code, json.loads(done.out)["strategy"]) == (0, "auto(effort='low')")
    done = run("ask", "What is 2 + 2?", "-m", "fake", "-s", "auto(most=4)", "--value", "0.01", "--price", "0.1,2", "--json", "-q")
    assert json.loads(done.out)["strategy"] == "auto(most=4, value=0.01)"
    for given, said in (
        (("--value", "0.01"), "needs the price of tokens"),
        (("--latency-cost", "-1", "--price", "0.1,2"), "not negative"),
        (("--effort", "hard"), "an effort is one of low, medium, high, max"),
        (("--value", "nan", "--price", "0.1,2"), "--value nan is no amount of dollars"),
        (("--value", "0", "--price", "0.1,2"), "--value 0 says that no answer is worth a token"),
        (("--effort", "hard", "-m", "no/such.gguf"), "an effort is one of low"),
        (("--error-cost", "1", "-s", "cot"), "What an answer is worth (--error-cost) guides the strategy auto, not cot"),
    ):
        done = run("ask", "What is 2 + 2?", "-m", "fake", "-q", *given)
        assert (done.code, done.out) == (2, "")
        assert said in done.err.replace("\n", " ")


def test_help_has_examples(run: Run) -> None:
    for command in (["ask"], ["replay"], ["resume"], ["show"], ["export"], ["models", "pull"], ["strategies"], ["verifiers"]):
        done = run(*command, "--help")
        assert done.code == 0
        assert "Example:  pondera" in done.out
    assert plan.STRATEGY in run("ask", "--help").out


def test_pull_prints_the_file(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(name: str, *, progress: Callable[[str, int, int], None]) -> Path:
        for stage, done, total in (("fetching", 0, 2_000_000), ("fetching", 2_000_000, 2_000_000), ("checking", 0, 2_000_000)):
            progress(stage, done, total)
        return tmp_path / name

    monkeypatch.setattr("pondera.models.weights.pull", fetch)
    done = run("models", "pull", "smollm2-135m")
    assert done.out == f"{tmp_path / 'smollm2-135m'}\n"
    assert done.err == "fetching 2 MB\n"
    assert run("models", "pull", "smollm2-135m", "--quiet").err == ""


def test_starting_up_imports_nothing_heavy() -> None:
    heavy = "asyncio numpy gguf openai httpx huggingface_hub math_verify sympy openvino_genai pondera.runtime pondera.models.weights"
    code = f"import sys, pondera.cli; print([m for m in {heavy.split()!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_allowance_needs_caps_above_what_was_used() -> None:
    rows = [
        ledger.Row("run", "0", {"budget": {"tokens": 100}}),
        ledger.Row("sample", "0.0/0", {"spend": {"answer": 50, "calls": 1}, "at": 3.0}),
    ]
    assert recorded.allowance(rows, {"seconds": 9.0}).tokens == 100
    with pytest.raises(BadInput, match="used 50 tokens already"):
        recorded.allowance(rows, {"tokens": 50})
    with pytest.raises(BadInput, match="used 3 seconds already"):
        recorded.allowance(rows, {"seconds": 2})


# ---------------------------------------------------------------- Ctrl-C, in processes of their own

SCRIPT = """
import asyncio, sys, time
from pathlib import Path
import pondera.runtime, pondera.terminal.session, pondera.plan
from pondera import cli
from pondera.models.fake import Fake
mode, mark = sys.argv[1], Path(sys.argv[2])
def open_model(spec, **options):
    if mode == "opening":
        mark.touch()
        time.sleep(600)
    def script(op, index, seed):  # the first branch is soon done, the others are not
        return "It is \\\\boxed{42}." if index == 0 else "so " * 512
    return Fake(script, latency=600 if mode == "mute" else 0.02, name=spec)
if mode == "stuck":
    pondera.runtime.GRACE = 600
    async def keys(question, texts):
        await asyncio.sleep(600)
    pondera.plan.keys = keys
pondera.plan.open_model = open_model
sys.exit(cli.main(sys.argv[3:]))
"""


class Process:
    """`pondera ask` with a slow model, its trace, and what a terminal or pipes got."""

    def __init__(self, mode: str, folder: Path, *, terminal: bool = False) -> None:
        self.seen = b""
        self.trace, self.mark = folder / "run.jsonl", folder / "mark"
        (folder / "script.py").write_text(SCRIPT)
        command = [
            sys.executable,
            str(folder / "script.py"),
            mode,
            str(self.mark),
            "ask",
            Q,
            "-m",
            "slow",
            *CHAINS,
            "--trace",
            str(self.trace),
        ]
        self.master, slave = pty.openpty() if terminal else (-1, -1)
        streams = {"stdin": slave, "stdout": slave, "stderr": slave} if terminal else {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)  # type: ignore[call-overload]
        if terminal:
            os.close(slave)

    def wait_for(self, kind: str) -> None:
        """Until the trace has a row of this kind (or the mark is there, for "mark")."""
        while self.process.poll() is None:
            if kind == "mark" and self.mark.exists():
                return
            if self.trace.exists() and any(row.kind == kind for row in ledger.read(self.trace)):
                return
            time.sleep(0.02)
        raise AssertionError(f"the process ended before it came to a {kind}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        if self.master < 0:
            out, err = self.process.communicate(timeout=60)
            return self.process.returncode, out.decode(), err.decode()
        while self.read():
            pass
        return self.process.wait(timeout=60), self.seen.decode(), ""

    def read(self) -> bool:
        """Take what the terminal got; False when the process has let go of it."""
        try:
            block = os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # which says that the other end is closed
                raise
            block = b""
        self.seen += block
        return bool(block)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        if self.master >= 0:
            os.close(self.master)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def begin(mode: str, **options: bool) -> Process:
        running.append(Process(mode, tmp_path, **options))
        return running[-1]

    yield begin
    for process in running:
        process.close()


def test_ctrl_c_gives_the_best_answer_so_far(start: Callable[..., Process], run: Run) -> None:
    process = start("slow")
    process.wait_for("sample")
    process.interrupt()
    code, out, err = process.end()
    assert code == 0, err
    assert out.startswith("answer: 42\n")
    assert "you stopped it" in out
    assert "tokens generated" in out
    assert "Traceback" not in err
    shown = run("show", process.trace).out
    assert "stop: cancelled" in shown


def test_ctrl_c_before_there_is_anything(start: Callable[..., Process]) -> None:
    process = start("mute")
    process.wait_for("run")
    process.interrupt()
    code, out, err = process.end()
    assert code == 130
    assert out == ""
    assert "Traceback" not in err


def test_ctrl_c_twice_leaves_at_once_with_the_bill(start: Callable[..., Process]) -> None:
    process = start("stuck")
    process.wait_for("sample")
    process.interrupt()
    process.wait_for("stop")
    process.interrupt()
    code, out, err = process.end()
    assert code == 130
    assert out == ""
    assert "Cancelled." in err
    assert "tokens generated" in err
    assert "Traceback" not in err


def test_ctrl_c_while_a_model_is_being_opened(start: Callable[..., Process]) -> None:
    process = start("opening")
    process.wait_for("mark")
    process.interrupt()
    code, out, err = process.end()
    assert code == 130
    assert out == ""
    assert "Traceback" not in err


def test_the_terminal_is_left_as_it_was(start: Callable[..., Process]) -> None:
    process = start("slow", terminal=True)
    while b"thinking" not in process.seen:  # the live view is there
        assert process.read(), process.seen
    process.interrupt()
    code, seen, _ = process.end()
    assert code == 0
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") > 0, "a cursor that is hidden is shown again"
    assert "Traceback" not in seen
    assert "answer" in seen.rsplit("\x1b[?25h", 1)[1]


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    trace = tmp_path / "run.jsonl"
    record = ledger.create(trace)
    record.append("run", "0", {"question": {"messages": [{"role": "user", "content": "What?"}]}})
    for i in range(300):
        body = {"status": "answered", "by": "think", "parent": "0", "text": "word " * 500, "finish": "done", "tokens": 500}
        record.append("sample", f"0.0/{i}", body)
    record.close()
    for arguments in (["show", "--json"], ["show", "--full"]):
        command = [sys.executable, "-m", "pondera.cli", *arguments, str(trace)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stderr
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 0
