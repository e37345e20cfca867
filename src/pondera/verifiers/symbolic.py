"""Equality of mathematical expressions, by math-verify, in a worker process with hard limits on time and memory.

One worker serves the whole process. It starts with the first question, is killed and replaced when a question takes longer than
`SECONDS`, and ends with its parent (its input closes). All talk to it happens on one thread of its own, so no event loop is ever
blocked and any number of loops, one after another or side by side, may ask.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from pondera.errors import VerifierError

T = TypeVar("T")

SECONDS = 2  # for one parse or one comparison
PATIENCE = 10.0  # for all comparisons of one call; what is left then stays unequal
START = 60.0  # for the worker to import sympy on a busy machine
REMEMBERED = 20_000  # answers kept
_KEPT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


class Algebra:
    """A worker and its client. Its methods block: call them through :func:`off_loop`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._known: dict[tuple[str, ...], Any] = {}
        self._endless: set[str] = set()  # could not even be evaluated in time: not tried again

    def form(self, text: str) -> Fraction | None:
        """The rational number that an expression comes to, or None."""
        answer = self._ask("form", text)
        return Fraction(answer) if isinstance(answer, str) else None

    def same(self, a: str, b: str) -> bool:
        """Whether two expressions are equal; False where that cannot be told in time."""
        return not {a, b} & self._endless and self._ask("same", *sorted((a, b))) is True

    def classes(self, forms: list[str], wanted: Callable[[str, str], bool]) -> dict[str, str]:
        """The smallest of its equals for each form, over the pairs that are `wanted`; independent of the order."""
        head = {form: form for form in forms}
        ordered = sorted(head)
        end = time.monotonic() + PATIENCE
        for i, a in enumerate(ordered):
            for b in ordered[i + 1 :]:
                if head[a] != head[b] and wanted(a, b) and time.monotonic() < end and self.same(a, b):
                    low, high = sorted((head[a], head[b]))
                    head = {form: low if of == high else of for form, of in head.items()}
        return head

    def close(self) -> None:
        """End the worker; the next question starts another."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not yet written has no reader now
                    continue

    def _ask(self, *request: str) -> Any:
        if request in self._known:
            return self._known[request]
        process = self._process
        if process is None or self._owner != os.getpid() or process.poll() is not None:
            process = self._start()
        line = self._exchange(process, json.dumps(request) + "\n", SECONDS)
        if not line.endswith("\n"):  # killed by the clock, or dead by its own hand
            self.close()
            if request[0] == "form":
                self._endless.add(request[1])
        if len(self._known) >= REMEMBERED:
            self._known.clear()
            self._endless.clear()
        self._known[request] = json.loads(line) if line.endswith("\n") else None
        return self._known[request]

    def _start(self) -> subprocess.Popen[str]:
        self.close()
        # By path and with -P: the worker needs nothing of this package, and this folder's math.py must not hide Python's own.
        worker = Path(__file__).with_name("_math_worker.py")
        process = subprocess.Popen(
            [sys.executable, "-P", str(worker), str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONUTF8": "1"},
            start_new_session=True,  # Ctrl-C is for the run, which still wants its answers keyed
        )
        self._process, self._owner = process, os.getpid()
        if self._exchange(process, "", START) != "ready\n":
            self.close()
            raise VerifierError("The worker that compares mathematical answers does not start: check that math-verify can be imported.")
        return process

    @staticmethod
    def _exchange(process: subprocess.Popen[str], line: str, seconds: float) -> str:
        clock = threading.Timer(seconds, process.kill)
        clock.daemon = True
        clock.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line)
            process.stdin.flush()
            return process.stdout.readline()
        except OSError:
            return ""
        finally:
            clock.cancel()


algebra = Algebra()
_thread: tuple[int, ThreadPoolExecutor] | None = None


async def off_loop(work: Callable[[], T]) -> T:
    """Run blocking work on the one thread that talks to the worker."""
    global _thread
    if _thread is None or _thread[0] != os.getpid():
        _thread = (os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="pondera-algebra"))
    return await asyncio.get_running_loop().run_in_executor(_thread[1], work)


atexit.register(algebra.close)
