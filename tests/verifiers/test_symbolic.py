"""The algebra's worker: hard limits, one after another, under any loop, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from pondera.errors import VerifierError
from pondera.verifiers import symbolic
from pondera.verifiers.symbolic import Algebra, algebra, off_loop


@pytest.fixture
def fresh() -> object:
    made = Algebra()
    yield made
    made.close()


def test_forms_and_equality(fresh: Algebra) -> None:
    assert fresh.form(r"2\times 3") == 6
    assert fresh.form(r"\frac{\sqrt{4}}{3}") == Fraction(2, 3)
    assert fresh.form("x+1") is None
    assert fresh.same("x+1", "1+x")
    assert not fresh.same("x+1", "x+2")


def test_classes_have_the_smallest_of_equals(fresh: Algebra) -> None:
    forms = ["x+1", "1+x", r"\sqrt{12}", r"2\sqrt{3}", "y"]
    expected = {"x+1": "1+x", "1+x": "1+x", r"\sqrt{12}": r"2\sqrt{3}", r"2\sqrt{3}": r"2\sqrt{3}", "y": "y"}
    assert fresh.classes(forms, lambda a, b: True) == expected
    assert fresh.classes(forms[::-1], lambda a, b: True) == expected
    assert fresh.classes(forms, lambda a, b: False) == {form: form for form in forms}


def test_a_worker_that_is_killed_is_replaced(fresh: Algebra) -> None:
    assert fresh.same("x+1", "1+x")
    process = fresh._process
    assert process is not None
    process.kill()
    process.wait()
    assert fresh.same("y+1", "1+y")
    assert fresh._process is not process


def test_one_that_hangs_is_killed_at_its_time(fresh: Algebra, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh.same("x+1", "1+x")
    monkeypatch.setattr(symbolic, "SECONDS", 0.2)
    process = fresh._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    assert fresh.same("y+1", "1+y") is False
    assert process.returncode is not None  # reaped: no zombie
    assert fresh.form(r"2\times 3") == 6
    os.kill(fresh._process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
    assert fresh.form("9^9") is None
    assert fresh._process is None
    assert not fresh.same("9^9", "387420489")  # not tried again
    assert fresh._process is None
    monkeypatch.undo()
    assert fresh.same("z+1", "1+z")


def test_it_starts_or_says_why(monkeypatch: pytest.MonkeyPatch, fresh: Algebra) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(VerifierError, match="math-verify"):
        fresh.same("x+1", "1+x")


def test_the_worker_gets_no_secrets(fresh: Algebra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "not for the worker")
    assert fresh.same("x+1", "1+x")
    assert fresh._process is not None
    environment = f"/proc/{fresh._process.pid}/environ"
    if not os.path.exists(environment):
        pytest.skip("the environment of a process is read from /proc, which is not here")
    with open(environment, "rb") as file:
        assert b"SOME_API_KEY" not in file.read()


def test_one_loop_after_another_and_side_by_side() -> None:
    async def ask(n: int) -> list[bool]:
        return list(await asyncio.gather(*(off_loop(lambda i=i: algebra.same(f"x+{i}", f"{i}+x")) for i in range(n))))

    for _ in range(3):
        assert asyncio.run(ask(4)) == [True] * 4


def test_a_process_ends_quietly_and_takes_the_worker_along() -> None:
    script = (
        "import asyncio\nfrom pondera.verifiers.keys import same\nfrom pondera.verifiers.symbolic import algebra\n"
        "print(asyncio.run(same('math', 'x+1', '1+x')), algebra._process.pid)"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, timeout=60)
    said, pid = done.stdout.split()
    assert (done.returncode, said, done.stderr) == (0, "True", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the state of a process is read from /proc, which is not here")
def test_it_dies_with_a_parent_that_is_killed() -> None:
    script = (
        "import os, signal\nfrom pondera.verifiers.symbolic import algebra\nalgebra.same('x+1', '1+x')\n"
        "print(algebra._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":  # adopted, and not reaped in this container
                return
        time.sleep(0.01)
    raise AssertionError("the worker outlives its parent")
