"""A model's program in a session of the sandbox, as unit tests may reach it: by its functions' names, with plain data in and out."""

from __future__ import annotations

import builtins
import datetime
import decimal
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_monty import Monty, MontyCrashedError, MontyError, MontyRuntimeError, MontySession

from pondera import _dialect

DEPTH = 50  # levels of nested data that cross
LOST = "MemoryError: the worker exceeded its memory limit"  # its session is gone
LARGEST = 1_000_000  # characters of data, as written, that cross

_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_VALUES = (*_SCALARS, decimal.Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta)
_OWN_WORDS = re.compile(r"__repr__|setattr")  # an object could change what holds it while that is written
_FUNCTION = re.compile(r"<function '.*' at 0x[0-9a-f]+>")  # how one comes out of the sandbox


@dataclass(frozen=True, slots=True)
class Limits:
    seconds: float
    megabytes: int

    def of(self) -> Any:
        return {
            "max_feed_duration_secs": self.seconds,
            "max_memory": self.megabytes << 20,
            "max_recursion_depth": 1000,
            "max_suspensions": 1_000_000,  # calls of the tests, which the clock bounds
        }


@dataclass(eq=False, slots=True)
class Candidate:
    """The program in its session. `late` tells when all must end; `raised` says that its call failed, `used` that it was of any use,
    `cut` that Ctrl-C hit its worker.
    """

    monty: Monty
    program: _dialect.Program
    limits: Limits
    late: Callable[[], bool]
    session: MontySession | None = None
    raised: bool = False
    used: bool = False
    cut: bool = False

    def open(self) -> MontySession:
        """The session, begun anew where the last one was lost. Raises MontyError where the program itself fails."""
        if self.session is None:
            self.session = checkout(self.monty, self.limits)
            self.session.__enter__()
            feed(self.session, self.program.prelude)
            try:
                feed(self.session, self.program.code)
            except MontyRuntimeError as error:
                if error.display("type-msg") != "SystemExit":  # exit() ends a program well; what it defined is there
                    raise
        return self.session

    def close(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.__exit__(None, None, None)

    def lookup(self, names: frozenset[str]) -> dict[str, Any]:
        """What the tests may look up beside Python's own names: functions by proxy, plain values as they are."""
        found: dict[str, Any] = {}
        for name in sorted(names - set(dir(builtins))):
            try:
                function = str(self._fed(f"f'{{{name}!r}}'[:99]")).startswith(("<function ", "<built-in function "))
                found[name] = self._proxy(name) if function else plain(self._taken(name))
            except (MontyError, TypeError, RecursionError) as error:  # it has no such name, or nothing that can cross
                if "SIGINT" in str(error):
                    raise
        return found

    def _proxy(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.used = True
            if any(isinstance(one, str) and _FUNCTION.fullmatch(one) for one in (*args, *named.values())):
                raise NotImplementedError("a function cannot be handed to the program")
            try:
                given = plain(args), plain(named)
            except TypeError as error:
                raise NotImplementedError(str(error)) from None
            self.raised = True
            value = self._call(name, *given)
            self.raised = False
            return value

        return call

    def _call(self, name: str, args: Any, named: Any) -> Any:
        if self.late():
            raise TimeoutError("no time is left for this test")
        try:
            return plain(self._taken(f"{name}(*__args, **__named)", inputs={"__args": args, "__named": named}))
        except MontyError as error:
            self.cut = self.cut or "SIGINT" in str(error)
            raise error.exception() from None

    def _taken(self, expression: str, **more: Any) -> Any:
        """The value of an expression, weighed before it crosses: a list in a list in a list, twice each time, is no larger than one to the
        program, and 2 ** 50 lists to us. Raises TypeError for what is too large.
        """
        by_json = _OWN_WORDS.search(self.program.code)
        written = "import json as __json__\n__json__.dumps(__taken__)" if by_json else "f'{__taken__!r}'"
        self._fed(f"__taken__ = {expression}", **more)
        if self._fed(f"{written}[{LARGEST}:{LARGEST + 1}]"):
            raise TypeError(f"the data has more than {LARGEST:,} characters")
        return self._fed("__taken__")

    def _fed(self, code: str, **more: Any) -> Any:
        try:
            return feed(self.open(), code, **more)
        except MontyError as error:
            if isinstance(error, MontyCrashedError) or exceeded(error, self.limits):
                self.close()  # nothing is sure of its heap any more
            raise


def plain(value: Any, depth: int = 0) -> Any:
    """Data that cannot lie about itself: values of exactly the built-in types. Raises TypeError for all else."""
    if type(value) in _VALUES:
        if isinstance(value, str) and _FUNCTION.fullmatch(value):
            raise TypeError("a function came back, which cannot be tested")
        return value
    if depth >= DEPTH:
        raise TypeError(f"the data is nested deeper than {DEPTH} levels")
    if isinstance(value, dict):
        return {plain(key, depth + 1): plain(one, depth + 1) for key, one in dict.items(value)}
    kinds: tuple[type[Any], ...] = (list, tuple, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            return kind(plain(one, depth + 1) for one in kind.__iter__(value))
    raise TypeError(f"an object ({type(value).__name__}) is not plain data, which alone can be tested")


def checkout(monty: Monty, limits: Limits) -> MontySession:
    return monty.checkout(limits=limits.of(), os_policy={"sleep": "zero", "random_start": {"seed": 0}})


def feed(session: MontySession, code: str, **more: Any) -> Any:
    return session.feed_run(code, print_callback=lambda stream, text: None, **more)  # what is printed proves nothing


def exceeded(error: MontyError, limits: Limits) -> str:
    what = error.display("type-msg") if isinstance(error, MontyRuntimeError) else ""
    if what.startswith("TimeoutError: feed time limit exceeded"):
        return f"it ran longer than {limits.seconds:g} seconds"
    if what.startswith(("MemoryError: memory limit exceeded", LOST)):
        return f"it needed more than {limits.megabytes} MB of memory"
    return ""
