r"""What can be seen of an answer for almost nothing: the signals that the learned verifier reads.

Of the pool it stands in: how many said the same, how many of its own sort (chains, programs) and of the other one did, how far it is
ahead of the next. Of its tokens: how sure the model was on the whole, at its weakest, at its end, and beside the others of its sort. Of
its text: its length, whether the sums in it come out when they are done again, whether the numbers of the question are used, and, in a
program, whether they reach what is printed (a backward slice; Weiser 1981). No model is asked and nothing is run.

A signal that does not apply is NaN; what fills it is part of the fit.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from pondera.thought import Thought
from pondera.verifiers.confidence import logprobs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WINDOW = 16  # tokens; solutions of word problems are short
NAN = math.nan

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
_RUN = re.compile(r"[\d.,\s()+*/-]++")
_WORKED = re.compile(r"\d[\s)]*+[-+*/]")
_RESULT = re.compile(r"=\s*+(-?\d[\d,]*(?:\.\d+)?)")
_TEX = ((r"\\(?:times|cdot)\b", "*"), (r"\\div\b", "/"), (r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)"), (r"[×]", "*"), (r"[÷]", "/"))
_DRESS = re.compile(r"\\text\{[^{}]*\}|\\[(\[\])!,;]|\\left|\\right|[$€£%*]{2,}|[$€£]|\\")
_WORDS = {"half": 2.0, "twice": 2.0, "double": 2.0, "doubled": 2.0, "third": 3.0, "triple": 3.0, "dozen": 12.0, "quarter": 4.0}
_COUNTED = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SMALL = {word: float(n) for n, word in enumerate(_COUNTED, 1)}

NAMES = (
    "share",  # of the pool that gave the same key
    "share of its sort",
    "share of the other sort",
    "lead",  # its share less the largest other one
    "rank",  # keys that more said
    "keys",  # different ones in the pool, as a share of it
    "settled",  # the largest share of any key
    "trusted share",  # votes weighted by mean probability
    "program",
    "sure",  # mean log-probability
    "sure beside others",
    "weakest",  # mean log-probability of the weakest window
    "end",  # of the last one
    "length",  # log of tokens
    "length beside others",
    "sums",  # equations in the text
    "sums right",
    "answer computed",  # the answer is the result of a sum
    "numbers used",  # share of the question's
    "numbers reaching",  # share of them in the slice of what is printed
    "lines reaching",  # share of a program's assignments in that slice
    "numbers of its own",  # that neither the question nor a sum gave
    "answer asked",  # the answer is a number of the question
    "whole",  # the answer is a whole number
    "negative",
    "size",  # log of the answer's size beside the question's largest number
)
_PROGRAM, _SURE, _LENGTH = (NAMES.index(name) for name in ("program", "sure", "length"))
ALONE = slice(_PROGRAM, None)  # the columns that a sample has alone, save where it stands beside others
_BESIDE = [i for i, name in enumerate(NAMES) if i < _PROGRAM or name.endswith("beside others")]


def signals(nodes: Sequence[Thought], keys: Sequence[str | None]) -> list[list[float]]:
    """A row for each node of one question's pool, a column for each of NAMES."""
    if not nodes:
        return []
    asked, numbered = numbers(nodes[0].about.text), {key: i for i, key in enumerate(dict.fromkeys(keys)) if key is not None}
    rows = np.array([[NAN] * ALONE.start + [*_tokens(node), *_text(node, key, asked)] for node, key in zip(nodes, keys, strict=True)])
    options = np.array([-1 if key is None else numbered[key] for key in keys])
    told: list[list[float]] = beside(rows[None], options[None])[0].tolist()
    return told


def by_themselves(rows: Floats) -> Floats:
    """The rows without what samples are beside each other: NaN there. Shape [samples, NAMES], as `rows`."""
    told = np.array(rows, dtype=float)
    told[:, _BESIDE] = NAN
    return told


