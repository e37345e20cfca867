"""The embedded engine: any GGUF file or OpenVINO folder, on this machine's processor, through openvino-genai's continuous batching.

One thread a model serves every run of the process, so that the branches of one question and those of many share batches. Children of
one node share the node's KV cache: their common prompt is computed by one request of one token (a prefill), whose blocks all of them
then find in the prefix cache; requests sent together that merely begin alike are treated so too. A path that is continued is sent as
the very tokens that were generated, so it hits the cache again.

A thought that reaches its cap is closed by force and its answer follows, as one child. The tokens that close it stand among its `ids`, with
a log-probability of 0, and are billed as thinking, as they would be had the model written them: so all counts agree, and what is continued
is what was there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pondera.errors import ContextOverflow, Unsupported
from pondera.models import weights
from pondera.models.openvino_engine import Engine, Job
from pondera.models.openvino_load import load
from pondera.models.openvino_turn import Begun, Turns
from pondera.models.thinking import Splitter, divide
from pondera.ops import Expand
from pondera.ports import Failure, Piece, Sample
from pondera.thought import CLOSE, OPEN, Finish, Price, Spend

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
            engine, users = _engines.get(self._source) or (_loaded(ready, cache_gb or _room(), progress), 0)
            _engines[self._source] = (engine, users + 1)
        self._engine, self._closed = engine, False
        self._turns = Turns(self.name, engine)

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
        return len(self._turns.begin(op).ids)

    async def sample(self, op: Expand, seeds: Sequence[int]) -> AsyncIterator[Piece | Sample | Failure]:
        if op.until == "latent":
            raise Unsupported("The embedded engine shows no hidden states: use a strategy without latent reasoning, or the torch engine.")
        if op.until == "verdict" and not self._engine.calls:
            raise Unsupported(f"{self.name} has no adapter that says whether an answer is right: use another verifier, such as learned.")
        if op.bias:
            raise Unsupported("The embedded engine has no logit bias: use a strategy without it, or a server (vLLM, llama.cpp).")
        begun = self._turns.begin(op)
        length = min(op.max_tokens, op.until) if isinstance(op.until, int) else 1 if op.until == "verdict" else op.max_tokens
        length = self._fit(len(begun.ids), length)
        heard: asyncio.Queue[Job] = asyncio.Queue()
        branches = [_Branch(index, seed, op, begun, length, self._turns, heard) for index, seed in enumerate(seeds)]
        owner: dict[Job, _Branch] = {}
        try:
            for piece in (piece for one in branches for piece in one.open()):
                yield piece
            owner |= zip(self._engine.submit([branch.job() for branch in branches]), branches, strict=True)
            while owner:
                job = await heard.get()
                branch = owner.get(job)
                if branch is None:
                    continue
                over = job.over  # the engine may end it at any moment, and tells of that again
                goes_on = over and branch.goes_on(job)
                for piece in branch.read(job, over, last=over and not goes_on):
                    yield piece
                if not over:
                    continue
                del owner[job]
                if goes_on:
                    yield branch.close(job)
                    owner |= zip(self._engine.submit([branch.job()]), [branch], strict=True)
                else:
                    yield branch.whole(job)
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


def _loaded(ready: weights.Ready, cache_gb: int, progress: weights.Progress) -> Engine:
    """Open it in a thread of its own.

    The native code gives the thread that loads a stack for signals, and takes it away with the model: in the main thread the next Ctrl-C
    would end the process with a segmentation fault.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="pondera-load") as apart:
        return apart.submit(load, ready, cache_gb, progress).result()


