"""The computer algebra of answers, in a process of its own: model output can make it hang, explode, or worse.

Run by path, apart from the package, by :mod:`pondera.verifiers.symbolic`. Reads a JSON line for each request and answers with one:
``["form", a]`` -> the number that `a` comes to, as "p/q", or null; ``["same", a, b]`` -> whether the two are equal. It ends when its
input does. It kills itself a second after the time that its parent gives a request, should the parent be gone by then.
"""

import contextlib
import json
import signal
import sys
from functools import lru_cache
from typing import Any

MEMORY = 1 << 30  # bytes of address space, the interpreter and sympy (about 250 MB) included
DIGITS = 200  # of a number that is worth writing out


def limit() -> None:
    """Bounds this process where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's clock is the only bound there
        return
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses some: the clock remains
            resource.setrlimit(what, (least, least))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def main(seconds: float) -> None:
    from math_verify import LatexExtractionConfig, parse, verify

    limit()
    alarm = getattr(signal, "setitimer", lambda *_: None)
    clock = getattr(signal, "ITIMER_REAL", 0)

    @lru_cache(maxsize=512)
    def parsed(text: str) -> Any:
        # Their time limits use SIGALRM in a way that long integer powers ignore: ours kill the process instead.
        return parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)

    def form(text: str) -> str | None:
        found = [value for value in parsed(text) if not isinstance(value, str)]
        value = found[0].doit() if found else None
        if value is None or not getattr(value, "is_Rational", False):
            return None
        return f"{value.p}/{value.q}" if max(abs(value.p), value.q) < 10**DIGITS else None

    def same(a: str, b: str) -> bool:
        # Not symmetric in theirs: an assignment is simplified on one side only.
        return any(verify(parsed(x), parsed(y), timeout_seconds=None) for x, y in ((a, b), (b, a)))

    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        alarm(clock, seconds + 1)
        try:
            answer: str | bool | None = form(*arguments) if what == "form" else same(*arguments)
        except (Exception, RecursionError, MemoryError):
            answer = None
        alarm(clock, 0)
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(float(sys.argv[1]))