def beside(rows: Floats, options: Ints, there: Bools | None = None) -> Floats:
    """The rows of samples with what they are beside each other, for many pools at once. Shape [pools, samples, NAMES], as `rows`.

    `options` numbers the answers (-1: none), shape [pools, samples]; samples that are not `there` are in no pool, and their rows mean
    nothing. What a sample is alone is read from its row.
    """
    here = np.ones(options.shape, dtype=bool) if there is None else there
    coded, sure, length = rows[..., _PROGRAM] > 0, rows[..., _SURE], rows[..., _LENGTH]
    answered = here & (options >= 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = here.sum(axis=-1, keepdims=True)
        same = (options[:, :, None] == options[:, None, :]) & answered[:, :, None] & answered[:, None, :]
        sort = (coded[:, :, None] == coded[:, None, :]) & here[:, None, :]
        votes = same.sum(axis=-1)
        others = ~same & answered[:, None, :]
        rival = np.where(others, votes[:, None, :], 0).max(axis=-1)
        each = np.where(answered, 1 / np.maximum(votes, 1), 0.0)  # of a key, its votes' parts make one
        more = ((votes[:, None, :] > votes[:, :, None]) & answered[:, None, :]) @ each[..., None]
        own, apart = sort.sum(axis=-1), (here[:, None, :] & ~sort).sum(axis=-1)
        faith = np.where(answered, np.where(np.isnan(sure), 1.0, np.exp(sure)), 0.0)
        trusted = (same @ faith[..., None])[..., 0] / np.maximum(faith.sum(axis=-1, keepdims=True), 1e-9)
        columns = (
            votes / size,
            (same & sort).sum(axis=-1) / own,
            np.where(apart > 0, (same & ~sort).sum(axis=-1) / apart, NAN),
            (votes - rival) / size,
            np.round(more[..., 0]),
            np.round(each.sum(axis=-1, keepdims=True)) / size + 0 * votes,
            votes.max(axis=-1, keepdims=True) / size + 0 * votes,
            trusted,
        )
        told = np.concatenate([np.stack(columns, axis=-1), rows[..., len(columns) :]], axis=-1)
        told[..., _SURE + 1] = _standing(sure, sort)
        told[..., _LENGTH + 1] = _standing(length, sort)
    return told


def _standing(values: Floats, sort: Bools) -> Floats:
    """How many standard deviations above those of its sort; 0 where there are no others."""
    known = sort & ~np.isnan(values)[:, None, :]
    count = known.sum(axis=-1)
    mean = np.where(known, values[:, None, :], 0.0).sum(axis=-1) / count
    spread = np.sqrt((np.where(known, values[:, None, :] - mean[..., None], 0.0) ** 2).sum(axis=-1) / count)
    return np.where((count > 1) & (spread > 1e-9) & ~np.isnan(values), (values - mean) / spread, 0.0)


def _tokens(node: Thought) -> list[float]:
    """The columns from "program" to "length beside others"."""
    told = logprobs(written(node))
    sure, end = (fmean(told), fmean(told[-WINDOW:])) if told else (NAN, NAN)
    return [float(bool(node.tool)), sure, NAN, _weakest(told), end, math.log1p(len(told) or written(node).tokens), NAN]


def _weakest(values: Sequence[float]) -> float:
    return min((fmean(values[i : i + WINDOW]) for i in range(max(1, len(values) - WINDOW + 1))), default=NAN) if values else NAN


def written(node: Thought) -> Thought:
    """What the model wrote: the program, where the node is a program's output."""
    return node.parent if node.tool and node.parent else node


def _text(node: Thought, key: str | None, asked: Sequence[float]) -> list[float]:
    text = written(node).reply
    sums = equations(text)
    used, found = set(numbers(text)), {round(result, 4) for _, result in sums}
    answer = _value(key)
    reach, lines = sliced(text) if node.tool else (set[float](), NAN)
    own = [n for n in used if n not in asked and round(n, 4) not in found and n not in (0.0, 1.0, 2.0, 100.0) and n != answer]
    return [
        math.log1p(len(sums)),
        fmean(right for right, _ in sums) if sums else NAN,
        NAN if answer is None or not sums else float(round(answer, 4) in found),
        fmean(n in used for n in asked) if asked else NAN,
        fmean(n in reach for n in asked) if asked and node.tool else NAN,
        lines,
        len(own) / max(len(used), 1),
        NAN if answer is None else float(answer in asked),
        NAN if answer is None else float(answer == int(answer)) if math.isfinite(answer) else 0.0,
        NAN if answer is None else float(answer < 0),
        NAN if answer is None else max(-9.0, min(9.0, math.log1p(abs(answer)) - math.log1p(max((abs(n) for n in asked), default=1.0)))),
    ]


def _value(key: str | None) -> float | None:
    try:
        value = float(key) if key is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(text: str) -> list[float]:
    """The numbers of a text, each once, in order; small ones and fractions written as words too."""
    found = [float(n.replace(",", "")) for n in _NUMBER.findall(text)]
    named = [{**_WORDS, **_SMALL}[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS or word in _SMALL]
    return list(dict.fromkeys([*found, *named]))


def equations(text: str) -> list[tuple[bool, float]]:
    """Each sum of a text with a result beside it: whether it comes out (to the cent, or as rounded), and the stated result."""
    for pattern, plain in _TEX:
        text = re.sub(pattern, plain, text)
    found = []
    for left, right in _equated(_DRESS.sub("", text)):
        stated = float(right.replace(",", ""))
        value = _calculate(left)
        if value is not None:
            decimals = len(right.partition(".")[2])
            found.append((abs(value - stated) <= max(0.5 * 10**-decimals if decimals else 1e-6, 1e-9 * abs(value)), stated))
    return found


def _equated(text: str) -> Iterator[tuple[str, str]]:
    """What may be a sum before a sign of equality, and the number after it. One pattern for both would try all parts of a long run."""
    at = 0
    while run := _RUN.search(text, at):
        left, at = run[0], run.end()
        last = left.replace(")", " ").rstrip()[-1:]
        if last.isdecimal() and _WORKED.search(left) and (right := _RESULT.match(text, at)):
            at = right.end()
            yield left, right[1]


def _calculate(sum_: str) -> float | None:
    """The value of plain arithmetic, or None where it is none."""

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(float(n) | int(n)):
                return float(n)
            case ast.UnaryOp(ast.USub(), inner):
                return -value(inner)
            case ast.BinOp(left, ast.Add(), right):
                return value(left) + value(right)
            case ast.BinOp(left, ast.Sub(), right):
                return value(left) - value(right)
            case ast.BinOp(left, ast.Mult(), right):
                return value(left) * value(right)
            case ast.BinOp(left, ast.Div(), right):
                return value(left) / value(right)
        raise ValueError

    try:
        return value(ast.parse(re.sub(r"(?<=\d),(?=\d{3})", "", sum_).strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
        return None


def sliced(text: str) -> tuple[set[float], float]:
    """The numbers that reach what a program prints, and the share of its assignments that do: a slice, backward from the last print."""
    code = text.partition("```python")[2].partition("```")[0] or text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings, which are the model's affair
            body = ast.parse(code.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), NAN
    wanted: set[str] = set()
    found: set[float] = set()
    reached = total = 0
    for statement in reversed(body):
        names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        names |= {n.name for n in ast.walk(statement) if isinstance(n, ast.FunctionDef)}
        prints = isinstance(statement, ast.Expr)
        total += bool(names)
        if prints or names & wanted:
            reached += bool(names)
            wanted |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            constants = (n.value for n in ast.walk(statement) if isinstance(n, ast.Constant))
            found |= {float(c) for c in constants if isinstance(c, int | float) and not isinstance(c, bool) and abs(c) < 1e300}
    return found, reached / total if total else NAN
