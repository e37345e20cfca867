"""The embedded engine: any GGUF file or OpenVINO folder, on this machine's processor, through openvino-genai's continuous batching.

One thread a model serves every run of the process, so that the branches of one question and those of many share batches. Children of
one node share the node's KV cache: their common prompt is computed by one request of one token (a prefill), whose blocks all of them
then find in the prefix cache; requests sent together that merely begin alike are treated so too. A path that is continued is sent as
the very tokens that were generated, so it hits the cache again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pondera.errors import ContextOverflow, Unsupported
from pondera.models import weights
from pondera.models.openvino_engine import Engine, Job
from pondera.models.openvino_load import load
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.thought import Finish, Message, Price, Spend, Thought, dialogue

STEP = "\n\n"
_engines: dict[Path, tuple[Engine, int]] = {}
_lock = threading.Lock()  # models are opened in threads, and one that is opened twice at once is loaded once


class OpenVINO:
    """A model by its name in `pondera models`, or a path to a GGUF file or an OpenVINO folder.

    `cache_gb` is the room for the KV cache. Raises WeightsError for a bad file, ModelUnavailable where it cannot be loaded.
    """

    exact = True

    def __init__(self, spec: str, *, price: Price | None = None, cache_gb: int = 0, progress: weights.Progress = weights.silent) -> None:
        ready = weights.ready(spec, progress=progress)
        self.name, self.price = ready.name, price or Price()
        self._source = (ready.folder or ready.gguf or Path(spec)).resolve()
        with _lock:
            engine, users = _engines.get(self._source) or (load(ready, cache_gb or _room(), progress), 0)
            _engines[self._source] = (engine, users + 1)
        self._engine, self._closed = engine, False
        self._text = lru_cache(4096)(engine.encode)  # turns and forced texts come again and again

    def __repr__(self) -> str:
        return f"OpenVINO({self.name!r})"

    async def close(self) -> None:
        """Let the engine go when its last user does. A second time does nothing."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        with _lock:
            engine, users = _engines.pop(self._source)
            if users > 1:
                _engines[self._source] = (engine, users - 1)
                return
        engine.close()

    def prompt_bound(self, op: Expand) -> int:
        return len(self._prompt(op))

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        if op.until == "latent":
            raise Unsupported("The embedded engine shows no hidden states: use a strategy without latent reasoning, or the torch engine.")
        prompt = self._prompt(op)
        length = min(op.max_tokens, op.until) if isinstance(op.until, int) else op.max_tokens
        length = self._fit(len(prompt), length)
        stops = {*op.stop, STEP} if op.until == "step" else {*op.stop}
        options = {"temperature": op.temperature, "top_p": op.top_p, "stop": stops}
        branches = [_Branch(index, seed, prompt, length) for index, seed in enumerate(seeds)]
        heard: asyncio.Queue[Job] = asyncio.Queue()
        jobs = self._engine.submit([branch.job(options, heard) for branch in branches])
        owner = dict(zip(jobs, branches, strict=True))
        try:
            while owner:
                job = await heard.get()
                branch = owner.get(job)
                if branch is None:
                    continue
                for piece in branch.read(job, self._engine):
                    yield piece
                if not job.over:
                    continue
                del owner[job]
                yield branch.whole(job, op, self._engine)
        finally:
            for job in owner:
                job.cancel()

    def _fit(self, prompt: int, wanted: int) -> int:
        room = self._engine.context - prompt
        if room < 1:
            raise ContextOverflow(
                f"The conversation has {prompt:,} tokens, and {self.name} takes {self._engine.context:,}: shorten it, or use a model "
                f"with a longer context."
            )
        return min(wanted, room)

    def _prompt(self, op: Expand) -> list[int]:
        """The tokens to continue: the template's, and then, of the open turn, those that were generated where they are known."""
        turns, reply = dialogue(op.node, op.say)
        ids = list(self._text(self._template(turns)))
        if reply:
            for node in op.node.turn:
                ids += self._tokens(node)
        return ids + list(self._text(op.force)) if op.force else ids

    def _tokens(self, node: Thought) -> Sequence[int]:
        if not node.ids or node.model != self.name:
            return self._text(node.text)
        ids = node.ids[:-1] if node.ids[-1] in self._engine.ends else node.ids
        return (*self._text(node.forced), *ids) if node.forced else ids

    def _template(self, turns: Sequence[Message]) -> str:
        return self._engine.template([{**turn.extra, "role": turn.role, "content": turn.content} for turn in turns])


def _room() -> int:
    """GiB for the KV cache: a tenth of the memory, 1 to 8."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2
    return min(8, max(1, round(total / 10 / 2**30)))


@dataclass(slots=True)
class _Branch:
    """A child being generated: what it began from and what was read of it."""

    index: int
    seed: int
    prompt: list[int]
    length: int
    seen: int = 0
    shown: int = 0

    def job(self, options: dict[str, Any], heard: asyncio.Queue[Job]) -> Job:
        loop = asyncio.get_running_loop()

        def tell(job: Job) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and whoever waited with it
                loop.call_soon_threadsafe(heard.put_nowait, job)

        return Job(self.prompt, self.seed, self.length, tell, **options)

    def read(self, job: Job, engine: Engine) -> list[Piece]:
        """What is new since the last look; half a character waits for its other half."""
        ids, end = job.ids, len(job.ids)
        text = engine.decode(ids[self.shown : end])
        fresh, self.seen = end - self.seen, end
        if text.endswith("\ufffd") and not job.over:
            return [Piece(self.index, "", fresh)] if fresh else []
        self.shown = end
        return [Piece(self.index, text, fresh)] if fresh else []

    def whole(self, job: Job, op: Expand, engine: Engine) -> Sample | Failure:
        spend = Spend(prompt=len(self.prompt), cached=job.cached or 0, answer=len(job.ids), calls=1)
        if job.fault:
            return Failure(self.index, job.fault, spend)
        return Sample(self.index, engine.decode(job.ids), _finish(job, op), spend, ids=tuple(job.ids), logprobs=tuple(job.logprobs))


def _finish(job: Job, op: Expand) -> Finish:
    if job.stopped_by_end:
        return "done"
    if job.stopped_by:
        return "step" if op.until == "step" and job.stopped_by == STEP and STEP not in op.stop else "done"
    return "tokens" if isinstance(op.until, int) and op.until <= op.max_tokens else "length"
