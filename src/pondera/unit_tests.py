"""Unit tests on a program that a model wrote: how many of them pass, told by a judge that the program cannot reach.

Program and tests run in two sessions of the sandbox, each in a process of its own. The tests know the program's functions only by name:
a call is carried over with its arguments and comes back with plain data (numbers, texts, lists, ...) or an exception. So nothing that a
program does to its own world counts in theirs: its own `assert`, `print`, `abs` or `AssertionError`, an object that is equal to all, an
exit, a printed "all passed". A program that does not end in time or memory fails the test that called it.

What cannot cross is not tested: classes, functions that are handed over or come back, changes to an argument in place.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import json
import symtable
import time
from dataclasses import dataclass

from pydantic_monty import MontyCrashedError, MontyError, MontyRuntimeError, MontySyntaxError

from pondera import _dialect, sandbox
from pondera._candidate import LOST, Candidate, Limits, checkout, exceeded, feed
from pondera.errors import CallFailed

SECONDS, MEGABYTES = 2.0, 256  # for a test, and for the program's heap
WHOLE = 5  # times the seconds of one test, for all of them together
LONGEST = 200_000  # characters of tests
TOLD = 3  # failures that are told

_SETUP = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Pass,
)


async def run(argument: str) -> str:
    """Run tests on a program: the tool "tests" of a run.

    `argument` is a JSON object: `code` (a program, or a reply with one), `tests` (Python statements with `assert`), and if wanted
    `seconds` for each test and `megabytes`. Answers a JSON object: `passed` of `total` tests, and `failures`, the first in words.
    Raises CallFailed where there is no program or no test, or where the sandbox lacks what they need.
    """
    code, suite, limits = _read(argument)
    try:
        program = _dialect.read(code)
        names = symtable.symtable(code, "program", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else "it is nested too deep, or holds characters that no program has"
        return _told(0, suite.total, [f"the program does not parse: {sandbox._short(what)}"])
    _check_names(names, suite)
    pool = sandbox.workers()
    return await asyncio.get_running_loop().run_in_executor(pool.threads, _judge, pool, program, suite, limits)


def _told(passed: int, total: int, failures: list[str]) -> str:
    return json.dumps({"passed": passed, "total": total, "failures": failures[:TOLD]})


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class _Step:
    """A statement of the tests. One that only prepares the others is no test, but its failure is one."""

    source: str
    program: _dialect.Program
    test: bool


@dataclass(frozen=True, slots=True)
class _Suite:
    steps: tuple[_Step, ...]
    names: frozenset[str]  # that the tests speak of

    @property
    def total(self) -> int:
        return sum(step.test for step in self.steps)


def _read(argument: str) -> tuple[str, _Suite, Limits]:
    try:
        given = json.loads(argument)
        reply, tests = given["code"], given["tests"]
        limits = Limits(float(given.get("seconds", SECONDS)), int(given.get("megabytes", MEGABYTES)))
        right = isinstance(reply, str) and isinstance(tests, str) and limits.seconds > 0 and limits.megabytes > 0
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        right = False
    if not right:
        raise CallFailed('Tests are asked for by a JSON object: {"code": text, "tests": text, "seconds": above 0, "megabytes": above 0}.')
    if not (code := sandbox.extract(reply)).strip():
        raise CallFailed("There is no program in the reply.")
    if len(code) > sandbox.LONGEST or len(tests) > LONGEST:
        raise CallFailed(f"A program may have {sandbox.LONGEST:,} characters and its tests {LONGEST:,}: shorten them.")
    return code, _suite(tests), limits


def _suite(tests: str) -> _Suite:
    try:
        tree = ast.parse(tests)
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        steps = [_step(node) for node in tree.body]
        alone = [f.name for f in tree.body if isinstance(f, ast.FunctionDef) and f.name.startswith("test") and f.name not in called]
        steps += [_step(ast.parse(f"{name}()").body[0]) for name in alone]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CallFailed(f"The tests do not parse: {sandbox._short(str(error))}.") from None
    if not any(step.test for step in steps):
        raise CallFailed("There are no tests: write statements with `assert`.")
    return _Suite(tuple(steps), frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def _step(node: ast.stmt) -> _Step:
    source = ast.unparse(node)
    words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return _Step(sandbox._short(source)[:120], _dialect.read(source), not words and not isinstance(node, _SETUP))


def _check_names(table: symtable.SymbolTable, suite: _Suite) -> None:
    """Refuse what the tests could only misjudge: a class, which cannot cross, and a name that means something else to them."""
    for symbol in table.get_symbols():
        name = symbol.get_name()
        if name not in suite.names or not (symbol.is_assigned() or symbol.is_imported()):
            continue
        if any(space.get_type() == "class" for space in symbol.get_namespaces()):
            raise CallFailed(f"The tests use the class {name}, and only functions can be tested.")
        if hasattr(builtins, name):
            raise CallFailed(f"The program has its own {name}, which is Python's to the tests: give it another name.")


# ---------------------------------------------------------------- the judgement


def _judge(pool: sandbox.Pool, program: _dialect.Program, suite: _Suite, limits: Limits) -> str:
    """Blocks."""
    for attempt in (1, 2):
        end = time.monotonic() + WHOLE * limits.seconds
        candidate = Candidate(pool.monty(), program, limits, lambda end=end: time.monotonic() > end)  # type: ignore[misc]
        try:
            told = _tested(candidate, suite)
        except MontyCrashedError as error:
            # Ctrl-C reaches every process of the terminal: the workers too, whose programs are innocent of it.
            if attempt == 1 and (candidate.cut or "SIGINT" in str(error)):
                continue
            raise CallFailed("The sandbox's worker died under the tests, by a limit that it could not report.") from None
        except MontyError as error:
            raise CallFailed(f"The tests cannot be run: {_reason(error, limits)}.") from None
        finally:
            candidate.close()
        if not candidate.cut:
            return told
    return told


def _tested(candidate: Candidate, suite: _Suite) -> str:
    limits = candidate.limits
    try:
        candidate.open()
    except MontyError as error:
        if isinstance(error, MontyCrashedError) and "SIGINT" in str(error):
            raise
        if _lacking(error):
            raise CallFailed(f"The sandbox cannot run the program: {_reason(error, limits)}.") from None
        return _told(0, suite.total, [f"the program fails before any test: {_reason(error, limits)}"])
    passed, total, failures, lookup = 0, 0, [], candidate.lookup(suite.names)
    with checkout(candidate.monty, limits) as session:
        for step in suite.steps:
            candidate.raised = False
            try:
                if candidate.late():
                    raise TimeoutError(f"it did not come to its turn in {WHOLE * limits.seconds:g} seconds")
                feed(session, step.program.prelude)
                feed(session, step.program.code, external_lookup=lookup)
            except (MontyRuntimeError, MontySyntaxError, TimeoutError) as error:
                if not candidate.raised and isinstance(error, MontyRuntimeError) and error.display("type-msg").startswith(LOST):
                    raise CallFailed(f"The tests cannot be run: {_reason(error, limits)}.") from None
                if _lacking(error) and not candidate.raised:
                    if not step.test:
                        raise CallFailed(f"The sandbox cannot run the tests: {_reason(error, limits)}.") from None
                    continue
                total += 1
                failures.append(f"{step.source} failed: {_reason(error, limits)}")
            else:
                total += step.test
                passed += step.test
    if not total:
        raise CallFailed("The sandbox cannot run these tests: they use what it lacks.")
    if passed and not candidate.used and not lookup:
        raise CallFailed("The tests use nothing of the program: they must call it by its functions' names.")
    return _told(passed, total, failures)


def _lacking(error: Exception) -> bool:
    """Whether it is the sandbox that lacks something, and not the program that is wrong."""
    what = error.display("type-msg") if isinstance(error, MontyRuntimeError | MontySyntaxError) else ""
    return isinstance(error, MontySyntaxError) or what.startswith(("NotImplementedError", "ModuleNotFoundError"))


def _reason(error: Exception, limits: Limits) -> str:
    """On one line, cut short: the program's own words are in it."""
    if isinstance(error, MontyError) and (limit := exceeded(error, limits)):
        return limit
    return sandbox._short(error.display("type-msg") if isinstance(error, MontyRuntimeError | MontySyntaxError) else str(error))
