"""Unit tests as a verifier: where the tests come from, what a share means, and who has no opinion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pondera import unit_tests
from pondera.errors import BadInput
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.ops import Expand, Score, Verdict, Verifier
from pondera.runtime import Run
from pondera.thought import Question, Thought
from pondera.verifiers.code import code, examples
from pondera.verifiers.keys import keys

ASKED = "Write f.\n\n>>> f(1)\n2\n>>> f(2)\n3\n"
RIGHT, HALF, WRONG = (f"```python\ndef f(x):\n    return {body}\n```" for body in ("x + 1", "2", "9"))


async def scored(verifier: Verifier, replies: list[str], question: str = ASKED) -> list[Verdict | None]:
    """What the verifier says of these replies, in a run with the tool; a replay must say the same."""

    async def strategy(root: Thought) -> Thought:
        nodes = [(await Expand(root, temperature=0.1 * i))[0] for i in range(len(replies))]
        found.append(await Score(tuple(nodes), "code"))
        return nodes[0]

    found: list[list[Verdict | None]] = []
    ledger = Ledger()
    for models in ({"think": Fake(replies)}, {}):
        run = Run(models=models, keyer=keys, verifiers={"code": verifier}, tools={"tests": unit_tests.run})
        await run.solve(Question.of(question, kind="exact"), strategy, ledger=Ledger(list(ledger.rows)) if not models else ledger)
    assert found[0] == found[1]
    return found[0]


async def test_the_share_of_the_questions_examples() -> None:
    right, half, wrong, none, broken = await scored(code(), [RIGHT, HALF, WRONG, "It is 5.", "```python\ndef f(x:\n```"])
    assert [right, half, wrong, none, broken] == [1.0, 0.5, 0.0, None, 0.0]
    assert right is not None
    assert half is not None
    assert broken is not None
    assert right.why == ""
    assert half.why == "assert f(2) == 3 failed: AssertionError: assert 2 == 3"
    assert "does not parse" in broken.why


async def test_given_tests_replace_the_examples(tmp_path: Path) -> None:
    file = tmp_path / "check.py"
    file.write_text("assert f(4) == 9\n")
    assert await scored(code(tests="assert f(4) == 9"), [RIGHT, WRONG]) == [0.0, 1.0]
    assert await scored(code(tests=str(file)), [RIGHT, WRONG]) == [0.0, 1.0]


async def test_no_tests_no_opinion() -> None:
    assert await scored(code(), [RIGHT, WRONG], "Write f.") == [None, None]


async def test_limits_reach_the_sandbox() -> None:
    loop, big = "```python\ndef f(x):\n    while True:\n        pass\n```", "```python\ndef f(x):\n    return [0] * 10**10\n```"
    one, two = await scored(code(seconds=0.05, megabytes=32), [loop, big])
    assert (one, two) == (0.0, 0.0)
    assert one is not None
    assert two is not None
    assert "longer than 0.05 seconds" in one.why
    assert "more than 32 MB" in two.why


EXAMPLES = {
    "": "",
    "No code here. a >> b >>> c": "",
    ">>> f(1)\n2": "assert (f(1)) == 2",
    "  >>> f('a')\n  'b'\n  >>> f(\n  ...     1,\n  ... )\n  [1,\n   2]": "assert (f('a')) == 'b'\nassert (f(1)) == [1,\n 2]",
    ">>> x = 3\n>>> f(x)\n4": "x = 3\nassert (f(x)) == 4",
    ">>> x = 3": "",
    ">>> print(f(1))\nhello": "assert str(f(1)) == 'hello'",
    ">>> f(1)\nFraction(1, 2)": "assert repr(f(1)) == 'Fraction(1, 2)'",
    '    """Add.\n    >>> f(1)\n    2\n    """\n': "assert (f(1)) == 2",
    "```\n>>> f(1)\n2\n```\nand so on": "assert (f(1)) == 2",
    ">>> f(-1)\nTraceback (most recent call last):\n  ...\nValueError: no": (
        "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False, 'it raised nothing'"
    ),
    "It should pass:\nassert f(1) == 2\n- `assert f(2) == 3`\nassert that it works\nassert dominance": (
        "assert f(1) == 2\nassert f(2) == 3"
    ),
    ">>>f(1)\n2": "",
    ">>> f(\n2": "",
}


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_of_a_question(text: str) -> None:
    assert examples(text) == EXAMPLES[text]


async def test_every_sort_of_example_can_be_run() -> None:
    program = "```python\ndef f(x):\n    if x < 0:\n        raise ValueError('no')\n    return 'hello'\n```"
    question = (
        ">>> print(f(1))\nhello\n>>> f(-1)\nTraceback (most recent call last):\n  ...\nValueError: no\n>>> y = f(2)\n>>> y\n'hello'\n"
    )
    assert await scored(code(), [program], question) == [1.0]


@pytest.mark.parametrize(
    "arguments", [{"tests": "nowhere.py"}, {"tests": "f(1) == 2"}, {"tests": "assert f(1) =="}, {"seconds": 0}, {"megabytes": -1}]
)
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        code(**arguments)  # type: ignore[arg-type]


def test_the_argument_is_what_the_tool_reads() -> None:
    coro = code(seconds=1.5, megabytes=99)((Thought("0/0", Thought("0", question=Question.of(ASKED)), text=RIGHT, finish="done"),))
    wanted = coro.send(None)
    call = wanted.coros[0].send(None)
    assert (call.tool, call.node.id) == ("tests", "0/0")
    assert json.loads(call.argument) == {"code": RIGHT, "tests": examples(ASKED), "seconds": 1.5, "megabytes": 99}
    wanted.coros[0].close()
    coro.close()


def test_examples_are_found_in_time_of_the_lines_length() -> None:
    assert examples("- `assert f(1) == 2` \t\nassert f(2) == 3  \n") == "assert f(1) == 2\nassert f(2) == 3"
    assert examples("assert " + " " * 90_000 + "f(1)`z") == ""
