"""One line of thought: a chain of thought, or a program that is run.

Chain of thought: Wei et al. 2022 (arXiv 2201.11903), zero-shot as in Kojima et al. 2022 (arXiv 2205.11916). Programs: PAL, Gao et al.
2022 (arXiv 2211.10435): the model writes the calculation down as code, and the machine does it.

The prompts are those that did best on training problems with the default model (docs/lab-notes.md). A program that must begin with a
comment on its first step is thought through before it is written.
"""

from __future__ import annotations

from pondera.errors import Unsupported
from pondera.ops import Call, Expand, both
from pondera.thought import Thought

CHAIN = (
    "First restate what is asked and list the known quantities. Then calculate step by step, checking each calculation, and put the "
    "final answer within \\boxed{}."
)
PROGRAM = "Write a Python program that computes the answer and prints it. Reply with one Python code block only."
FENCE = "```python\n# Step 1:"


async def cot(root: Thought, *, temperature: float = 0.0, max_tokens: int = 512) -> Thought:
    """One chain of thought."""
    [answer] = await chains(root, 1, temperature, max_tokens)
    return answer


async def program(root: Thought, *, temperature: float = 0.0, max_tokens: int = 384) -> Thought:
    """The model writes a Python program, which is run in the sandbox; what it prints is the answer."""
    [answer] = await programs(root, 1, temperature, max_tokens)
    return answer


async def chains(root: Thought, n: int, temperature: float, max_tokens: int) -> list[Thought]:
    """`n` chains of thought, those that survived."""
    return await Expand(root, n, say=CHAIN, temperature=temperature, max_tokens=max_tokens)


async def programs(root: Thought, n: int, temperature: float, max_tokens: int) -> list[Thought]:
    """The outputs of `n` programs, those that ran; one that was cut off before its end stands for itself, and abstains."""
    try:
        written = await Expand(root, n, say=PROGRAM, force=FENCE, stop=("\n```",), temperature=temperature, max_tokens=max_tokens)
    except Unsupported:  # a server that cannot begin the answer for the model
        written = await Expand(root, n, say=PROGRAM, temperature=temperature, max_tokens=max_tokens)
    return await both(*(run(code) for code in written))


async def run(code: Thought) -> Thought:
    return code if code.cut else await Call(code, "python", code.reply)
