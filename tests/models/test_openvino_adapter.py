"""Activated adapters: on the 135M model's real graph, which `make test` fetches."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pondera.errors import Unsupported, WeightsError
from pondera.models import weights
from pondera.models.known import DEFAULT, KNOWN
from pondera.models.openvino import OpenVINO
from pondera.models.openvino_adapter import CONFIG, WEIGHTS, of_model, read
from pondera.ops import Expand
from pondera.thought import Thought
from tests.models.test_openvino import ROOT, grow, needs_weights

NAME = "smollm2-135m"
CALLS = (5, 6)  # of its tokens, two that no text has
WORDS = ("Yes", " or")
WIDE, LAYERS = 576, 30
EXPAND = Expand(ROOT, 1, max_tokens=24, temperature=0.0)


def folder(path: Path, rows: Any, b: float = 0.0, wide: int = WIDE, layer: int = LAYERS - 1, **config: Any) -> Path:
    """An adapter of rank 4 on two projections of one layer, as PEFT writes it."""
    rng = np.random.default_rng(0)
    path.mkdir(parents=True, exist_ok=True)
    tensors = {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": np.ascontiguousarray(rows, dtype=np.float32)}
    for part, out in (("self_attn.q_proj", WIDE), ("mlp.down_proj", WIDE)):
        within = 1536 if part == "mlp.down_proj" else wide
        name = f"base_model.model.model.layers.{layer}.{part}"
        tensors[f"{name}.lora_A.weight"] = rng.normal(size=(4, within)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = b * rng.normal(size=(out, 4)).astype(np.float32)
    save_file(tensors, path / WEIGHTS)
    told = {"r": 4, "lora_alpha": 8, "alora_invocation_tokens": CALLS, "trainable_token_indices": {"embed_tokens": [6, 5]}}
    (path / CONFIG).write_text(json.dumps(told | config))
    return path


def embeddings(file: Path, ids: list[int]) -> Any:
    import gguf

    [table] = [one for one in gguf.GGUFReader(file).tensors if one.name == "token_embd.weight"]
    return gguf.dequantize(np.asarray(table.data[ids]), table.tensor_type)


@pytest.fixture(scope="module")
def model() -> Iterator[OpenVINO]:
    one = OpenVINO(NAME, cache_gb=1)
    yield one
    asyncio.run(one.close())


@needs_weights
async def test_it_wakes_on_its_own_tokens_alone(model: OpenVINO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [plain], _ = await grow(model, EXPAND)
    answer = Thought("0/1", ROOT, text=plain.text, finish="length", ids=plain.ids, model="own", tokens=len(plain.ids))
    spoken, _ = await grow(model, Expand(answer, 1, force="".join(WORDS), max_tokens=1, temperature=0.0))
    file = tmp_path / "own.gguf"
    shutil.copyfile(weights.pull(NAME), file)
    monkeypatch.setenv("PONDERA_CACHE", str(tmp_path))
    ids = [model._engine.words.encode(word)[0] for word in WORDS]
    rows = embeddings(file, ids)[::-1]  # in the order of the config's indices
    place = tmp_path / "engine" / KNOWN[NAME].sha256 / "adapter"
    verdicts = []
    for b in (0.0, 0.5):
        folder(place, rows, b)
        own = OpenVINO(str(file), cache_gb=1)
        try:
            [same], _ = await grow(own, EXPAND)
            assert same.ids == plain.ids
            assert same.logprobs == pytest.approx(plain.logprobs, abs=1e-3), "what does not call it is as it was"
            op = Expand(answer, until="verdict", max_tokens=9, temperature=0.0)
            [verdict], _ = await grow(own, op)
            assert (verdict.finish, len(verdict.ids), verdict.spend.answer) == ("done", 1, 1)
            assert own.prompt_bound(op) == verdict.spend.prompt == len(own._turns.begin(Expand(answer)).ids) + len(CALLS)
            assert verdict.spend.prompt - verdict.spend.cached <= len(CALLS) + 1, "the answer's keys and values are there"
            verdicts.append(verdict)
        finally:
            await own.close()
    assert len(list(place.parent.glob("*.blob"))) == 1, "what was compiled of another graph is gone"
    asleep, awake = verdicts
    assert asleep.ids == spoken[0].ids, "rows that are those of words are read as these words"
    assert asleep.logprobs == pytest.approx(spoken[0].logprobs, abs=0.02)
    assert awake.logprobs != pytest.approx(asleep.logprobs, abs=0.1), "another adapter, another graph"


@needs_weights
async def test_a_model_without_an_adapter_says_so(model: OpenVINO) -> None:
    with pytest.raises(Unsupported, match="smollm2-135m has no adapter"):
        await grow(model, Expand(ROOT, until="verdict"))


@needs_weights
@pytest.mark.parametrize(("wrong", "said"), [({"wide": 64}, "the model has one of 576 by 576"), ({"layer": LAYERS}, "more layers")])
def test_an_adapter_of_another_model_is_refused(wrong: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.gguf"
    shutil.copyfile(weights.pull(NAME), file)
    monkeypatch.setenv("PONDERA_CACHE", str(tmp_path))
    folder(tmp_path / "engine" / KNOWN[NAME].sha256 / "adapter", np.zeros((2, WIDE)), **wrong)
    with pytest.raises(WeightsError, match=said):
        OpenVINO(str(file), cache_gb=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alora_invocation_tokens": []},
        {"alora_invocation_tokens": [5, 5]},
        {"alora_invocation_tokens": None},
        {"alora_invocation_tokens": [5, 7]},
        {"r": 0},
        {"lora_alpha": "two"},
        {"trainable_token_indices": {}},
    ],
)
def test_a_folder_that_is_no_activated_adapter_is_one_sentence(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="give another"):
        read(folder(tmp_path, np.zeros((2, 8)), **wrong))


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="numbers that are none"):
        read(folder(tmp_path, np.full((2, 8), np.nan)))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="FileNotFoundError"):
        read(tmp_path)
    folder(tmp_path, np.zeros((2, 8)))
    (tmp_path / WEIGHTS).write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(WeightsError, match="SafetensorError"):
        read(tmp_path)


def test_the_one_that_comes_with_pondera_fits_its_model(tmp_path: Path) -> None:
    known = KNOWN[DEFAULT]
    own = of_model(known.sha256, tmp_path)
    assert own is not None
    assert own.rows.shape == (len(own.tokens), 896)
    assert {layer for layer, _ in own.sites} == set(range(24))
    assert all(b.any() and len(a) == b.shape[1] for a, b in own.sites.values())
    assert of_model(KNOWN[NAME].sha256, tmp_path) is None
    folder(tmp_path / "adapter", np.ones((2, WIDE)))
    mine = of_model(known.sha256, tmp_path)
    assert mine is not None
    assert mine.tokens == CALLS, "yours goes first"


def test_its_print_is_of_all_that_is_in_it(tmp_path: Path) -> None:
    rows = np.arange(16.0).reshape(2, 8)
    told = [read(folder(tmp_path / str(i), *given)).print for i, given in enumerate([(rows,), (rows,), (rows + 1,), (rows, 0.5)])]
    assert told[0] == told[1]
    assert len(set(told)) == 3
    assert read(tmp_path / "0").rows.tolist() == rows[::-1].tolist(), "in the order in which the tokens call"
