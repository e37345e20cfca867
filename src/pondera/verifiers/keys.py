"""Canonical answers, for voting and for grading: two replies with one key said the same thing.

A key depends on the set of replies that are compared, not on their order: expressions that are equal get the smallest of their
canonical forms. A reply without an answer has no key (None), and abstains.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from pondera.errors import BadInput
from pondera.thought import Kind, Question
from pondera.verifiers import math
from pondera.verifiers.symbolic import algebra, off_loop

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_MARKER = re.compile(r"\b(?:final )?answer\b(?:\*\*|__)?\s*(?::|\bis\b:?)(?:\*\*|__)?[ \t]*", re.IGNORECASE)
_PAIRS = (("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"))
_DECODER = json.JSONDecoder(parse_constant=lambda name: _refuse(name))
_JSON_STARTS = 2_000  # places of a reply where a JSON value is looked for


async def keys(question: Question, texts: Sequence[str]) -> list[str | None]:
    """The key of each text, or None where there is no answer. Raises VerifierError when the algebra's worker cannot start."""
    if question.kind == "math":
        return await _math_keys([math.literal(text) for text in texts])
    return [_read(question.kind, text) for text in texts]


async def grade(question: Question, replies: Sequence[str], gold: str) -> list[bool]:
    """Whether each reply's answer is the gold one. `gold` is an answer (LaTeX too) or a solution that marks it.

    Numbers are equal when they agree to six decimals, as in math-verify. Raises BadInput when `gold` holds no answer.
    """
    if question.kind != "math":
        if (key := _read(question.kind, gold)) is None:
            raise BadInput(f"The gold answer {gold[:80]!r} holds no answer of kind {question.kind!r}.")
        return [_read(question.kind, reply) == key for reply in replies]
    if (key := math.canonical(_gold(gold))) is None:
        raise BadInput(f"The gold answer {gold[:80]!r} holds no answer.")
    found = [math.literal(reply) for reply in replies]
    forms = [math.canonical(text) if text is not None else None for text in found]
    return await off_loop(lambda: [form is not None and _equal(key, form) for form in forms])


def answers(kind: Kind, replies: Sequence[str]) -> list[str | None]:
    """The answer of each reply in its own words, None where there is none: what a scorer is given that knows no replies."""
    read = {"math": math.literal, "exact": _stated, "json": _json}[kind]
    return [read(reply) for reply in replies]


async def same(kind: Kind, answer: str, gold: str) -> bool:
    """Whether one answer is the gold one; as :func:`grade`."""
    return (await grade(Question.of("Compare.", kind=kind), [answer], gold))[0]


def _gold(gold: str) -> str:
    marked = "\\boxed" in gold or "####" in gold
    return (math.literal(gold) if marked else None) or gold


def _equal(gold: str, form: str) -> bool:
    if gold == form:
        return True
    if math.is_text(gold) or math.is_text(form):
        return False
    a, b = math.number(gold), math.number(form)
    if a is not None and b is not None:
        return bool(round(a, 6) == round(b, 6)) and (a == 0) == (b == 0)
    return algebra.same(gold, form)


async def _math_keys(literals: Sequence[str | None]) -> list[str | None]:
    forms = [math.canonical(text) if text is not None else None for text in literals]
    if all(form is None or math.is_text(form) or math.number(form) is not None for form in forms):
        return forms
    settled = await off_loop(lambda: _settle({form for form in forms if form is not None}))
    return [None if form is None else settled[form] for form in forms]


def _settle(forms: set[str]) -> dict[str, str]:
    """The key of each form: numbers by value, words as they are, expressions by algebra."""
    values: dict[str, str] = {}
    for form in sorted(forms):
        number = None if math.is_text(form) or math.number(form) is not None else algebra.form(form)
        values[form] = form if number is None else math.spell(number)
    compared = [form for form in set(values.values()) if not math.is_text(form)]
    # Two plain numbers are compared by value alone.
    head = algebra.classes(compared, lambda a, b: math.number(a) is None or math.number(b) is None)
    return {form: head.get(value, value) for form, value in values.items()}


def _read(kind: Kind, text: str) -> str | None:
    return _json(text) if kind == "json" else _exact(text)


def _exact(text: str) -> str | None:
    """The answer as it is compared: case does not count."""
    answer = _stated(text)
    return answer and unicodedata.normalize("NFKC", answer.casefold())


def _stated(text: str) -> str | None:
    """The answer as a reader sees it: after the last marker, else the last line with something on it, without its dress."""
    text = unicodedata.normalize("NFKC", text)
    boxed = math.boxed(text)
    if boxed is None:
        marks = list(_MARKER.finditer(text))
        after = text[marks[-1].end() :] if marks else ""
        lines = [line for line in (after if after.strip() else text).splitlines() if any(not c.isspace() and c not in "`*_" for c in line)]
        if not lines:
            return None
        boxed = lines[0] if after.strip() else lines[-1]
    answer = boxed.strip()
    while (bare := _bare(answer)) != answer:
        answer = bare
    return " ".join(answer.split()) or None


def _bare(text: str) -> str:
    text = text.strip()
    if whole := re.fullmatch(r"\\(?:text|textbf|mathrm)\{([^{}]*)\}", text):
        return whole[1]
    if len(text) > 1 and text[-1] in ".。" and not text.endswith(".."):
        text = text[:-1]
    for opening, closing in _PAIRS:
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            return text[len(opening) : -len(closing)]
    return text


def _json(text: str) -> str | None:
    """The last JSON value of a reply, those in fenced blocks first, with sorted keys and numbers by value."""
    for block in (*reversed(_FENCED.findall(text)), text):
        try:
            return _dump(_DECODER.decode(block.strip()))
        except (ValueError, RecursionError):
            found = list(_values(block))
        if found:
            return _dump(found[-1])
    return None


def _values(text: str) -> Iterator[Any]:
    """Objects and arrays among prose, outermost, in order."""
    at = 0
    for _ in range(_JSON_STARTS):
        if (start := re.compile(r"[\[{]").search(text, at)) is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
        else:
            yield value


def _dump(value: Any) -> str:
    return json.dumps(_by_value(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _by_value(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    if isinstance(value, list):
        return [_by_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _by_value(item) for key, item in value.items()}
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
