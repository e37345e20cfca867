"""The embedded engine on real weights: the 135M model, which `make test` fetches."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pondera.errors import ContextOverflow, ModelUnavailable, Unsupported, WeightsError
from pondera.models import weights
from pondera.models.openvino import OpenVINO, _Branch, _finish
from pondera.models.openvino_engine import Job
from pondera.models.openvino_prefix import BLOCK, Known, families
from pondera.ops import Expand
from pondera.ports import Piece, Sample
from pondera.thought import Question, Thought, root_of

QUESTION = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. She keeps a list of all that she sold, "
    "by month and by friend, and she counts it twice. How many clips did Natalia sell altogether in April and May?"
)
ROOT = root_of(Question.of(QUESTION))
STEPS = "Think step by step, in steps that are separated by empty lines."
FETCHED = any(row.fetched for row in weights.models_table() if row.name == "smollm2-135m")
needs_weights = pytest.mark.skipif(not FETCHED, reason="the 135M model is not here: `pondera models pull smollm2-135m` fetches it")


@pytest.fixture(scope="module")
def model() -> Iterator[OpenVINO]:
    one = OpenVINO("smollm2-135m", cache_gb=1)
    yield one
    asyncio.run(one.close())


async def grow(model: OpenVINO, op: Expand, seeds: Sequence[int] = ()) -> tuple[list[Sample], list[Piece]]:
    """All children of an op in order, and the pieces that came before them."""
    samples: dict[int, Sample] = {}
    pieces: list[Piece] = []
    async for one in model.sample(op, seeds or range(1, op.n + 1)):
        if isinstance(one, Piece):
            pieces.append(one)
        else:
            assert isinstance(one, Sample), one
            samples[one.index] = one
    return [samples[i] for i in range(op.n)], pieces


def prompt(model: OpenVINO, op: Expand) -> list[int]:
    return model._turns.begin(op).ids


def child(parent: Thought, op: Expand, sample: Sample, model: OpenVINO) -> Thought:
    text = op.force + sample.text
    return Thought(
        "0.0/0", parent, op.say, text, op.force, finish=sample.finish, model=model.name, ids=sample.ids, logprobs=sample.logprobs
    )


@needs_weights
@pytest.mark.weights
class TestOnRealWeights:
    async def test_sixteen_branches_compute_one_prompt(self, model: OpenVINO) -> None:
        op = Expand(ROOT, 16, say="Sixteen branches, one prompt.", max_tokens=12)
        before = model._engine.computed
        samples, _ = await grow(model, op)
        prompt = samples[0].spend.prompt
        assert prompt == model.prompt_bound(op)
        computed = model._engine.computed - before
        assert computed <= 1.2 * prompt
        billed = sum(sample.spend.prompt - sample.spend.cached for sample in samples)
        assert computed - 1 <= billed <= computed
        assert len({sample.text for sample in samples}) > 4, "branches differ"

    async def test_a_continued_path_hits_the_cache_and_goes_on(self, model: OpenVINO) -> None:
        """What the engine is sent is compared, token by token: two greedy runs may differ where rounding decides."""
        first = Expand(ROOT, 1, say=STEPS, max_tokens=60, temperature=0.0)
        [sample], _ = await grow(model, first)
        ids = sample.ids[:-1] if sample.ids[-1] in model._engine.ends else sample.ids
        before = model._engine.computed
        again = Expand(child(ROOT, first, sample, model), 2, max_tokens=8, temperature=0.0)
        assert prompt(model, again) == [*prompt(model, first), *ids], "continued, not restarted"
        more, _ = await grow(model, again)
        assert model._engine.computed - before <= 2 * BLOCK
        assert all(one.spend.prompt == len(prompt(model, first)) + len(ids) for one in more)
        forced = replace(again, force=" So")
        assert prompt(model, forced) == [*prompt(model, again), *model._engine.words.encode(" So")]

    async def test_the_main_thread_keeps_its_stack_for_signals(self, model: OpenVINO) -> None:
        """Native code that loads a model leaves the loading thread one that goes with the model: Ctrl-C would crash after that."""
        code = (
            "import asyncio, os, signal\n"
            "from pondera.models.openvino import OpenVINO\n"
            f"asyncio.run(OpenVINO({model.name!r}).close())\n"
            "signal.signal(signal.SIGINT, lambda *_: print('alive'))\n"
            "os.kill(os.getpid(), signal.SIGINT)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, "alive")

    async def test_what_is_told_adds_up(self, model: OpenVINO) -> None:
        samples, pieces = await grow(model, Expand(ROOT, 3, max_tokens=40))
        for i, sample in enumerate(samples):
            mine = [piece for piece in pieces if piece.index == i]
            assert "".join(piece.text for piece in mine) == sample.text
            assert sum(piece.tokens for piece in mine) == len(sample.ids) == len(sample.logprobs) == sample.spend.answer
            assert all(p <= 1e-6 for p in sample.logprobs)
            assert sample.finish in ("done", "length")
            assert len(sample.ids) == 40 or sample.finish == "done"

    async def test_a_seed_fixes_a_branch_that_runs_alone(self, model: OpenVINO) -> None:
        op = Expand(ROOT, 1, say="Tell a story.", max_tokens=24, temperature=1.0)
        await grow(model, op)  # what is computed afresh and what is read from the cache differ by rounding
        texts = [(await grow(model, op, [seed]))[0][0].text for seed in (7, 7, 8)]
        assert texts[0] == texts[1] != texts[2]

    async def test_steps_end_at_an_empty_line_and_hold_more_than_white_space(self, model: OpenVINO) -> None:
        begun = "Step 1: In April she sold 48 clips.\n\nStep 2: In May she sold 24 clips.\n\nStep 3:"
        samples, _ = await grow(model, Expand(ROOT, 8, "step", say=STEPS, force=begun, max_tokens=120))
        ended = [sample for sample in samples if sample.finish == "step"]
        assert ended, "some step ends"
        for sample in ended:
            assert "\n\n" in sample.text[-6:]
            assert sample.text.strip()
            assert "\n\n" not in sample.text.strip()

    async def test_forced_text_is_gone_on_with(self, model: OpenVINO) -> None:
        root = root_of(Question.of("What is the capital of France?"))
        [sample], _ = await grow(model, Expand(root, 1, force="The capital of France is", max_tokens=6, temperature=0.0))
        assert sample.text.startswith(" Paris")

    async def test_a_forced_thought_is_closed_at_its_cap_and_gone_on_with(self, model: OpenVINO) -> None:
        op = Expand(ROOT, 2, force="<think>\n", thinking=10, max_tokens=40)
        samples, pieces = await grow(model, op)
        for sample in samples:
            mine = [piece for piece in pieces if piece.index == sample.index]
            assert sample.thinking
            assert "</think>" not in sample.thinking
            assert not sample.text.lstrip().startswith("</think>")
            assert 10 <= sample.spend.thinking < 20
            assert sum(piece.tokens for piece in mine) == len(sample.ids) == len(sample.logprobs) == sample.spend.tokens <= 40
            assert "".join(piece.text for piece in mine if piece.thinking) == sample.thinking
        node = replace(child(ROOT, op, samples[0], model), text=samples[0].text, thinking="\n" + samples[0].thinking)
        own = [one for one in samples[0].ids if one not in model._engine.ends]
        assert prompt(model, Expand(node)) == [*prompt(model, op), *own], "the very tokens, those that closed the thought with them"

    async def test_stop_strings_end_an_answer_and_are_kept(self, model: OpenVINO) -> None:
        [sample], _ = await grow(model, Expand(ROOT, 1, stop=("clips",), max_tokens=60, temperature=0.0))
        assert sample.finish == "done"
        assert "clips" in sample.text.split()[-1]

    async def test_a_stop_string_may_end_with_the_last_token(self, model: OpenVINO) -> None:
        op = Expand(ROOT, 1, stop=("clips",), max_tokens=60, temperature=0.0)
        await grow(model, op)  # what is computed afresh and what is read from the cache differ by rounding
        [sample], _ = await grow(model, op)
        [again], _ = await grow(model, replace(op, max_tokens=len(sample.ids)))
        assert (again.text, again.finish) == (sample.text, "done")

    async def test_a_number_of_tokens_is_no_cut(self, model: OpenVINO) -> None:
        [few], _ = await grow(model, Expand(ROOT, 1, 5, max_tokens=50))
        [cut], _ = await grow(model, Expand(ROOT, 1, 50, max_tokens=5))
        assert (few.finish, len(few.ids)) == ("tokens", 5)
        assert (cut.finish, len(cut.ids)) == ("length", 5)

    async def test_closing_the_iterator_frees_the_slots(self, model: OpenVINO) -> None:
        stream: Any = model.sample(Expand(ROOT, 8, say="Count to one thousand.", max_tokens=500), range(8))
        async for _ in stream:
            break
        await stream.aclose()
        async with asyncio.timeout(20):
            while model._engine.live or model._engine.stale:
                await asyncio.sleep(0.01)
        assert not model._engine.pipeline.has_non_finished_requests()

    async def test_calls_that_come_together_share_a_batch_and_a_prefix(self, model: OpenVINO) -> None:
        ops = [Expand(ROOT, 2, say=f"Answer in the style of number {i}.", max_tokens=10) for i in range(4)]
        before = model._engine.computed
        results = await asyncio.gather(*(grow(model, op) for op in ops))
        assert all(len(samples) == 2 for samples, _ in results)
        assert model._engine.computed - before < 4 * results[0][0][0].spend.prompt

    def test_one_model_serves_several_event_loops(self, model: OpenVINO) -> None:
        for _ in range(2):
            [sample], _pieces = asyncio.run(grow(model, Expand(ROOT, 1, max_tokens=3)))
            assert sample.text

    async def test_an_overflow_of_the_context_is_one_sentence(self, model: OpenVINO) -> None:
        with pytest.raises(ContextOverflow, match=r"has \d+,\d+ tokens, and smollm2-135m takes 8,192"):
            await grow(model, Expand(root_of(Question.of("word " * 9000)), 1, max_tokens=5))

    async def test_the_last_tokens_of_the_context_are_used(self, model: OpenVINO) -> None:
        root = root_of(Question.of("word " * (8192 - 60)))
        room = 8192 - model.prompt_bound(Expand(root))
        assert 0 < room < 60
        [sample], _ = await grow(model, Expand(root, 1, max_tokens=500))
        assert len(sample.ids) <= room
        assert sample.finish in ("length", "done")

    async def test_long_texts_are_tokenized_as_a_whole(self, model: OpenVINO) -> None:
        text = "The quick brown fox, 12 of them, jumps over the lazy dog. " * 150
        parts = model._engine.words.encode(text)
        assert model._engine.words.decode(parts) == text
        assert parts == tuple(model._engine.words.tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist())

    async def test_single_tokens_say_together_what_the_tokenizer_says(self, model: OpenVINO) -> None:
        engine, chance = model._engine, random.Random(5)
        assert engine.words.apart
        texts = ["naïve café, 北京 3.14 🙂 done", " \n\n  x\t= 'a b'\r\n", "<|im_start|>user\nHi<|im_end|>"]
        known = [list(engine.words.encode(text)) for text in texts]
        drawn = [[chance.randrange(49_000) for _ in range(chance.randint(1, 30))] for _ in range(200)]
        for ids in [*known, *drawn]:
            assert engine.words.decode(ids) == engine.words.tokenizer.decode(ids)

    async def test_characters_of_several_tokens_are_streamed_whole(self, model: OpenVINO) -> None:
        op, text = Expand(ROOT, 1, max_tokens=50), "Go to 北京 🙂 or naïve 東京"
        branch = _Branch(0, 1, op, model._turns.begin(op), 50, model._turns, asyncio.Queue())
        job, said = branch.job(), list[Piece]()
        for one in model._engine.words.encode(text):
            job.ids.append(one)
            said += branch.read(job, False, False)
        said += branch.read(job, True, True)
        assert "".join(piece.text for piece in said) == text
        assert sum(piece.tokens for piece in said) == len(job.ids)

    async def test_latent_hops_are_refused(self, model: OpenVINO) -> None:
        with pytest.raises(Unsupported, match="latent"):
            await grow(model, Expand(ROOT, 1, "latent"))

    async def test_a_model_is_loaded_once(self, model: OpenVINO) -> None:
        other = OpenVINO("smollm2-135m")
        assert other._engine is model._engine
        await other.close()
        [sample], _ = await grow(model, Expand(ROOT, 1, max_tokens=2))
        assert sample.ids


def test_a_corrupt_file_is_one_sentence(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\x00" * 2000)
    with pytest.raises(WeightsError):
        OpenVINO(str(bad))


def test_too_little_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pondera.models import openvino_load

    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" * 100)
    monkeypatch.setattr(openvino_load, "_free_memory", lambda: 1 << 20)
    with pytest.raises(ModelUnavailable, match="GiB of memory"):
        openvino_load.load(weights.Ready("big", file, None, tmp_path), 2, weights.silent)


def job(*prompt: int) -> Job:
    return Job(list(prompt), 0, 1, lambda job: None)


def test_families_are_jobs_that_begin_alike() -> None:
    long = list(range(100))
    one, two, other = job(*long, 1), job(*long, 2), job(*range(500, 600))
    found = {tuple(shared): jobs for jobs, shared in families([one, other, two])}
    assert found == {tuple(long): [one, two], tuple(range(500, 600)): [other]}
    same = [job(*long, 7, *range(50)) for _ in range(3)]
    assert sorted(len(jobs) for jobs, _ in families([*same, job(*range(70), 9)])) == [1, 3], "not for one that shares little"
    judged = [job(*long, i, *range(i, i + 200)) for i in range(3)]
    assert [(len(jobs), len(shared)) for jobs, shared in families(judged)] == [(3, 100)]
    short = [job(1, 2, 3), job(1, 2, 3), job(1, 2, 4)]
    assert sorted(len(jobs) for jobs, _ in families(short)) == [1, 2]


def test_the_mirror_of_the_cache_counts_as_the_engine_does() -> None:
    known = Known(room=4)
    known.add(range(BLOCK + 10))
    assert known.cached(range(BLOCK + 10)) == BLOCK + 10
    assert known.cached(range(BLOCK + 20)) == BLOCK + 10
    assert known.cached(range(BLOCK + 9)) == BLOCK, "a part of a partly filled block is not found"
    assert known.cached(range(1, 60)) == 0
    known.add(range(1000, 1000 + 4 * BLOCK))
    assert known.cached(range(BLOCK)) == 0, "the least recently used is forgotten"


def test_how_a_branch_ended() -> None:
    step, ended, cut = job(), job(), job()
    step.stopped_by = "\n\n"
    ended.stopped_by_end = True
    op = Expand(ROOT, 1, "step")
    assert _finish(step, op) == "step"
    assert _finish(step, Expand(ROOT, stop=("\n\n",))) == "done"
    assert _finish(step, op) == "step", "a step that ends with the last token that it was allowed"
    assert _finish(ended, op) == "done"
    assert _finish(cut, op) == "length"
