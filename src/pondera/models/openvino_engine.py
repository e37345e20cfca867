"""The thread that drives a ContinuousBatchingPipeline: takes jobs, primes shared prefixes, steps, hands out what was generated.

What was measured of the pipeline and is relied on here: a request finds in the prefix cache every full block that an earlier one with
the same beginning has filled, and the last, partly filled one where the earlier one ended just there; requests that start together do
not see each other's blocks; only a request of one sequence can be read while it runs.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pondera.errors import ModelError, ModelUnavailable, PonderaError
from pondera.models.openvino_prefix import Known, families
from pondera.models.openvino_words import Words, first_line
from pondera.repetition import EVERY, loops
from pondera.thought import CLOSE, OPEN

RECENT = 2048  # tokens in which a loop is looked for


@dataclass(eq=False, slots=True)
class Job:
    """One sequence to generate. The engine's thread fills `ids` and `logprobs` and calls `tell` when there is more, or `over` is set.

    It ends at the first of the `stop` strings that follows something else than white space, the token that holds its end included; of
    `cap` tokens where these are all thinking (`inside` says that it begins in a thought); and where it says the same over and over.
    """

    prompt: list[int]
    seed: int
    length: int
    tell: Callable[[Job], None]
    temperature: float = 0.0
    top_p: float = 1.0
    stop: set[str] = field(default_factory=set)
    inside: bool = False
    cap: int | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cached: int | None = None
    over: bool = False
    stopped_by_end: bool = False
    stopped_by: str = ""
    capped: bool = False
    looped: bool = False
    looked: int = 0  # tokens that were there when a loop was looked for
    fault: PonderaError | None = None
    cancelled: bool = False
    handle: Any = None

    def cancel(self) -> None:
        """Free the slot; from any thread."""
        self.cancelled = True
        if self.handle is not None:
            self.handle.cancel()


class Engine:
    """Owns a pipeline and its thread.

    `context` is the model's context in tokens, `ends` the tokens that end an answer, `calls` those that call the adapter for verdicts.
    """

    def __init__(self, genai: Any, pipeline: Any, tokenizer: Any, context: int, room: int, calls: Sequence[int] = ()) -> None:
        self.genai, self.pipeline, self.words, self.context, self.calls = genai, pipeline, Words(tokenizer), context, calls
        self.end = tokenizer.get_eos_token_id()
        self.ends = frozenset({self.end, *pipeline.get_config().stop_token_ids})
        self.thinks = CLOSE in str(getattr(tokenizer, "chat_template", ""))  # the template is a thinking model's
        self.known = Known(room)
        self.computed = 0  # prompt tokens that were computed, not found in the cache, as the mirror of its table says
        self.wake = threading.Condition()
        self.inbox: deque[Job] = deque()
        self.live: list[Job] = []
        self.waiting: list[tuple[Job, list[Job]]] = []  # a prefill, and the jobs that need what it computes
        self.stale = False  # cancelled requests hold their slots until the next step
        self.closing = False
        self.number = 0
        self.thread = threading.Thread(target=self._run, name="pondera-openvino", daemon=True)
        self.thread.start()

    # ------------------------------------------------------------ from any thread

    def submit(self, jobs: list[Job]) -> list[Job]:
        """Queue jobs; those of one call, and others that wait with them, share what their prompts have in common."""
        with self.wake:
            if self.closing:
                raise ModelUnavailable("The engine was closed: open the model again.")
            self.inbox.extend(jobs)
            self.wake.notify()
        return jobs

    def close(self) -> None:
        with self.wake:
            self.closing = True
            self.wake.notify()
        self.thread.join()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            with self.wake:
                while not (self.inbox or self.live or self.stale or self.closing):
                    self.wake.wait()
                if self.closing:
                    break
                fresh = list(self.inbox)
                self.inbox.clear()
            try:
                self._start([job for job in fresh if not job.cancelled])
                if self.live or self.stale:
                    self.stale = False  # also where this step fails: one that fails is not tried again until there is work
                    self.pipeline.step()
                self._collect()
            except Exception as error:
                self._fail(fresh, error)
        self._fail(list(self.inbox), ModelUnavailable("The engine was closed."))
        with contextlib.suppress(Exception):  # a pipeline that fails now has nobody left to tell
            while self.pipeline.has_non_finished_requests():
                self.pipeline.step()
        self.pipeline = None

    def _fail(self, fresh: list[Job], error: Exception) -> None:
        """Nothing in flight can be trusted after an error of the pipeline's own."""
        fault = error if isinstance(error, PonderaError) else ModelError(f"The engine failed ({first_line(error)}).")
        stuck = [*self.live, *(job for _, jobs in self.waiting for job in jobs), *fresh]
        self.live, self.waiting = [], []
        for job in stuck:
            if not job.over:
                job.cancel()
                job.fault, job.over = fault, True
                job.tell(job)

    def _start(self, fresh: list[Job]) -> None:
        """Send jobs to the pipeline, prefixes that several share first."""
        for jobs, shared in families(fresh):
            if len(jobs) > 1 and any(self.known.cached(job.prompt) < len(shared) - 1 for job in jobs):
                prefill = Job(list(shared), 0, 1, tell=lambda job: None)
                self._send(prefill)
                self.waiting.append((prefill, jobs))
            else:
                for job in jobs:
                    self._send(job)

    def _send(self, job: Job) -> None:
        import numpy
        from openvino import Tensor

        config = self.genai.GenerationConfig()
        config.max_new_tokens, config.logprobs = job.length, 1
        config.eos_token_id = self.end
        config.stop_token_ids = set(self.ends)
        config.rng_seed = job.seed
        config.do_sample = job.temperature > 0
        if config.do_sample:
            config.temperature, config.top_p = job.temperature, job.top_p
        self.number += 1
        try:
            job.handle = self.pipeline.add_request(self.number, Tensor(numpy.array([job.prompt], dtype=numpy.int64)), config)
        except Exception as error:  # it is this request that is refused: those in flight go on
            job.fault = ModelError(f"The engine refuses this request ({first_line(error)}).")
            job.over = True
            job.tell(job)
            return
        job.cached = min(self.known.cached(job.prompt), len(job.prompt) - 1)
        self.computed += len(job.prompt) - job.cached
        self.live.append(job)
        if job.cancelled:
            job.handle.cancel()

    def _collect(self) -> None:
        """Read what the step generated."""
        status = self.genai.GenerationStatus
        running: list[Job] = []
        for job in self.live:
            state = job.handle.get_status()
            fresh = False
            while not job.cancelled and job.handle.can_read():
                for output in job.handle.read().values():
                    job.ids += output.generated_ids
                    job.logprobs += output.generated_log_probs
                    fresh = True
            stopped = fresh and self._stopped(job)  # perhaps by the last token that it was allowed
            if state == status.RUNNING and stopped:
                job.handle.stop()
                self.stale = True
                self._finish(job, state)
            elif state == status.RUNNING and not job.cancelled:
                running.append(job)
            else:
                self._finish(job, state)
            if fresh or job.over:
                job.tell(job)
        self.live = running
        self._follow()

    def _stopped(self, job: Job) -> bool:
        """Whether it is to end before the model ends it."""
        if job.cancelled:
            return False
        job.stopped_by = self._met(job)
        if not job.stopped_by and job.cap is not None and len(job.ids) >= job.cap:
            job.capped = self._thinking(job)
        if not (job.stopped_by or job.capped) and len(job.ids) >= job.looked + EVERY:
            job.looked = len(job.ids)
            job.looped = loops(job.ids[-RECENT:])
        return bool(job.stopped_by or job.capped or job.looped)

    def _met(self, job: Job) -> str:
        """The stop string that has just come. The pipeline's own search misses some that span tokens, and cuts white space off.

        Tags of thinking are no words either: the empty line that follows a thought ends no step.
        """
        tail = self.words.decode(job.ids[-max(map(len, job.stop)) - 4 :]) if job.stop else ""
        for stop in sorted(job.stop):
            if stop in tail:
                before = self.words.decode(job.ids).rpartition(stop)[0].rpartition(CLOSE)[2]
                if stop == CLOSE or before.strip().removeprefix(OPEN).strip():
                    return stop
        return ""

    def _thinking(self, job: Job) -> bool:
        """Whether all that was generated is thinking; where it is not, it need not be asked again."""
        text = self.words.decode(job.ids)
        if (job.inside or text.lstrip().startswith(OPEN)) and CLOSE not in text:
            return True
        if not OPEN.startswith(text.strip()):
            job.cap = None
        return False

    def _finish(self, job: Job, state: Any) -> None:
        if job.cancelled:
            self.stale = True
        elif state == self.genai.GenerationStatus.IGNORED:
            job.fault = ModelError("The engine's cache is full: ask for fewer or shorter branches at once, or give it more (cache_gb).")
        else:
            job.stopped_by_end = bool(job.ids) and job.ids[-1] in self.ends
            self.known.add([*job.prompt, *job.ids[:-1]])
        job.over = True  # last: whoever reads the job from another thread takes it for whole now

    def _follow(self) -> None:
        """Send the jobs whose prefix is computed now."""
        still: list[tuple[Job, list[Job]]] = []
        for prefill, jobs in self.waiting:
            if not prefill.over:
                still.append((prefill, jobs))
                continue
            wanted = [job for job in jobs if not job.cancelled]
            for job in wanted:
                self._send(job)
            for job in wanted[:1]:  # the first one's bill shows what the prefill computed
                job.cached = min(job.cached or 0, prefill.cached or 0)
        self.waiting = still
