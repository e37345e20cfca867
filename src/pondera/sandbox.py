"""Run a program that a model wrote, safely: what it prints is the answer.

The interpreter is pydantic-monty, a Python of its own in Rust: it has no file, socket, process or environment to give, so a program
can reach nothing but its own values. It runs in worker processes with limits on time, memory, recursion and output; a worker that dies
is replaced. The workers are started with the first program and serve the whole process, whatever event loops there are.

Why threads of our own and not the package's asyncio interface: version 1.4.0 of that aborts the interpreter (SIGABRT) in about half
of the runs that exit soon after a program, since its threads wake up in a Python that is being torn down.

What Monty lacks of Python and :mod:`pondera._dialect` gives: star imports, `fractions`, `statistics`, `operator`, `heapq`, `string`
(the common part of each), `exit`, `del name`. What stays unsupported: sympy, numpy and pandas, `input`, generators with `yield`, class
inheritance, `@property` and the like, comparing (`<`) and formatting objects of one's own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic_monty import CollectString, Monty, MontyCrashedError, MontyError, MontyRuntimeError, MontySession, MontySyntaxError

from pondera import _dialect
from pondera.errors import BadInput, CallFailed

LONGEST = 50_000  # characters of a program
WORKERS = min(4, os.cpu_count() or 1)

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n`]*(?:\n|\Z)", re.MULTILINE)
_PYTHON = {"python", "py", "python3", "python2", "pycon"}
_CODE_LINE = re.compile(
    r"^\s*(?:import \w|from \w[\w.]* import |def \w+\(|class \w+|for .+ in .+:|while .+:|if .+:|print\(|return\b|#"
    r"|[\w., \[\]\"']+ ?[-+*/]?= ?\S)"
)


def extract(reply: str) -> str:
    """The program in a reply: the last block fenced as Python, closed or cut off; else the last fenced block; else the bare reply if it
    reads as code; else "".
    """
    blocks: list[tuple[str, str]] = []
    at = 0
    # A reply that goes on with a block opened for it (by a forced beginning) closes it without having opened it.
    if (first := _FENCE.search(reply)) and not first[1] and _is_code(head := reply[: first.start()]):
        blocks.append(("python", head))
        at = first.end()
    while opening := _FENCE.search(reply, at):
        closing = _FENCE.search(reply, opening.end())
        blocks.append((opening[1].lower(), reply[opening.end() : closing.start() if closing else len(reply)]))
        at = closing.end() if closing else len(reply)
    for wanted in (_PYTHON, {""}):
        if found := [code for tag, code in blocks if tag in wanted and code.strip()]:
            return found[-1].strip("\n").rstrip()
    return reply.strip("\n").rstrip() if not blocks and _is_code(reply) else ""


def _is_code(text: str) -> bool:
    lines = [line for line in text[:LONGEST].splitlines() if line.strip()]
    if not lines or not any(_CODE_LINE.match(line) for line in lines):
        return False
    try:
        _dialect.read(text[:LONGEST].strip("\n"))
    except SyntaxError:  # cut off in mid-line, perhaps: code, if most lines look it
        return sum(bool(_CODE_LINE.match(line)) for line in lines) > len(lines) / 2
    except (ValueError, RecursionError, MemoryError):
        return False
    return True


class Pool:
    """The workers, and threads to wait for them. Nothing is started before the first program, and then off the event loop.

    A thread holds two workers at most (unit tests do), so there are never too few for one that has begun.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="pondera-sandbox")
        self._starting = threading.Lock()
        self._monty: Monty | None = None

    def monty(self) -> Monty:
        """The interpreters; blocks while they start."""
        with self._starting:
            if self._monty is None:
                monty = Monty(min_processes=1, max_processes=2 * WORKERS)
                monty.__enter__()
                self._monty = monty
            return self._monty

    def close(self) -> None:
        self.threads.shutdown(wait=True)
        if self._monty is not None and self.owner == os.getpid():
            self._monty.__exit__(None, None, None)


_pool: Pool | None = None
_guard = threading.Lock()


def workers() -> Pool:
    """The pool of this process."""
    global _pool
    with _guard:
        if _pool is None or _pool.owner != os.getpid():
            _pool = Pool()
        return _pool


def _close() -> None:
    global _pool
    with _guard:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


