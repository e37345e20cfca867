"""One line of thought: a chain of thought, with or without worked examples, or a program that is run.

Chain of thought: Wei et al. 2022 (arXiv 2201.11903), zero-shot as in Kojima et al. 2022 (arXiv 2205.11916). Programs: PAL, Gao et al.
2022 (arXiv 2211.10435): the model writes the calculation down as code, and the machine does it.

The prompts are those that did best on training problems with the default model (docs/lab-notes.md). A program that must begin with a
comment on its first step is thought through before it is written.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

from pondera.errors import BadInput, Unsupported
from pondera.ops import Call, Expand, Role, both
from pondera.thought import Message, Thought

CHAIN = (
    "First restate what is asked and list the known quantities. Then calculate step by step, checking each calculation, and put the "
    "final answer within \\boxed{}."
)
PROGRAM = "Write a Python program that computes the answer and prints it. Reply with one Python code block only."
FENCE = "```python\n# Step 1:"
UNFENCE = "\n```"
EFFORTS = {"low": 2_048, "medium": 12_288, "high": 32_768}  # tokens of thinking
SHOTS = (
    (
        "A baker fills 6 trays with 15 rolls each. He sells 52 rolls in the morning and half of the rest in the afternoon. "
        "How many rolls are left?",
        "There are 6 * 15 = 90 rolls.\nAfter the morning 90 - 52 = 38 are left.\nIn the afternoon he sells 38 / 2 = 19.\n"
        "So 38 - 19 = 19 are left.",
        "19",
    ),
    (
        "Two trains leave one station in opposite directions, one at 70 km/h and one at 85 km/h. How far apart are they after 3 hours?",
        "Each hour they part by 70 + 85 = 155 km.\nIn 3 hours that makes 155 * 3 = 465 km.",
        "465",
    ),
    (
        "A coat costs $120. Its price is raised by 25% and then lowered by 20%. What does it cost now?",
        "Raised by 25% it costs 120 * 1.25 = 150 dollars.\nLowered by 20% it costs 150 * 0.8 = 120 dollars.",
        "120",
    ),
    (
        "Mira is three times as old as Tom. In 8 years she will be twice as old as he. How old is Tom?",
        "Let Tom be t years old; Mira is 3t.\nIn 8 years 3t + 8 = 2 * (t + 8) = 2t + 16.\nSo t = 16 - 8 = 8.",
        "8",
    ),
)

_NOTES = re.compile(r"<<[^<>]*>>")  # calculations that some data sets put between the lines


async def cot(root: Thought, *, temperature: float = 0.0, max_tokens: int = 512, thinking: int = -1, effort: str = "") -> Thought:
    """One chain of thought.

    `thinking` caps what a model with thoughts of its own may think before it answers, in tokens (0: not at all); `effort` is such a cap
    in a word, "low", "medium" or "high" (2,048, 12,288 or 32,768). Without either the model thinks as it likes, within `max_tokens`;
    with one, these are for the answer alone.

    Paper: Wei et al. 2022 (arXiv 2201.11903), zero-shot as in Kojima et al. 2022 (arXiv 2205.11916).
    """
    cap = _cap(thinking, effort)
    room = max_tokens + (cap or 0)
    [answer] = await Expand(root, say=CHAIN, temperature=temperature, max_tokens=room, thinking=cap)
    return answer


async def few_shot(root: Thought, *, k: int = 4, examples: str = "", temperature: float = 0.0, max_tokens: int = 512) -> Thought:
    """One chain of thought after `k` worked examples, which stand before the question as earlier turns.

    `examples` is a JSONL file with `question`, `answer` and, where there is one, `solution` in each line; without it a few word problems of
    our own are shown. Examples help base models and set a format; they hurt the default model, which answers shorter and less often right
    (docs/lab-notes.md). Raises BadInput for a file that cannot be used or has fewer than `k` lines.

    Paper: Wei et al. 2022 (arXiv 2201.11903).
    """
    turns = root.about.messages
    first = next(i for i, turn in enumerate(turns) if turn.role != "system")
    shots = _turns(_read(examples, k))
    told = crc32("\0".join(turn.content for turn in shots).encode("utf-8", "surrogatepass"))  # other examples, another conversation
    taught = Thought(f"{root.id}?shots{told:08x}", question=replace(root.about, messages=(*turns[:first], *shots, *turns[first:])))
    [answer] = await chains(taught, 1, temperature, max_tokens)
    return answer


async def program(root: Thought, *, temperature: float = 0.0, max_tokens: int = 384) -> Thought:
    """The model writes a Python program, which is run in the sandbox; what it prints is the answer.

    Paper: PAL, Gao et al. 2022 (arXiv 2211.10435).
    """
    [answer] = await programs(root, 1, temperature, max_tokens)
    return answer


async def chains(
    root: Thought, n: int, temperature: float, max_tokens: int, by: Role = "think", keep: int = 0, first: int = 0
) -> list[Thought]:
    """`n` chains of thought, those that survived, or the `first` of them to end."""
    return await Expand(root, n, say=CHAIN, temperature=temperature, max_tokens=max_tokens, by=by, keep=keep, first=first)


async def programs(
    root: Thought, n: int, temperature: float, max_tokens: int, by: Role = "think", keep: int = 0, first: int = 0
) -> list[Thought]:
    """The outputs of `n` programs, or of the `first` to end; one cut off at a cap stands for itself and abstains, one that fails is out."""
    asked = Expand(root, n, say=PROGRAM, temperature=temperature, max_tokens=max_tokens, by=by, keep=keep, first=first)
    try:
        written = await replace(asked, force=FENCE, stop=(UNFENCE,))
    except Unsupported:  # a server that cannot begin the answer for the model
        written = await asked
    return await both(*(run(code) for code in written))


async def run(code: Thought) -> Thought:
    return code if code.cut else await Call(code, "python", code.reply)


def _cap(thinking: int, effort: str) -> int | None:
    """Tokens of thinking, None where that is the model's own affair."""
    if effort and effort not in EFFORTS:
        raise BadInput(f"effort={effort!r}: it is 'low', 'medium' or 'high'.")
    if effort and thinking >= 0:
        raise BadInput(f"thinking={thinking} and effort={effort!r} both cap the thinking: give one of them.")
    return EFFORTS[effort] if effort else thinking if thinking >= 0 else None


