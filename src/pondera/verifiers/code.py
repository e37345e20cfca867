"""Unit tests on the program in an answer: the share of them that it passes.

The tests are those that are given, or the examples in the question: what stands behind `>>>` with what is to come out below it, and
lines that begin with `assert`. An example is the assertion that its expression equals what is shown (HumanEval, Chen et al. 2021, arXiv
2107.03374, and MBPP, Austin et al. 2021, arXiv 2108.07732, write their problems so). The program runs in a sandbox, apart from the
tests (:mod:`pondera.unit_tests`, the tool "tests").
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from pondera.errors import BRANCH_ERRORS, BadInput
from pondera.ops import Call, Verdict, Verifier, both
from pondera.thought import Thought

MOST = 100_000  # characters of a question in which examples are looked for

_FENCE = re.compile(r"^[ \t]*(?:\"\"\"|'''|```).*$", re.MULTILINE)
_ASSERT = re.compile(r"^[ \t]*(?:[-*] )?`?(assert\b.+)$", re.MULTILINE)


def code(tests: str = "", seconds: float = 2.0, megabytes: int = 256) -> Verifier:
    """Share of unit tests that the program in the answer passes, in the sandbox.

    `tests` are statements with `assert`, or the path of a .py file with such; where they are not given, the question's own examples.
    `seconds` for each test, `megabytes` for the program. None where there is no test or no program, or the sandbox lacks what it needs;
    `why` tells the first failures. Raises BadInput for a file that cannot be read, tests that do not parse, and limits below 0.

    Paper: unit tests as the judge, as in Codex, Chen et al. 2021 (arXiv 2107.03374).
    """
    if not (seconds > 0 and megabytes > 0):
        raise BadInput("The limits of unit tests are numbers above 0: seconds and megabytes.")
    given = _given(tests)

    async def one(i: int, node: Thought) -> tuple[int, Verdict | None]:
        if not (suite := given or examples(node.about.text)) or node.cut:
            return i, None
        argument = json.dumps({"code": node.reply, "tests": suite, "seconds": seconds, "megabytes": megabytes})
        try:
            told = await Call(node, "tests", argument)
        except BRANCH_ERRORS:  # no program, or one that the sandbox cannot run: recorded by the runtime
            return i, None
        result = json.loads(told.text)
        return i, Verdict(result["passed"] / result["total"], "\n".join(result["failures"]))

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        said = dict(await both(*(one(i, node) for i, node in enumerate(nodes))))
        return [said.get(i) for i in range(len(nodes))]

    return verifier


def examples(text: str) -> str:
    """The examples of a question, as assertions; "" where there are none."""
    from doctest import DocTestParser

    text = text[:MOST]
    try:
        found = DocTestParser().get_examples(_FENCE.sub("", text))
    except ValueError:  # a prompt without a space after it, or wrongly indented: not meant for a machine
        found = []
    suite = [_assertion(example.source.strip(), example.want.strip()) for example in found]
    if not any("assert" in line for line in suite):
        suite = []
    lines = [line[1].rstrip(" \t").removesuffix("`") for line in _ASSERT.finditer(text)]
    return "\n".join([*suite, *(line for line in lines if _calls(line))])


def _assertion(source: str, want: str) -> str:
    """An example as statements; one that shows no result only prepares the next."""
    if not _parses(source):
        return "pass"
    if want.startswith("Traceback"):
        error = want.splitlines()[-1].partition(":")[0].strip()
        tried = "\n".join(f"    {line}" for line in source.splitlines())
        expected = f"except {error}:\n    pass\nelse:\n    assert False, 'it raised nothing'"
        return f"try:\n{tried}\n{expected}" if error.isidentifier() else "pass"
    try:
        expression = ast.parse(source, mode="eval").body
    except SyntaxError:
        return source
    if not want:
        return source
    printed = isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "print"
    if printed and isinstance(expression, ast.Call) and len(expression.args) == 1 and not expression.keywords:
        return f"assert str({ast.unparse(expression.args[0])}) == {want!r}"
    try:
        ast.literal_eval(want)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return f"assert repr({ast.unparse(expression)}) == {want!r}"
    return f"assert ({ast.unparse(expression)}) == {want}"


def _given(tests: str) -> str:
    """The text of tests that were given. Raises BadInput."""
    suite = tests
    if tests.strip().endswith(".py") and "\n" not in tests.strip():
        try:
            suite = Path(tests.strip()).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
            raise BadInput(f"The tests {tests.strip()} cannot be read ({what}): give the path of a .py file with assertions.")
    if suite.strip() and ("assert" not in suite or not _parses(suite)):
        raise BadInput("The unit tests are no Python with `assert`: write them as in tests='assert f(1) == 2', or give a .py file.")
    return suite.strip() and suite


def _calls(line: str) -> bool:
    """Whether this asserts something of a call; "assert dominance" is English."""
    return _parses(line) and any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(line)))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