async def close() -> None:
    """End the workers, once the programs that were given to them have ended; the next program starts new ones."""
    await asyncio.get_running_loop().run_in_executor(None, _close)


atexit.register(_close)


async def python(code: str, *, seconds: float = 2.0, megabytes: int = 256, output: int = 10_000) -> str:
    """What a program prints, stripped; if it prints nothing, the value of its last expression, or of its lone function.

    `code` may be a whole reply with a fenced block. `seconds` of running, `megabytes` of heap, at most `output` bytes printed. Raises
    CallFailed with one sentence when there is no program, or it does not parse, raises, exceeds a limit or prints nothing.
    """
    if seconds <= 0 or megabytes <= 0 or output <= 0:
        raise BadInput("The limits of the sandbox are numbers above 0: seconds, megabytes and bytes of output.")
    if "```" in code:
        code = extract(code)
    code = code.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    if not code.strip():
        raise CallFailed("There is no program in the reply.")
    if len(code) > LONGEST:
        raise CallFailed(f"The program has {len(code):,} characters, more than {LONGEST:,}.")
    try:
        program = _dialect.read(code)
    except SyntaxError as error:
        raise CallFailed(f"The program does not parse: {_short(error.msg)} (line {error.lineno}).") from None
    except (ValueError, RecursionError, MemoryError):
        raise CallFailed("The program does not parse: it is nested too deep, or holds characters that no program has.") from None
    pool = workers()
    return await asyncio.get_running_loop().run_in_executor(pool.threads, _run, pool, program, _Limits(seconds, megabytes, output))


@dataclass(frozen=True, slots=True)
class _Limits:
    seconds: float
    megabytes: int
    output: int


def _run(pool: Pool, program: _dialect.Program, limits: _Limits) -> str:
    """One program in a session of its own; blocks."""
    for attempt in (1, 2):
        printed = CollectString(max_bytes=limits.output)
        try:
            with pool.monty().checkout(
                limits={
                    "max_feed_duration_secs": limits.seconds,
                    "max_memory": limits.megabytes << 20,
                    "max_recursion_depth": 1000,
                    "max_suspensions": 1000,
                },
                os_policy={"sleep": "zero", "random_start": {"seed": 0}},  # a program's output depends on the program
            ) as session:
                _feed(session, program, printed)
            break
        except MontyCrashedError as error:
            # Ctrl-C reaches every process of the terminal: the workers too, whose programs are innocent of it.
            if attempt == 1 and "SIGINT" in str(error):
                continue
            raise CallFailed("The sandbox's worker died under the program, by a limit that it could not report.") from None
        except MontyError as error:
            raise CallFailed(_sentence(error, limits)) from None
    if not (text := printed.output.strip()):
        raise CallFailed("The program printed nothing.")
    return text


def _feed(session: MontySession, program: _dialect.Program, printed: CollectString) -> None:
    show = "\nif __value__ is not None:\n    print(__value__)"
    session.feed_run(program.prelude)
    try:
        session.feed_run(program.code, print_callback=printed)
    except MontyRuntimeError as error:
        if error.display("type-msg") != "SystemExit":  # exit() ends a program well
            raise
    if not printed.output.strip():
        session.feed_run(show, print_callback=printed)
    if program.lone and not printed.output.strip():
        session.feed_run(f"__value__ = {program.lone}(){show}", print_callback=printed)


def _sentence(error: MontyError, limits: _Limits) -> str:
    """What went wrong, in one sentence; the program's own words in it are cut short."""
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return f"The program cannot be run: {_short(str(error))}."
    what = error.display("type-msg")
    if what.startswith("TimeoutError: feed time limit exceeded"):
        return f"The program ran longer than {limits.seconds:g} seconds."
    if what.startswith("MemoryError: memory limit exceeded"):
        if what.endswith(f"> {limits.output} bytes"):
            return f"The program printed more than {limits.output:,} bytes."
        return f"The program needed more than {limits.megabytes} MB of memory."
    if what.startswith("NameError: name 'input'"):
        what = "it asks for input, and there is nobody to answer"
    lines = [frame.line for frame in error.traceback() if frame.filename == "<python-input-1>"]
    return f"The program failed: {_short(what)}" + (f" (line {lines[-1]})." if lines else ".")


def _short(text: str) -> str:
    """On one line, of at most 200 characters."""
    line = " ".join(text.split())
    return line.rstrip(".") if len(line) <= 200 else line[:199] + "…"
