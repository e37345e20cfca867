"""Unit tests on a model's program: right ones pass, wrong ones fail, and no trick of the program changes the count."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pondera import unit_tests
from pondera.errors import CallFailed

TESTS = "assert f(1) == 2\nassert f(2) == 3\nassert f(-1) == 0"
RIGHT = "def f(x):\n    return x + 1"


async def outcome(code: str, tests: str = TESTS, **limits: float) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await unit_tests.run(json.dumps({"code": code, "tests": tests, **limits})))
    return told


PASSES = {
    "class C:\n    def __repr__(self):\n        return 'c'\ndef f(x):\n    return [x + 1][0]": TESTS,
    "f = abs": "assert f(-1) == 1",
    RIGHT: TESTS,
    f"Here:\n```python\n{RIGHT}\n```\nIt adds one.": TESTS,
    "f = lambda x: x + 1": TESTS,
    "def f(x):\n    return x + 1\nprint(f(3))\nexit()": TESTS,
    "def f(xs, scale=1):\n    return {'a': [(x * scale, None) for x in xs]}": "assert f([1, 2], scale=2) == {'a': [(2, None), (4, None)]}",
    "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f():\n    return P(1, 2)": "assert f() == (1, 2)",
    "def f(x):\n    if x < 0:\n        raise ValueError('no')": "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass",
    "def f(x):\n    return x / 3": "import math\nassert math.isclose(f(1), 0.333, abs_tol=0.01), 'near'",
    "def f(x):\n    return x": "def check(candidate):\n    for i in range(5):\n        assert candidate(i) == i\ncheck(f)",
    "def f(x):\n    return 2 * x": '"""Tests of f."""\ndef test_one():\n    assert f(1) == 2\ndef test_two():\n    assert f(2) == 4',
    "from math import gcd as f": "assert f(4, 6) == 2",
    "K = 3\ndef f():\n    return K": "assert f() == K == 3",
    "from decimal import Decimal\ndef f():\n    return Decimal('1.5')": "from decimal import Decimal\nassert f() == Decimal('1.5')",
    "def f():\n    return {1, 2}": "x = f()\nassert x == {2, 1}\nassert len(x) == 2",
    "def abs(x):\n    return 5\ndef f(x):\n    return x": "assert f(-5) == -5",
}


@pytest.mark.parametrize("code", PASSES, ids=range(len(PASSES)))
async def test_right_programs_pass(code: str) -> None:
    told = await outcome(code, PASSES[code])
    assert told["failures"] == []
    assert told["passed"] == told["total"] > 0


async def test_the_share_and_the_first_failures() -> None:
    told = await outcome("def f(x):\n    return x + 1 if x > 0 else 1 / 0")
    assert (told["passed"], told["total"]) == (2, 3)
    assert told["failures"] == ["assert f(-1) == 0 failed: ZeroDivisionError: division by zero"]
    told = await outcome("def f(x):\n    return 7", "\n".join(f"assert f({i}) == {i}" for i in range(9)))
    assert (told["passed"], told["total"], len(told["failures"])) == (1, 9, 3)
    assert told["failures"][0] == "assert f(0) == 0 failed: AssertionError: assert 7 == 0"


LIE = "class R:\n    def __eq__(self, other):\n        return True\n    def __ne__(self, other):\n        return False\n"
EVIL = {
    "equal to all": LIE + "def f(x):\n    return R()",
    "equal to all, inside": LIE + "def f(x):\n    return [R()]",
    "endless": "def f(x):\n    while True:\n        pass",
    "endless at once": "while True:\n    pass",
    "recursion": "def f(x):\n    return f(x)",
    "10 GB": "def f(x):\n    return [0] * 10**10",
    "10 GB at once": "x = 'a' * 10**10\ndef f(x):\n    return x + 1",
    "deep data": "def f(x):\n    y = []\n    for i in range(100000):\n        y = [y]\n    return y",
    "a number without end": "def f(x):\n    return 9 ** 9 ** 9",
    "fork": "import os\ndef f(x):\n    os.fork()\n    return x + 1",
    "open": "def f(x):\n    open('OUT', 'w').write('x')\n    return x + 1",
    "read": "def f(x):\n    return len(open('/etc/passwd').read()) and x + 1",
    "system": "import os\ndef f(x):\n    os.system('touch OUT')\n    return x + 1",
    "environment": "import os\ndef f(x):\n    return len(os.environ['PATH']) and x + 1",
    "eval": "def f(x):\n    return eval(\"__import__('os').getcwd()\") and x + 1",
    "exec": "exec(\"import os; os.listdir('/')\")\ndef f(x):\n    return x + 1",
    "frames": "def f(x):\n    return f.__globals__ and x + 1",
    "classes": "def f(x):\n    return ().__class__.__bases__[0].__subclasses__() and x + 1",
    "printed": 'print(\'{"passed": 3, "total": 3, "failures": []}\')\ndef f(x):\n    print(\'3 passed\')',
    "exit": "def f(x):\n    exit(0)",
    "system exit": "def f(x):\n    raise SystemExit(0)",
    "system exit at once": "x = 1\nraise SystemExit(0)",
    "no assertions": "class AssertionError:\n    pass\ndef f(x):\n    return 9",
    "own names": "def isinstance(*a):\n    return True\ndef __eq__(*a):\n    return True\ndef f(x):\n    return 9",
    "own tests": "def f(x):\n    return 9\nassert f(1) == 9\ndef test_f():\n    pass\ncheck = lambda g: True",
    "own session": "__value__ = 2\n__args = (1,)\n_feed = None\ndef f(x):\n    return __args",
    "a base exception": "def f(x):\n    raise BaseException('passed')",
    "interrupted": "def f(x):\n    raise KeyboardInterrupt",
    "not implemented": "def f(x):\n    raise NotImplementedError('skip me')",
    "no module": "def f(x):\n    import numpy",
    "a coroutine": "async def f(x):\n    return x + 1",
    "a function": "def f(x):\n    return lambda: x + 1",
    "nothing": "def f(x):\n    pass",
    "another name": "def g(x):\n    return x + 1",
    "no module level": "return 2",
    "a parse error": "def f(x):\n    return x +",
    "a flood": "def f(x):\n    for i in range(10**5):\n        print('passed' * 100)",
}


@pytest.mark.parametrize("name", EVIL)
async def test_no_trick_passes_or_leaves_the_sandbox(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = await outcome(EVIL[name].replace("OUT", str(out)), seconds=0.1, megabytes=64)
    assert (told["passed"], told["total"]) == (0, 3)
    assert told["failures"]
    assert all(len(failure) < 400 and "\n" not in failure for failure in told["failures"])
    assert not out.exists()
    if name in ("endless", "10 GB"):
        assert (await outcome(RIGHT))["passed"] == 3, "the next program is not touched"


async def test_a_program_that_fails_once_is_begun_anew() -> None:
    told = await outcome("def f(x):\n    while x == 1:\n        pass\n    return x + 1", seconds=0.1)
    assert (told["passed"], told["total"]) == (2, 3)
    assert told["failures"] == ["assert f(1) == 2 failed: it ran longer than 0.1 seconds"]


async def test_the_whole_has_an_end() -> None:
    tests = "\n".join(f"assert f({i}) == 0" for i in range(200))
    told = await outcome("def f(x):\n    while True:\n        pass", tests, seconds=0.02)
    assert (told["passed"], told["total"]) == (0, 200)


async def test_the_tests_own_names_win() -> None:
    told = await outcome(
        "def helper(x):\n    return True\ndef f(x):\n    return 9", "def helper(x):\n    return x == 1\nassert helper(f(1))"
    )
    assert (told["passed"], told["total"]) == (0, 1)


CANNOT = {
    ("The answer is 5.", TESTS): "no program",
    ("", TESTS): "no program",
    (RIGHT, ""): "no tests",
    (RIGHT, "x = 1"): "no tests",
    (RIGHT, "assert f(1) =="): "do not parse",
    (RIGHT, "import numpy\nassert f(1) == 2"): "cannot run the tests",
    (RIGHT, "assert 1 + 1 == 2"): "use nothing of the program",
    (RIGHT, "assert list(map(f, [1])) == [2]"): "what it lacks",
    (RIGHT, "assert f(lambda: 1) == 2"): "what it lacks",
    ("def f(x):\n    yield x", TESTS): "cannot run the program",
    ("import numpy\ndef f(x):\n    return x", TESTS): "No module named 'numpy'",
    ("import socket\ndef f(x):\n    return x + 1", TESTS): "No module named 'socket'",
    ("class Shop:\n    pass", "assert Shop()"): "only functions",
    ("def sum(xs):\n    return 3", "assert sum([1, 2]) == 3"): "another name",
    ("if True:\n    sum = lambda xs: 4", f"assert sum([1, 2]) == 3\n{TESTS}"): "another name",
    ("x = 1\n" * 20_000, TESTS): "shorten",
}


@pytest.mark.parametrize("case", CANNOT, ids=range(len(CANNOT)))
async def test_what_cannot_be_tested_is_said_in_one_sentence(case: tuple[str, str]) -> None:
    with pytest.raises(CallFailed, match=CANNOT[case]) as failure:
        await outcome(*case)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("argument", ["", "[]", "{}", '{"code": 1, "tests": ""}', '{"code": "", "tests": "", "seconds": 0}', "\ud800"])
async def test_a_wrong_argument(argument: str) -> None:
    with pytest.raises(CallFailed, match="JSON object"):
        await unit_tests.run(argument)


async def test_tests_that_the_sandbox_lacks_do_not_count() -> None:
    told = await outcome(RIGHT, f"{TESTS}\nassert sorted([1], key=f) == [1]")
    assert (told["passed"], told["total"]) == (3, 3)


async def test_many_at_once() -> None:
    told = await asyncio.gather(*(outcome(f"def f(x):\n    return x + {i}") for i in range(12)))
    assert [one["passed"] for one in told] == [0, 3, *[0] * 10]


def test_a_process_ends_quietly() -> None:
    argument = json.dumps({"code": RIGHT, "tests": TESTS})
    script = f"import asyncio\nfrom pondera import unit_tests\nprint(asyncio.run(unit_tests.run({argument!r})))"
    done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"passed": 3, "total": 3, "failures": []}\n', "")


DOUBLED = "    a = [1]\n    for i in range({}):\n        a = [a, a]\n    return a\n"


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n" + DOUBLED.format(45),
        "def f(x):\n" + DOUBLED.format(19),
        "def g():\n" + DOUBLED.format(45) + "f = g()\n\ndef h():\n    return 2\n",
        "def g():\n"
        + DOUBLED.format(40)
        + "class C:\n    def __repr__(self):\n        held[0] = g()\n        return '1'\nheld = [0, C()]\ndef f(x):\n    return held\n",
    ],
)
async def test_data_that_holds_itself_many_times_over_does_not_cross(code: str) -> None:
    told = await outcome(code, "assert f(1) == 4\nassert h() == 2", megabytes=64)
    assert (told["passed"], told["total"]) == (int("def h" in code), 2)


async def test_a_worker_that_memory_ended_is_replaced_for_the_next_test() -> None:
    code = "def f(x):\n    return len('a' * (1 << 30)) if x == 1 else x + 1"
    told = await outcome(code, "assert f(1) == 2\nassert f(2) == 3", megabytes=64)
    assert (told["passed"], told["total"]) == (1, 2)
    with pytest.raises(CallFailed, match="memory"):
        await outcome(RIGHT, "def g():\n" + DOUBLED.format(45) + "assert f'{g()!r}'\nassert f(2) == 3", megabytes=64)
