r"""Activated adapters: low-rank weights that wake on a few tokens of their own, grafted into a model's graph.

An activated LoRA (Greenewald et al. 2025, arXiv 2504.12397) changes what a model computes at the tokens that call it, and nothing before
them. So what was generated keeps its KV cache, and a question about it costs the calling tokens alone:

.. math:: y_t = W x_t + \frac{\alpha}{r} g_t B A x_t

with :math:`g_t` 1 at a calling token and 0 at any other. The rows of the embedding at those tokens are the adapter's too (prompt tuning,
Lester et al. 2021, arXiv 2104.08691). The engine's own adapters change all tokens of all requests at once, and none that come by
`add_request`, so the terms are made part of the graph, once, when a GGUF file is converted; all requests share it.

A folder as PEFT writes it: `adapter_config.json`, with the calling tokens in `alora_invocation_tokens` and `trainable_token_indices`, and
`adapter_model.safetensors`. Adapters that come with Pondera lie in `pondera/models/adapters`, each in a folder whose config names the
sha256 of the model file that it was trained on; one of yours lies in the model's folder of the cache, CACHE/engine/SHA256/adapter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pondera.errors import WeightsError

Floats = NDArray[np.floating[Any]]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))  # of a layer, in the graph's order


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is grafted. `tokens` call it, in this order; `rows` are their embeddings, shape [tokens, wide].

    `sites` holds A, shape [rank, in], and B, shape [out, rank] and scaled, of each projection, by layer and name.
    """

    tokens: tuple[int, ...]
    rows: Floats
    sites: Mapping[tuple[int, str], tuple[Floats, Floats]]

    @cached_property
    def print(self) -> str:
        """Changes with anything in it, in 16 hexadecimal digits."""
        told = hashlib.blake2b(repr(self.tokens).encode(), digest_size=8)
        for name, parts in [("", (self.rows,)), *sorted((f"{layer}.{part}", both) for (layer, part), both in self.sites.items())]:
            told.update(name.encode() + b"".join(np.ascontiguousarray(one).tobytes() for one in parts))
        return told.hexdigest()


def of_model(sha256: str, cache: Path) -> Adapter | None:
    """The adapter of a model file: yours from the cache, else the one that comes with Pondera, if any. Raises WeightsError."""
    if (own := cache / "adapter").is_dir():
        return read(own)
    for folder in resources.files("pondera.models").joinpath("adapters").iterdir():
        if (config := folder / CONFIG).is_file() and json.loads(config.read_text(encoding="utf-8")).get("base_sha256") == sha256:
            with resources.as_file(folder) as path:
                return read(path)
    return None


