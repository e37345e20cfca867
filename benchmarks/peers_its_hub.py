"""its_hub's algorithms as its user would run them, for peers.py, which starts this file with the Python that its_hub is installed for.

    python peers_its_hub.py URL MODEL ALGORITHM '{"n": 5, ...}'

Problems come as JSON lines on the standard input (`prompt`, and `before` and `after`, between which the judge reads a candidate); an
answer to each goes as a JSON line to the standard output (`text`, `error`). Nothing of Pondera is imported here.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from typing import Any

from its_hub import AbstractProcessRewardModel  # type: ignore[import-not-found]
from its_hub.core.algorithms.beam_search import BeamSearch  # type: ignore[import-not-found]
from its_hub.core.algorithms.bon import BestOfN  # type: ignore[import-not-found]
from its_hub.core.algorithms.particle_gibbs import ParticleFiltering  # type: ignore[import-not-found]
from its_hub.core.algorithms.self_consistency import (  # type: ignore[import-not-found]
    SelfConsistency,
    create_regex_projection_function,
)
from its_hub.core.lms.openai_lm import OpenAICompatibleLanguageModel  # type: ignore[import-not-found]
from its_hub.core.lms.step_generation import StepGeneration  # type: ignore[import-not-found]
from its_hub.core.reward_models.llm_judge import LLMJudge  # type: ignore[import-not-found]
from openai import AsyncOpenAI  # type: ignore[import-not-found,unused-ignore]

BOXED = r"\\boxed\{([^}]+)\}"  # the projection of its documentation
VERDICT = re.compile(r"[\W_]*(yes|no)\b", re.IGNORECASE)


class Judge(AbstractProcessRewardModel):  # type: ignore[misc]
    """P(yes) when the same model is asked whether an answer is right: in the words of Pondera's judge, so that both search by one value."""

    def __init__(self, url: str, model: str, before: str, after: str) -> None:
        self.client, self.model = AsyncOpenAI(base_url=url, api_key="none"), model
        self.before, self.after = before, after

    async def ascore(self, prompt_or_messages: Any, steps: list[str]) -> list[float]:
        return list(await asyncio.gather(*(self.one(text) for text in steps)))

    def score(self, prompt_or_messages: Any, steps: list[str]) -> list[float]:
        return asyncio.run(self.ascore(prompt_or_messages, steps))

    async def one(self, text: str) -> float:
        said: Any = await self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": f"{self.before}{text.strip()}{self.after}"}],
            max_tokens=4,
            temperature=0,
            logprobs=True,
        )
        [choice] = said.choices
        if (verdict := VERDICT.match(choice.message.content or "")) is None:
            return 0.5
        sure = math.exp(choice.logprobs.content[0].logprob)
        return sure if verdict[1].lower() == "yes" else 1.0 - sure


def algorithm(name: str, options: dict[str, Any], url: str, model: str, problem: dict[str, str]) -> Any:
    if name == "self_consistency":
        return SelfConsistency(create_regex_projection_function(BOXED))
    if name == "best_of_n":
        # The judge of its own, with its own prompt; without response_format, which not every server has.
        lm = OpenAICompatibleLanguageModel(url, "none", model, max_completion_tokens=64, temperature=0.0)
        return BestOfN(LLMJudge(lm, response_format=None))
    ends = {"tokens_per_step": options["step"]} if options["step"] else {"step_token": "\n\n"}
    steps = StepGeneration(options["max_steps"], stop_token=r"\boxed", temperature=options["temperature"], **ends)
    judge = Judge(url, model, problem["before"], problem["after"])
    return BeamSearch(steps, judge, options["width"]) if name == "beam_search" else ParticleFiltering(steps, judge)


async def main(url: str, model: str, name: str, given: str) -> None:
    options = json.loads(given)
    lm = OpenAICompatibleLanguageModel(url, "none", model, max_completion_tokens=options["max_tokens"], temperature=options["temperature"])
    print(json.dumps({"ready": name}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        problem = json.loads(line)
        text, error = "", ""
        try:
            answer = await algorithm(name, options, url, model, problem).ainfer(lm, problem["prompt"], options["n"])
            text = answer["content"] or ""
        except Exception as fault:
            error = f"{type(fault).__name__}: {fault}"[:500]
        print(json.dumps({"text": text, "error": error}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
