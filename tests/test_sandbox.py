"""The sandbox runs what small models write, and lets nothing out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from pondera import sandbox
from pondera.errors import BadInput, CallFailed
from pondera.sandbox import extract, python

RUNS = {
    "print(2 + 3)": "5",
    "5 + 6": "11",
    "x = 5\nx * 2": "10",
    "print('a', 'b', sep='-', end='!')": "a-b!",
    "import math\nprint(math.sqrt(16))": "4.0",
    "from math import *\nprint(sqrt(16), factorial(4))": "4.0 24",
    "from fractions import Fraction\nprint(Fraction(1, 2) + Fraction(1, 3), 3 * Fraction(2, 3), 1 - Fraction('0.25'))": "5/6 2 3/4",
    "from fractions import *\nprint(float(Fraction(3, 4)), Fraction(1, 2) == 0.5, sum([Fraction(1, 2), Fraction(1, 2)]))": "0.75 True 1",
    "import statistics as st, math\nprint(st.mean([1, 3]), st.median([1, 2, 3, 4]), math.floor(2.5))": "2 2.5 2",
    "from statistics import mean as average\nprint(average([1, 2]))": "1.5",
    "import string\nprint(string.digits)": "0123456789",
    "import heapq\nh = [3, 1, 2]\nheapq.heapify(h)\nprint(heapq.heappop(h), h)": "1 [2, 3]",
    "from operator import mul\nfrom functools import reduce\nprint(reduce(mul, [1, 2, 3]))": "6",
    "from decimal import Decimal\nprint(Decimal('1.10') + 1)": "2.10",
    "from collections import *\nfrom itertools import *\nprint(Counter('aab')['a'], len(list(permutations([1, 2, 3]))))": "2 6",
    "from datetime import datetime, timedelta\nprint(datetime(2020, 1, 1, 10, 30) + timedelta(hours=1))": "2020-01-01 11:30:00",
    "print(f'{2 / 3:.2f} {1234567:,} {0.25:.0%}', '%.1f' % 2.25, round(2.567, 2))": "0.67 1,234,567 25% 2.2 2.57",
    "print(sorted([3, 1], key=lambda v: -v), [i * i for i in range(3)], {a: 1 for a in 'ab'})": "[3, 1] [0, 1, 4] {'a': 1, 'b': 1}",
    "def solve(a, b=2):\n    return a + b\n\nif __name__ == '__main__':\n    print(solve(1))": "3",
    "def solve():\n    return 5": "5",
    "def solve():\n    return 5\n\nresult = solve()": "5",
    "def main():\n    print(7)": "7",
    "def double(x):\n    return 2 * x\n\ndef solution():\n    return double(4)": "8",
    "def solve():\n    print(1)\n    return 2\n\nsolve()": "1",
    "def price():\n    return (\n        3\n    )\n(\n    price()\n)": "3",
    "print('done')\nexit(0)\nprint('never')": "done",
    "import sys\nprint(1)\nsys.exit()": "1",
    "x = 1\ndel x\nprint('gone')": "gone",
    "print('é ✓ 日本')": "é ✓ 日本",
    "größe = 3  # é\n'✓' * größe": "✓✓✓",
    "import time\ntime.sleep(1000)\nprint('awake')": "awake",
    "print(1)\r\nprint(2)\r\n": "1\n2",
    "Here it is:\n```python\nprint(3)\n```\nIt prints 3.": "3",
    "class Shop:\n    def __init__(self, n):\n        self.n = n\n    def all(self):\n        return self.n * 2\nprint(Shop(4).all())": "8",
}


@pytest.mark.parametrize("code", RUNS, ids=range(len(RUNS)))
async def test_runs_what_small_models_write(code: str) -> None:
    assert await python(code) == RUNS[code]


FAILS = {
    "": "no program",
    "Only prose, no code. ```": "no program",
    "x = 5": "printed nothing",
    "print()": "printed nothing",
    "def f(n):\n    return n": "printed nothing",
    "print(": "does not parse",
    "x = 1\ny = x +\n": "line 2",
    "x = 1\n\nprint(x / 0)": "ZeroDivisionError: division by zero (line 3)",
    "from math import *\n\ndef f():\n    return 1 / 0\n\nprint(f())": "(line 4)",
    "raise ValueError('a\\n\\nb' + 'x' * 1000)": "ValueError: a b",
    "x = input('how many? ')": "asks for input",
    "import numpy as np": "No module named 'numpy'",
    "(" * 5000 + ")" * 5000: "does not parse",
    "-" * 40_000 + "1": "does not parse",
    "print('\ud800')": "does not parse",
    "print(1)\0": "does not parse",
    "x = 1\n" * 20_000: "characters",
}


@pytest.mark.parametrize("code", FAILS, ids=range(len(FAILS)))
async def test_fails_with_one_sentence(code: str) -> None:
    with pytest.raises(CallFailed) as failure:
        await python(code)
    said = str(failure.value)
    assert FAILS[code] in said
    assert "\n" not in said
    assert len(said) < 300


BOMBS = {
    "while True:\n    pass": "longer than 0.3 seconds",
    "def f():\n    while True:\n        pass\nf()": "longer than 0.3 seconds",
    "x = [0] * 10**10": "more than 64 MB",
    "x = 'a' * 10**10": "more than 64 MB",
    "print(9**9**9)": "more than 64 MB",
    "x = []\nwhile True:\n    x.append('a' * 1000)": "than",  # memory or time, whichever is first
    "def f(n):\n    return f(n + 1)\nprint(f(0))": "RecursionError",
    "f = lambda g: g(g)\nf(f)": "RecursionError",
    "print('x' * 20_000)": "printed more than 10,000 bytes",
    "while True:\n    print('x' * 100)": "than",
    "exec('while True: pass')": "longer than 0.3 seconds",
    "'a' * 100 + '9' * 5_000_000": "printed more than",
}


@pytest.mark.parametrize("code", BOMBS, ids=range(len(BOMBS)))
async def test_bombs_are_bounded(code: str) -> None:
    with pytest.raises(CallFailed, match=BOMBS[code]):
        await python(code, seconds=0.3, megabytes=64)
    assert await python("print('next')") == "next"


ESCAPES = [
    "print(open('/etc/passwd').read())",
    "from pathlib import Path\nprint(Path('/etc/passwd').read_text())",
    "open('OUT', 'w').write('x')\nprint('written')",
    "import os\nprint(os.environ)",
    "import os\nprint(os.getenv('PATH'))",
    "import os\nprint(os.listdir('/'))",
    "import os\nos.fork()",
    "import os\nos.system('touch OUT')\nprint('done')",
    "import subprocess\nprint(subprocess.run('ls'))",
    "import socket\nprint(socket.socket())",
    "import ctypes\nprint(ctypes)",
    "print(__import__('os').listdir('/'))",
    "exec(\"import os; print(os.listdir('/'))\")",
    "print(eval(\"__import__('os').getcwd()\"))",
    "print(().__class__.__bases__[0].__subclasses__())",
    "print((lambda: 0).__globals__)",
    "print(print.__self__)",
    "print(globals())",
    "print(__builtins__)",
    "import importlib\nprint(importlib.import_module('os'))",
    "import sys\nprint(sys.modules['os'])",
    "import urllib.request",
    "print(__file__ and open(__file__).read())",
    "breakpoint()\nprint(1)",
]


@pytest.mark.parametrize("code", ESCAPES, ids=range(len(ESCAPES)))
async def test_nothing_of_the_host_is_reached(code: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CallFailed):
        await python(code.replace("OUT", str(out)))
    assert not out.exists()


async def test_programs_share_nothing() -> None:
    await python("secret = 42\nprint(secret)")
    with pytest.raises(CallFailed, match="NameError"):
        await python("print(secret)")


async def test_many_at_once() -> None:
    answers = await asyncio.gather(*(python(f"print({i} * {i})") for i in range(32)))
    assert answers == [str(i * i) for i in range(32)]


async def test_a_run_does_not_hold_the_loop() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    with pytest.raises(CallFailed):
        await python("while True:\n    pass", seconds=0.3)
    ticker.cancel()
    assert ticks > 3


async def test_cancelled_runs_leave_the_sandbox_well() -> None:
    task = asyncio.create_task(python("while True:\n    pass", seconds=0.2))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await python("print(1)") == "1"


async def test_chance_is_seeded() -> None:
    code = "import random\nprint(random.random())"
    assert await python(code) == await python(code)


def test_serves_one_loop_after_another_and_closes() -> None:
    for i in range(3):
        assert asyncio.run(python(f"print({i})")) == str(i)
    asyncio.run(sandbox.close())
    asyncio.run(sandbox.close())
    assert asyncio.run(python("print('again')")) == "again"


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"megabytes": -1}, {"output": 0}])
async def test_limits_are_checked(limits: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        await python("print(1)", **limits)  # type: ignore[arg-type]


def test_a_process_ends_quietly_without_closing() -> None:
    script = "import asyncio\nfrom pondera.sandbox import python\nprint(asyncio.run(python('print(6 * 7)')))"
    for _ in range(3):
        done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")
def test_ctrl_c_kills_no_program() -> None:
    # Ctrl-C goes to every process of the terminal; the parent handles it, and what runs or comes next must not be lost.
    script = """
