"""The engine's thread over a pipeline of ours: what it does when requests are refused, ignored, cancelled, and when the pipeline fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from pondera.errors import ModelUnavailable
from pondera.models import openvino, weights
from pondera.models.openvino_engine import Engine, Job
from pondera.models.openvino_words import PROBE, Words

GENAI = SimpleNamespace(
    GenerationStatus=SimpleNamespace(RUNNING="running", IGNORED="ignored"),
    GenerationFinishReason=SimpleNamespace(LENGTH="length"),
    GenerationConfig=SimpleNamespace,
)


def encoded(ids: list[int]) -> Any:
    return SimpleNamespace(input_ids=SimpleNamespace(data=numpy.array([ids])))


TOKENIZER = SimpleNamespace(
    get_eos_token_id=lambda: 2,
    encode=lambda text, add_special_tokens: encoded([5] * len(text)),
    decode=lambda ids: "x" * len(ids),
)
PATIENCE = 10  # seconds until a test is lost


class Request:
    def __init__(self, prompt: list[int], length: int) -> None:
        self.prompt, self.length, self.state, self.said = prompt, length, "running", 0
        self.unread: list[Any] = []

    def get_status(self) -> str:
        return self.state

    def can_read(self) -> bool:
        return bool(self.unread)

    def read(self) -> dict[int, Any]:
        return {0: self.unread.pop(0)}

    def cancel(self) -> None:
        self.state = "cancelled"

    def grow(self) -> None:
        self.said += 1
        last = self.said >= self.length
        reason = "length" if last else "none"
        self.unread.append(SimpleNamespace(generated_ids=[5], generated_log_probs=[-0.1], finish_reason=reason))
        self.state = "finished" if last else "running"


class Pipeline:
    """A token a step for each request. `gate` holds steps back; `broken` makes them raise."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.steps = 0
        self.gate, self.inside = threading.Event(), threading.Event()
        self.gate.set()
        self.broken = False
        self.refused: Callable[[list[int]], bool] = lambda prompt: False
        self.ignored: Callable[[list[int]], bool] = lambda prompt: False

    def get_config(self) -> Any:
        return SimpleNamespace(stop_token_ids={2})

    def add_request(self, number: int, tensor: Any, config: Any) -> Request:
        prompt = tensor.data[0].tolist()
        if self.refused(prompt):
            raise RuntimeError("Check failed: length")
        self.requests.append(Request(prompt, config.max_new_tokens))
        return self.requests[-1]

    def has_non_finished_requests(self) -> bool:
        return any(request.state == "running" for request in self.requests)

    def step(self) -> None:
        self.steps += 1
        self.inside.set()
        self.gate.wait(PATIENCE)
        if self.broken:
            raise RuntimeError("broken pipeline")
        for request in self.requests:
            if request.state == "running":
                if self.ignored(request.prompt):
                    request.state = "ignored"
                else:
                    request.grow()


@pytest.fixture
def pipeline() -> Pipeline:
    pytest.importorskip("openvino")
    return Pipeline()


@pytest.fixture
def engine(pipeline: Pipeline) -> Iterator[Engine]:
    one = Engine(GENAI, pipeline, TOKENIZER, 1000, 1000)
    yield one
    pipeline.broken = False
    pipeline.gate.set()
    one.close()


class Asked:
    """Jobs that were submitted, and when they were over."""

    def __init__(self, engine: Engine, *prompts: list[int], length: int = 3) -> None:
        self.ended = {id(prompt): threading.Event() for prompt in prompts}
        self.jobs = engine.submit([Job(prompt, 1, length, self._tell) for prompt in prompts])

    def _tell(self, job: Job) -> None:
        if job.over:
            self.ended[id(job.prompt)].set()

    def end(self) -> list[str]:
        """Each job's fault, or "" where it has none."""
        assert all(event.wait(PATIENCE) for event in self.ended.values()), "a job was never over"
        return [str(job.fault or "") for job in self.jobs]


def held(engine: Engine, pipeline: Pipeline, *prompts: list[int], length: int = 3) -> Asked:
    """Jobs whose first step is under way, and stays so until the gate is opened."""
    pipeline.gate.clear()
    asked = Asked(engine, *prompts, length=length)
    assert pipeline.inside.wait(PATIENCE)
    return asked


FAMILY = [1] * 100


def test_families_and_others_are_generated(engine: Engine, pipeline: Pipeline) -> None:
    asked = Asked(engine, [*FAMILY, 4], [*FAMILY, 5], [3] * 5)
    assert asked.end() == ["", "", ""]
    assert [len(job.ids) for job in asked.jobs] == [3, 3, 3]
    assert sum(request.prompt == FAMILY for request in pipeline.requests) == 1, "one prefill"


def test_what_each_has_in_the_cache_already_is_not_computed_for_all_of_them(engine: Engine, pipeline: Pipeline) -> None:
    first = Asked(engine, [*FAMILY, *[4] * 40], [*FAMILY, *[5] * 40])
    assert first.end() == ["", ""]
    sent = len(pipeline.requests)
    paths = [[*job.prompt, *job.ids[:-1], 9] for job in first.jobs]
    again = Asked(engine, *paths)
    assert again.end() == ["", ""]
    assert [request.prompt for request in pipeline.requests[sent:]] == paths, "no prefill of what they have in common"
    assert [job.cached for job in again.jobs] == [len(path) - 1 for path in paths]


def test_a_request_that_is_refused_fails_alone(engine: Engine, pipeline: Pipeline) -> None:
    running = held(engine, pipeline, [7] * 4)
    pipeline.refused = lambda prompt: prompt == [9] * 4
    others = Asked(engine, [9] * 4, [8] * 4)
    pipeline.gate.set()
    assert running.end() == [""]
    assert others.end() == ["The engine refuses this request (Check failed: length).", ""]