def read(folder: Path) -> Adapter:
    """A folder of PEFT's. Raises WeightsError for one that is no activated LoRA whose calling tokens were trained."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        tokens = tuple(int(one) for one in config["alora_invocation_tokens"])
        trained = [int(one) for one in config["trainable_token_indices"]["embed_tokens"]]
        scale = float(config["lora_alpha"]) / float(config["r"])
        found = dict(_sites(tensors, scale))
        [rows] = [one for name, one in tensors.items() if name.endswith("trainable_tokens_delta")]
        rows = rows[[trained.index(token) for token in tokens]]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no activated adapter with tokens of its own ({type(error).__name__}: {error}): give another.")
    if not tokens or len(set(tokens)) < len(tokens) or rows.ndim != 2:
        raise WeightsError(f"{folder} holds an adapter that no token calls, or one twice: give another.")
    if not all(np.isfinite(one).all() for one in tensors.values()):
        raise WeightsError(f"{folder} holds an adapter with numbers that are none: give another.")
    return Adapter(tokens, rows, found)


def _sites(tensors: Mapping[str, Floats], scale: float) -> Iterator[tuple[tuple[int, str], tuple[Floats, Floats]]]:
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            *_, layer, _, part, _, _ = name.split(".")
            yield (int(layer), part), (a, tensors[name.replace("lora_A", "lora_B")] * np.asarray(scale, a.dtype))


def graft(model: Any, adapter: Adapter) -> None:
    """Make an adapter part of a graph that the engine converted from a GGUF file. Raises WeightsError where the two do not fit."""
    import openvino.opset13 as op

    groups = _projections(model)
    if {layer for layer, _ in adapter.sites} - set(range(len(groups) // len(GROUPS))) or not groups:
        raise WeightsError("The adapter is of a model with more layers, or another build of layers, than this one: give another.")
    gate = _embedded(op, model, adapter)
    for i, group in enumerate(groups):
        layer, names = i // len(GROUPS), GROUPS[i % len(GROUPS)]
        some = [(node, *adapter.sites[layer, name]) for node, name in zip(group, names, strict=True) if (layer, name) in adapter.sites]
        for node, a, b in some:
            out, wide = node.input(1).get_shape()
            if a.shape[1:] != (wide,) or b.shape != (out, len(a)):
                raise WeightsError(f"The adapter has a matrix of {b.shape[0]} by {a.shape[1]} where the model has one of {out} by {wide}.")
        for shared, twins in _twins(some):
            low = op.multiply(op.matmul(group[0].input(0).get_source_output(), _matrix(op, shared), False, True), gate)
            for node, b in twins:
                _instead(node.output(0), lambda out, b=b, low=low: op.add(out, op.matmul(low, _matrix(op, b), False, True)))
    model.validate_nodes_and_infer_types()


def _projections(model: Any) -> list[list[Any]]:
    """The matrix products of each group of each layer, in order; the last one, which gives the logits, left out."""
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul" and node.get_attributes()["transpose_b"]]
    groups: dict[str, list[Any]] = {}
    for node in products[:-1]:
        groups.setdefault(node.input(0).get_source_output().get_node().get_friendly_name(), []).append(node)
    found = [sorted(group, key=lambda node: int(node.get_friendly_name().rpartition("_")[2])) for group in groups.values()]
    fits = [len(group) for group in found] == [len(names) for names in GROUPS] * (len(found) // len(GROUPS))
    return found if fits else []


def _embedded(op: Any, model: Any, adapter: Adapter) -> Any:
    """Put the adapter's rows in place of the calling tokens' embeddings; the gate, shape [..., tokens, 1]."""
    readers = [target.get_node() for target in model.input("input_ids").get_target_inputs()]
    [numbers] = [node for node in readers if node.get_type_name() == "Convert"]
    [found] = [target.get_node() for target in numbers.output(0).get_target_inputs()]
    known, last = op.constant(np.array(adapter.tokens, dtype=np.int32)), op.constant(np.int32(-1))
    hits = op.convert(op.equal(op.unsqueeze(numbers, last), known), np.int32)
    place = op.reduce_sum(op.multiply(hits, op.constant(np.arange(1, len(adapter.tokens) + 1, dtype=np.int32))), last, False)
    gate = op.unsqueeze(op.convert(op.greater(place, op.constant(np.int32(0))), np.float32), last)
    table = op.constant(np.concatenate([np.zeros_like(adapter.rows[:1]), adapter.rows]).astype(np.float32))
    rows = op.gather(table, place, op.constant(np.int32(0)))
    _instead(found.output(0), lambda out: op.add(op.multiply(out, op.subtract(op.constant(np.float32(1)), gate)), rows))
    return gate


def _twins(some: Sequence[tuple[Any, Floats, Floats]]) -> list[tuple[Floats, list[tuple[Any, Floats]]]]:
    """Projections of one input whose A is the same compute it once."""
    told: list[tuple[Floats, list[tuple[Any, Floats]]]] = []
    for node, a, b in some:
        own = next((twins for shared, twins in told if np.array_equal(shared, a)), None)
        if own is None:
            told.append((a, own := []))
        own.append((node, b))
    return told


def _matrix(op: Any, values: Floats) -> Any:
    return op.convert(op.constant(values.astype(np.float16)), np.float32)


def _instead(output: Any, made: Any) -> None:
    """Whatever read an output reads what is made of it."""
    readers = list(output.get_target_inputs())
    new = made(output)
    for reader in readers:
        reader.replace_source_output(new.output(0))