import asyncio, os, signal
from pondera.sandbox import python
signal.signal(signal.SIGINT, lambda *_: None)
async def main():
    task = asyncio.create_task(python("x = 0\\nfor i in range(10**6):\\n    x += 1\\nprint(x)", seconds=30))
    await asyncio.sleep(0.05)
    os.killpg(0, signal.SIGINT)
    print(await task)
    os.killpg(0, signal.SIGINT)
    await asyncio.sleep(0.05)
    print(await python("print(2)"))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, start_new_session=True)
    assert (done.stdout, done.stderr) == ("1000000\n2\n", "")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nprint(1)\n```", "print(1)"),
        ("a\n```py\nprint(1)\n```\nb\n```python\nprint(2)\n```\nc", "print(2)"),
        ("```python\nprint(1)\n```\nOutput:\n```\n1\n```", "print(1)"),
        ("```\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)", "print(1)"),
        ("print(1)\nprint(2)\n```\nThis prints 1.", "print(1)\nprint(2)"),
        ("print(1)\n```", "print(1)"),
        ("some prose\n```\nprint(1)\n```\nmore", "print(1)"),
        ("  ```python\nprint(1)\n  ```", "print(1)"),
        ("x = 5\nprint(x)", "x = 5\nprint(x)"),
        ("\n  \ndef f():\n    return 1\n", "def f():\n    return 1"),
        ("The answer is 18.", ""),
        ("```json\n{}\n```", ""),
        ("```python\n```", ""),
        ("", ""),
    ],
)
def test_extract(reply: str, code: str) -> None:
    assert extract(reply).strip() == code