def test_a_family_whose_prefill_fails_is_generated_all_the_same(engine: Engine, pipeline: Pipeline) -> None:
    pipeline.refused = lambda prompt: prompt == FAMILY
    assert Asked(engine, [*FAMILY, 4], [*FAMILY, 5]).end() == ["", ""]
    pipeline.refused, pipeline.ignored = (lambda prompt: False), (lambda prompt: len(prompt) == 120)
    assert Asked(engine, [6] * 120 + [4], [6] * 120 + [5]).end() == ["", ""]


def test_what_the_cache_has_no_room_for_fails(engine: Engine, pipeline: Pipeline) -> None:
    pipeline.ignored = lambda prompt: True
    assert all("cache is full" in fault for fault in Asked(engine, [*FAMILY, 4], [*FAMILY, 5]).end())


def test_a_job_that_is_cancelled_before_its_prefix_is_there_is_never_sent(engine: Engine, pipeline: Pipeline) -> None:
    asked = held(engine, pipeline, [*FAMILY, 4], [*FAMILY, 5])
    asked.jobs[0].cancel()
    pipeline.gate.set()
    assert asked.ended[id(asked.jobs[1].prompt)].wait(PATIENCE)
    assert [request.prompt for request in pipeline.requests] == [FAMILY, [*FAMILY, 5]]


def test_a_pipeline_that_fails_is_not_stepped_for_ever(engine: Engine, pipeline: Pipeline) -> None:
    asked = held(engine, pipeline, [1] * 4)
    engine.stale = True  # a request was stopped in the step before
    pipeline.broken = True
    pipeline.gate.set()
    assert asked.end() == ["The engine failed (broken pipeline)."]
    time.sleep(0.05)
    assert pipeline.steps < 5
    pipeline.broken = False
    assert Asked(engine, [1] * 4).end() == [""]


def test_closing_fails_what_is_in_flight_and_what_was_not_yet_begun(engine: Engine, pipeline: Pipeline) -> None:
    running = held(engine, pipeline, [1] * 4, length=1000)
    waiting = Asked(engine, [2] * 4)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine.closing:
        time.sleep(0.001)
    pipeline.gate.set()
    assert running.end() == waiting.end() == ["The engine was closed."]
    closing.join(PATIENCE)
    with pytest.raises(ModelUnavailable, match="open the model again"):
        Asked(engine, [1])


def test_a_broken_pipeline_can_be_closed(engine: Engine, pipeline: Pipeline) -> None:
    asked = held(engine, pipeline, [1] * 4)
    pipeline.broken = True
    pipeline.requests.append(Request([1], 1000))  # what cannot be finished any more
    closing = threading.Thread(target=engine.close)
    closing.start()
    pipeline.gate.set()
    assert asked.end()[0]
    closing.join(PATIENCE)
    assert engine.pipeline is None


def test_a_job_is_over_only_when_all_is_known_of_it(engine: Engine) -> None:
    job, seen = Job([1], 1, 1, lambda job: None), []

    class State:
        def __eq__(self, other: object) -> bool:
            seen.append(job.over)
            return other == "ignored"

    engine._finish(job, State())
    assert job.fault
    assert (seen, job.over) == ([False], True)


async def test_a_model_that_is_opened_twice_at_once_is_loaded_once_and_closed_once(monkeypatch: Any, tmp_path: Path) -> None:
    loaded, closed = [], []

    class Loaded:
        words = SimpleNamespace(encode=lambda text: ())

        def close(self) -> None:
            closed.append(self)

    def load(*given: Any) -> Loaded:
        time.sleep(0.05)
        loaded.append(Loaded())
        return loaded[-1]

    ready = SimpleNamespace(name="m", folder=tmp_path, gguf=None)
    monkeypatch.setattr(weights, "ready", lambda spec, progress: ready)
    monkeypatch.setattr(openvino, "load", load)
    one, two = await asyncio.gather(*(asyncio.to_thread(openvino.OpenVINO, "m") for _ in range(2)))
    assert len(loaded) == 1
    for _ in range(2):
        await one.close()
    assert not closed
    await two.close()
    assert closed == loaded


def test_where_white_space_depends_on_the_place_the_tokenizer_is_asked() -> None:
    """As with SentencePiece: a token's space is left out at the beginning of a text."""
    texts = ["", "", "", *(f" {word}" for word in ["to", "be", "or", "not"])]

    def encode(text: str, add_special_tokens: bool) -> Any:
        return encoded([3, 4, 5, 6] if text == PROBE else [texts.index(f" {text.strip()}")])

    words = Words(SimpleNamespace(encode=encode, decode=lambda ids: "".join(texts[one] for one in ids).lstrip()))
    assert not words.apart
    assert words.decode((3, 4, 5)) == "to be or"
    assert words.decode(()) == ""


def test_a_token_is_decoded_once_and_half_a_character_with_its_other_half() -> None:
    asked: list[tuple[int, ...]] = []

    def decode(ids: list[int]) -> str:
        asked.append(tuple(ids))
        return b"".join({7: b"\xc3", 8: b"\xa9"}.get(one, b"x") for one in ids).decode(errors="replace")

    words = Words(SimpleNamespace(encode=TOKENIZER.encode, decode=decode))
    assert words.apart
    assert (words.decode((5, 7, 8, 5)), words.decode((7,))) == ("xéx", "\ufffd")
    asked.clear()
    assert words.decode((5, 5, 5)) == "xxx"
    assert not asked
