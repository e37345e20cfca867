"""The command line with models of the Qwen2 family on a CUDA card in place of the embedded engine's processor: banks in minutes.

    python benchmarks/gpu.py qwen2.5-coder-0.5b=MODEL.gguf -- bench run --task gsm8k_train.jsonl -s "vote(n=16, over='both')" --out bank.db
    python benchmarks/gpu.py --adapter FOLDER qwen2.5-coder-0.5b=MODEL.gguf -- bench run ... -s "best_of(n=16, over='both', by='orm')"

The same weights (dequantised to bfloat16), template, tokens, stops, loops and bills: only the pipeline under the engine's thread is
another, a plain continuous batch in torch with a cache of whole prompts. A sample is a function of its prompt and seed up to rounding.
Needs torch and transformers, and no openvino. Without a card it runs on the processor, slowly, to be looked at.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch.nn import functional as F

from pondera.models import openvino_adapter
from pondera.models.fetch import silent
from pondera.models.hashes import digest

SLOTS = 256  # sequences that share a batch
LONGEST = 2048  # tokens of prompt and answer
PROMPTS = 4096  # tokens of prompts that are computed at once
KEPT = 1024  # prompts whose keys and values are kept
BUCKET = 128  # tokens; attention looks at whole buckets
GROUPS = dict(zip(("qkv", "out", "up", "down"), openvino_adapter.GROUPS, strict=True))


class Qwen2:
    """The network. `cache` is [layers, 2, slots, kv heads, tokens, width]."""

    def __init__(self, path: Path, device: str, slots: int, longest: int) -> None:
        reader = gguf.GGUFReader(path)
        said = {name: one.contents() for name, one in reader.fields.items() if name.startswith("qwen2.")}
        self.device, self.dtype = device, torch.bfloat16 if device == "cuda" else torch.float32
        self.heads, self.kv, self.eps = (
            int(said[f"qwen2.attention.{name}"]) if "count" in name else float(said[f"qwen2.attention.{name}"])
            for name in ("head_count", "head_count_kv", "layer_norm_rms_epsilon")
        )
        self.layers, wide, self.context = (int(said[f"qwen2.{name}"]) for name in ("block_count", "embedding_length", "context_length"))
        self.width = wide // int(self.heads)
        t = {one.name: self._tensor(one) for one in reader.tensors}
        self.embed, self.norm, self.head = t["token_embd.weight"], t["output_norm.weight"], t.get("output.weight", t["token_embd.weight"])
        self.blocks = []
        for i in range(self.layers):
            name = f"blk.{i}."
            self.blocks.append(
                {
                    "in": t[name + "attn_norm.weight"],
                    "qkv": torch.cat([t[f"{name}attn_{x}.weight"] for x in "qkv"]),
                    "bias": torch.cat([t[f"{name}attn_{x}.bias"] for x in "qkv"]),
                    "out": t[name + "attn_output.weight"],
                    "post": t[name + "ffn_norm.weight"],
                    "up": torch.cat([t[name + "ffn_gate.weight"], t[name + "ffn_up.weight"]]),
                    "down": t[name + "ffn_down.weight"],
                }
            )
        base = float(said["qwen2.rope.freq_base"])
        angles = torch.arange(longest).float()[:, None] * base ** (-torch.arange(0, self.width, 2).float() / self.width)
        self.cos, self.sin = (f(torch.cat([angles, angles], -1)).to(device, self.dtype) for f in (torch.cos, torch.sin))
        self.calls: torch.Tensor | None = None
        self.cache = torch.zeros(self.layers, 2, slots, int(self.kv), longest, self.width, device=device, dtype=self.dtype)

    def _tensor(self, one: Any) -> torch.Tensor:
        values = np.ascontiguousarray(gguf.quants.dequantize(one.data, one.tensor_type))
        return torch.tensor(values, device=self.device, dtype=self.dtype)

    def graft(self, adapter: openvino_adapter.Adapter) -> None:
        """Make an adapter part of the network, as :func:`pondera.models.openvino_adapter.graft` does of a graph."""
        self.calls = torch.tensor(adapter.tokens, device=self.device)
        self.rows = torch.tensor(adapter.rows, device=self.device, dtype=self.dtype)
        self.low: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]] = {}
        for i in range(self.layers):
            for name, parts in GROUPS.items():
                pairs = [adapter.sites[i, part] for part in parts if (i, part) in adapter.sites]
                if pairs:
                    assert len(pairs) == len(parts), "all of a group, or none"
                    a, b = np.concatenate([a for a, _ in pairs]), torch.block_diag(*(torch.tensor(b) for _, b in pairs))
                    self.low[i, name] = tuple(torch.as_tensor(x).to(self.device, self.dtype) for x in (a, b))

    def _turned(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Rotary positions; x is [batch, heads, tokens, width], `at` [batch, tokens]."""
        half = torch.cat([-x[..., self.width // 2 :], x[..., : self.width // 2]], -1)
        return x * self.cos[at][:, None] + half * self.sin[at][:, None]

    def _through(self, ids: torch.Tensor, at: torch.Tensor, attend: Any, called: bool = False) -> torch.Tensor:
        """The last hidden states, [batch, tokens, wide]; `attend(layer, q, k, v)` gives [batch, heads, tokens, width].

        Where the adapter may be `called`, it is.
        """
        x, gate = self.embed[ids], None
        if called and self.calls is not None:
            hits = (ids[..., None] == self.calls).to(self.dtype)
            gate = hits.sum(-1, keepdim=True)
            x = x * (1 - gate) + hits @ self.rows

        def linear(x: torch.Tensor, i: int, name: str, bias: torch.Tensor | None = None) -> torch.Tensor:
            y = F.linear(x, self.blocks[i][name], bias)
            if gate is None or (i, name) not in self.low:
                return y
            a, b = self.low[i, name]
            return y + gate * (x @ a.T) @ b.T

        for i, block in enumerate(self.blocks):
            qkv = linear(F.rms_norm(x, x.shape[-1:], block["in"], self.eps), i, "qkv", block["bias"])
            qkv = qkv.view(*ids.shape, -1, self.width).transpose(1, 2)
            q, k, v = qkv.split([int(self.heads), int(self.kv), int(self.kv)], 1)
            seen = attend(i, self._turned(q, at), self._turned(k, at), v).transpose(1, 2).reshape(*ids.shape, -1)
            x = x + linear(seen, i, "out")
            half, up = linear(F.rms_norm(x, x.shape[-1:], block["post"], self.eps), i, "up").chunk(2, -1)
            x = x + linear(F.silu(half) * up, i, "down")
        return F.rms_norm(x, x.shape[-1:], self.norm, self.eps)

    def prompts(self, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [layers, 2, batch, kv heads, tokens, width] and the logits after the last token of each right-padded prompt."""
        kept = []

        def attend(_: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            kept.append(torch.stack([k, v]))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        at = torch.arange(ids.shape[1], device=self.device).expand(ids.shape)
        x = self._through(ids, at, attend, called=True)
        return torch.stack(kept), F.linear(x[torch.arange(len(ids)), lengths - 1], self.head).float()

    def next(self, ids: torch.Tensor, at: torch.Tensor, look: int) -> torch.Tensor:
        """The logits after one more token of each slot, which stands at position `at` of at most `look`."""
        rows, group = torch.arange(len(ids), device=self.device), int(self.heads) // int(self.kv)
        unseen = torch.zeros(len(ids), 1, 1, look, device=self.device, dtype=self.dtype)
        unseen.masked_fill_(torch.arange(look, device=self.device) > at[:, None, None, None], float("-inf"))

        def attend(i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            self.cache[i, 0, rows, :, at], self.cache[i, 1, rows, :, at] = k[:, :, 0], v[:, :, 0]
            keys, values = self.cache[i, :, : len(ids), :, :look]
            scores = q.view(len(ids), int(self.kv), group, self.width) @ keys.transpose(-1, -2) * self.width**-0.5
            return (F.softmax((scores + unseen).float(), -1).to(self.dtype) @ values).view(q.shape)

        return F.linear(self._through(ids[:, None], at[:, None], attend)[:, 0], self.head).float()


class Status(Enum):
    RUNNING = 0
    FINISHED = 1
    IGNORED = 2
    CANCEL = 3
    STOP = 4


@dataclass
class Config:
    """The fields of a generation config that the engine sets."""

    max_new_tokens: int = 0
    logprobs: int = 0
    eos_token_id: int = -1
    stop_token_ids: set[int] = field(default_factory=set)
    rng_seed: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(eq=False)
class Handle:
    """One sequence in the pipeline, and what the engine has not read of it yet."""

    prompt: list[int]
    config: Config
    status: Status = Status.RUNNING
    made: int = 0
    last: int = 0
    slot: int = -1
    ids: list[int] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)

    def get_status(self) -> Status:
        return self.status

    def can_read(self) -> bool:
        return bool(self.ids)

    def read(self) -> dict[int, Any]:
        given = types.SimpleNamespace(generated_ids=self.ids, generated_log_probs=self.logs)
        self.ids, self.logs = [], []
        return {0: given}

    def cancel(self) -> None:
        self.status = Status.CANCEL

    def stop(self) -> None:
        self.status = Status.STOP

    def take(self, token: int, log: float) -> None:
        self.last, self.made = token, self.made + 1
        self.ids.append(token)
        self.logs.append(log)
        if token in self.config.stop_token_ids or self.made >= self.config.max_new_tokens:
            self.status = Status.FINISHED

    def chance(self) -> float:
        """A number from 0 to 1 that only the seed and the place decide."""
        luck = hashlib.blake2b(f"{self.config.rng_seed}/{self.made}".encode(), digest_size=8).digest()
        return int.from_bytes(luck, "big") / 2**64


class Pipeline:
    """What the engine's thread drives: requests come in, each step gives every running sequence a token."""

    def __init__(self, path: Path, device: str, adapter: openvino_adapter.Adapter | None = None) -> None:
        self.slots = SLOTS if device == "cuda" else 32
        self.net = Qwen2(path, device, self.slots, LONGEST)
        if adapter:
            self.net.graft(adapter)
        self.queue: list[Handle] = []
        self.at: list[Handle | None] = [None] * self.slots
        self.kept: OrderedDict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = OrderedDict()

    def get_config(self) -> Config:
        return Config()

    def has_non_finished_requests(self) -> bool:
        return bool(self.queue) or any(self.at)

    def add_request(self, number: int, ids: np.ndarray, config: Config) -> Handle:
        handle = Handle(ids[0].tolist(), config)
        config.max_new_tokens = min(config.max_new_tokens, LONGEST - len(handle.prompt))
        if config.max_new_tokens < 1:
            handle.status = Status.IGNORED
        else:
            self.queue.append(handle)
        return handle

    def put(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, device=self.net.device)

    def step(self) -> None:
        with torch.inference_mode():
            self._step()

    def _step(self) -> None:
        for i, handle in enumerate(self.at):
            if handle is not None and handle.status is not Status.RUNNING:
                self.at[i] = None
        running = [handle for handle in self.at if handle is not None]
        self._admit()
        if running:
            high = 1 + max(handle.slot for handle in running)
            ids, at = [0] * high, [0] * high
            for handle in running:
                ids[handle.slot], at[handle.slot] = handle.last, len(handle.prompt) + handle.made - 1
            look = min(LONGEST, -(-(max(at) + 1) // BUCKET) * BUCKET)
            logits = self.net.next(self.put(ids), self.put(at), look)
            self._choose(logits[self.put([handle.slot for handle in running])], running)

    def _admit(self) -> None:
        """Compute the prompts of those that get a slot; each gets its first token."""
        self.queue = [handle for handle in self.queue if handle.status is Status.RUNNING]
        free = [i for i, handle in enumerate(self.at) if handle is None]
        fresh: list[Handle] = []
        new: dict[tuple[int, ...], None] = {}
        for handle, slot in zip(self.queue, free, strict=False):
            if (key := tuple(handle.prompt)) not in self.kept:
                if new and (len(new) + 1) * max(map(len, [*new, key])) > PROMPTS:
                    break
                new[key] = None
            handle.slot = slot
            fresh.append(handle)
        if not fresh:
            return
        self.queue = self.queue[len(fresh) :]
        if new:
            longest = max(map(len, new))
            ids = self.put([[*key, *[0] * (longest - len(key))] for key in new])
            states, logits = self.net.prompts(ids, self.put([len(key) for key in new]))
            for i, key in enumerate(new):
                self.kept[key] = states[:, :, i, :, : len(key)].clone(), logits[i].clone()
        for handle in fresh:
            key = tuple(handle.prompt)
            self.kept.move_to_end(key)
            if handle.config.max_new_tokens > 1:
                self.at[handle.slot] = handle
                self.net.cache[:, :, handle.slot, :, : len(key)] = self.kept[key][0]
        self._choose(torch.stack([self.kept[tuple(handle.prompt)][1] for handle in fresh]), fresh)
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)

    def _choose(self, logits: torch.Tensor, handles: list[Handle]) -> None:
        """A token each, by the inverse of the distribution at the sequence's own random number."""
        hot = self.put([handle.config.temperature if handle.config.do_sample else 1.0 for handle in handles])
        logs = F.log_softmax(logits / hot[:, None], -1)  # what is told is without the temperature, as in the embedded engine
        if any(handle.config.top_p < 1 for handle in handles):
            ranked, order = logs.sort(-1, descending=True)
            over = ranked.exp().cumsum(-1) - ranked.exp() > self.put([handle.config.top_p for handle in handles])[:, None]
            logs = F.log_softmax(logs.masked_fill(over.scatter(-1, order, over), float("-inf")), -1)
        heap = logs.exp().cumsum(-1)
        dice = self.put([handle.chance() for handle in handles])[:, None].float() * heap[:, -1:]
        drawn = torch.searchsorted(heap, dice, right=True)[:, 0].clamp_max(logs.shape[-1] - 1)
        best = logits.argmax(-1)
        chosen = torch.where(self.put([handle.config.do_sample for handle in handles]), drawn, best)
        told = F.log_softmax(logits, -1).gather(-1, chosen[:, None])[:, 0]
        for handle, token, log in zip(handles, chosen.tolist(), told.tolist(), strict=True):
            handle.take(token, log)


class Tokenizer:
    """transformers' tokenizer of a GGUF file, with the embedded engine's manners."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoTokenizer

        self.inner = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        self.chat_template = self.inner.chat_template

    def get_eos_token_id(self) -> int:
        return int(self.inner.eos_token_id)

    def encode(self, text: str, add_special_tokens: bool = False) -> Any:
        ids = self.inner.encode(text, add_special_tokens=add_special_tokens)
        return types.SimpleNamespace(input_ids=types.SimpleNamespace(data=np.array([ids], dtype=np.int64)))

    def decode(self, ids: list[int]) -> str:
        return str(self.inner.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def apply_chat_template(self, turns: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        return str(self.inner.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt))


def serve(files: dict[str, Path], device: str, given: openvino_adapter.Adapter | None = None) -> None:
    """From now on Pondera opens these names on the device, each with the adapter that is given, or its own."""
    sys.modules["openvino"] = types.ModuleType("openvino")
    sys.modules["openvino"].Tensor = lambda values: values  # type: ignore[attr-defined]
    from pondera.models import openvino, weights
    from pondera.models.openvino_engine import Engine

    genai = types.SimpleNamespace(GenerationConfig=Config, GenerationStatus=Status)

    def ready(spec: Any, **_: Any) -> weights.Ready:
        return weights.Ready(str(spec), files[str(spec)], None, Path())

    def loaded(ready: weights.Ready, *_: Any) -> Engine:
        assert ready.gguf is not None
        adapter = given or openvino_adapter.of_model(digest(ready.gguf, silent), ready.gguf.parent)
        pipeline = Pipeline(ready.gguf, device, adapter)
        calls = adapter.tokens if adapter else ()
        return Engine(genai, pipeline, Tokenizer(ready.gguf), min(pipeline.net.context, LONGEST), 1 << 16, calls)

    weights.ready, openvino._loaded = ready, loaded  # type: ignore[assignment]


if __name__ == "__main__":
    cut = sys.argv.index("--") if "--" in sys.argv else sys.exit(str(__doc__))
    given = sys.argv[1:cut]
    own = openvino_adapter.read(Path(given[1])) if given[:1] == ["--adapter"] else None
    named = {name: Path(path) for name, _, path in (one.partition("=") for one in given[2 if own else 0 :])}
    serve(named, "cuda" if torch.cuda.is_available() else "cpu", own)
    sys.argv = ["pondera", *sys.argv[cut + 1 :]]
    from pondera.cli import main

    main()