def _room() -> int:
    """GiB for the KV cache: a tenth of the memory, 1 to 8."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2
    return min(8, max(1, round(total / 10 / 2**30)))


@dataclass(slots=True)
class _Branch:
    """A child being generated: what it began from and what was read of it. `ids` are those of an earlier job, whose thought was closed."""

    index: int
    seed: int
    op: Expand
    begun: Begun
    length: int
    turns: Turns
    heard: asyncio.Queue[Job]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cached: int | None = None
    seen: int = 0
    shown: int = 0
    splitter: Splitter = field(init=False)

    def __post_init__(self) -> None:
        self.splitter = self.begun.splitter()

    def open(self) -> list[Piece]:
        """A thought that may not go on is closed before anything is generated."""
        closing = self.turns.closing(self.begun.ids) if self.begun.inside and self.op.thinking == 0 else ()
        return [self._force(closing)] if 0 < len(closing) < self.length else []

    def job(self) -> Job:
        loop = asyncio.get_running_loop()

        def tell(job: Job) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and whoever waited with it
                loop.call_soon_threadsafe(self.heard.put_nowait, job)

        op, again = self.op, bool(self.ids)
        stop = {*op.stop, STEP} if op.until == "step" else {*op.stop}
        cap = None if again or self.begun.plain else op.thinking
        prompt, length = [*self.begun.ids, *self.ids], self.length - len(self.ids)
        self.seen = self.shown = 0
        return Job(prompt, self.seed + again, length, tell, op.temperature, op.top_p, stop, self.begun.inside and not again, cap)

    def read(self, job: Job, over: bool, last: bool) -> list[Piece]:
        """What is new since the last look; half a character waits for its other half."""
        ids, engine, end = job.ids, self.turns.engine, len(job.ids)
        fresh, self.seen = end - self.seen, end
        while self.shown < end and not over and not engine.words.piece(ids[end - 1]):
            end -= 1
        text, self.shown = engine.words.decode(ids[self.shown : end]), end
        thought, answer = self.splitter.feed(text)
        if last:
            more, rest = self.splitter.rest()
            thought, answer = thought + more, answer + rest + self._mark(job)
        thinks = not answer and (bool(thought) or self.splitter.mode in ("think", "gap"))
        pieces = [Piece(self.index, thought, fresh if thinks else 0, thinking=True)] if thought or (thinks and fresh) else []
        return [*pieces, Piece(self.index, answer, fresh)] if answer or (fresh and not thinks) else pieces

    def _mark(self, job: Job) -> str:
        """A thought that is closed and has no answer yet gets a line break for one, which says so; unless its end was to be stopped at."""
        return "\n" if self.splitter.mode == "gap" and job.stopped_by != CLOSE else ""

    def goes_on(self, job: Job) -> bool:
        """Whether a thought was cut at its cap, and there is room to close it and to answer."""
        return job.capped and not job.fault and len(job.ids) + len(self.turns.closing(job.ids)) < self.length

    def close(self, job: Job) -> Piece:
        self.ids, self.logprobs, self.cached = list(job.ids), list(job.logprobs), job.cached
        return self._force(self.turns.closing(job.ids))

    def _force(self, closing: Sequence[int]) -> Piece:
        self.ids += closing
        self.logprobs += [0.0] * len(closing)
        thought, _ = self.splitter.feed(self.turns.engine.words.decode(closing))
        return Piece(self.index, thought, len(closing), thinking=True)

    def whole(self, job: Job) -> Sample | Failure:
        ids, logprobs = (*self.ids, *job.ids), (*self.logprobs, *job.logprobs)
        text = self.turns.engine.words.decode(ids)
        thinking, answer, _ = ("", text, True) if self.begun.plain else divide(text, self.begun.inside)
        thought = self.turns.thought(ids) if not self.begun.plain and (self.begun.inside or text.lstrip().startswith(OPEN)) else 0
        cached = min(len(self.begun.ids), (job.cached if self.cached is None else self.cached) or 0)
        spend = Spend(len(self.begun.ids), cached, thought, len(ids) - thought, calls=1)
        if job.fault:
            return Failure(self.index, job.fault, spend)
        return Sample(self.index, answer + self._mark(job), _finish(job, self.op), spend, thinking, ids, logprobs)


def _finish(job: Job, op: Expand) -> Finish:
    if job.stopped_by_end or op.until == "verdict":
        return "done"
    if job.stopped_by:
        return "step" if op.until == "step" and job.stopped_by == STEP and STEP not in op.stop else "done"
    if job.looped:
        return "loop"
    if job.capped:  # with no room for an answer
        return "tokens" if op.until == len(job.ids) <= op.max_tokens else "length"
    return "tokens" if isinstance(op.until, int) and op.until <= op.max_tokens else "length"