def _turns(shots: list[tuple[str, str]]) -> tuple[Message, ...]:
    return tuple(turn for asked, told in shots for turn in (Message("user", f"{asked}\n\n{CHAIN}"), Message("assistant", told)))


def _read(examples: str, k: int) -> list[tuple[str, str]]:
    """The first `k` worked examples, each a question and what was answered."""
    if k < 1:
        raise BadInput(f"k={k} shows nothing: give 1 example or more, or use cot.")
    if examples:
        try:
            with Path(examples).open(encoding="utf-8") as file:
                shots = [_example(line, examples) for line in islice(filter(str.strip, file), k)]
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"The examples in {examples!r} cannot be read ({getattr(error, 'strerror', '') or 'not UTF-8 text'}).")
    else:
        shots = [_worked(*shot) for shot in SHOTS[:k]]
    if len(shots) < k:
        raise BadInput(
            f"{'The file ' + repr(examples) if examples else 'The built-in set'} has {len(shots)} examples, not k={k}: ask for fewer."
        )
    return shots


def _example(line: str, source: str) -> tuple[str, str]:
    wrong = BadInput(f"A line of {source!r} is no example: each is a JSON object with texts under 'question' and 'answer'.")
    try:
        row: Any = json.loads(line)
        asked, answer, solution = row["question"], row["answer"], row.get("solution") or ""
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise wrong
    if not isinstance(asked, str) or not isinstance(answer, str | int | float) or not isinstance(solution, str) or not asked.strip():
        raise wrong
    worked, marked, final = str(answer).rpartition("####")  # a solution and its answer in one, as GSM8K has them
    return _worked(asked, solution or worked, final if marked else str(answer))


def _worked(asked: str, solution: str, answer: str) -> tuple[str, str]:
    lines = _NOTES.sub("", solution).strip()
    return asked.strip(), f"{lines}\n\nThe final answer is \\boxed{{{answer.strip()}}}.".lstrip()
