"""Train the adapter by which a model of the Qwen2 family says whether its own answers are right (the verifier `orm`).

    python benchmarks/adapter.py qwen2.5-coder-0.5b=MODEL.gguf bank.db ... --out FOLDER

The banks are benches with their texts (`bench run -s "vote(n=16, over='both')"`, by `benchmarks/gpu.py` in minutes): every sample that has
an answer is one example, labelled by whether it was right, and what the model is shown is what the verifier itself would ask. The weights
are frozen, and so is all that comes before the calling tokens: the keys and values of each answer are computed once and without gradients.
The tokens' embeddings and a LoRA on their own way through the network learn to say Yes or No (cross-entropy over the whole vocabulary).
One question in five is held out, with all its samples (by a hash of its text, so it is the same one in any bank): what was learned is
judged there, and what is fitted to verdicts is to be fitted there.

Needs torch, safetensors and transformers, and a card: a minute for 10,000 samples on an H200. The folder is as PEFT writes it.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import time
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu import GROUPS, LONGEST, Qwen2, Tokenizer
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch.nn import functional as F

from pondera.bench.bank import is_bank
from pondera.bench.file import Bench
from pondera.bench.grading import SURE
from pondera.ledger import tree
from pondera.models.fetch import silent
from pondera.models.hashes import digest
from pondera.models.openvino_adapter import CONFIG, WEIGHTS
from pondera.models.openvino_turn import Turns
from pondera.models.openvino_words import Words
from pondera.verifiers.calibration import auroc, within
from pondera.verifiers.orm import ask

CALLS = range(151646, 151654)  # tokens of Qwen2.5's vocabulary that stand in no text
HINT = "Is the answer correct? Yes or No: is it correct?"  # the embeddings that they begin with
BATCH = 32_768  # tokens
HELD = 5  # of so many questions, by their hash, one is held out
WARM = 30  # steps

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """What the model is shown before the calling tokens, whether the answer was right, and the question's text."""

    ids: list[int]
    right: bool
    question: str


def examples(files: Sequence[Path], name: str, tokenizer: Tokenizer) -> list[Example]:
    """Every sample of the model with an answer, in all banks."""
    engine = types.SimpleNamespace(words=Words(tokenizer), thinks=False, ends=frozenset({tokenizer.get_eos_token_id(), 151643}), calls=())
    turns = Turns(name, engine)  # type: ignore[arg-type]
    found: list[Example] = []
    for file in files:
        with Bench(file, new=False) as bench:
            for cell in bench.cells():
                if cell.plan.model != name or not is_bank(cell):
                    continue
                for result in bench.results(cell):
                    some = [one for one in result.pool if one["key"] is not None] if result.state == "done" else []
                    nodes = tree(bench.rows(cell.print, result.problem)) if some else {}
                    for one in some:
                        ids = turns.begin(ask(nodes[one["id"]])).ids
                        if len(ids) + len(CALLS) <= LONGEST:
                            found.append(Example(ids, one["score"] >= SURE, nodes["0"].about.text))
    return found


def held_out(question: str) -> bool:
    return int(hashlib.sha256(question.encode()).hexdigest()[:8], 16) % HELD == 0


class Suffix(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The calling tokens' way through the network, after keys and values that are given."""

    def __init__(self, net: Qwen2, begin: Sequence[int], rank: int, low: int, drop: float) -> None:
        super().__init__()
        self.net, self.rank, self.low, self.drop = net, rank, low, drop
        self.rows = torch.nn.Parameter(net.embed[torch.tensor(begin, device=net.device)].float().clone())
        self.a, self.b = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        for i in range(low, net.layers):
            for name in GROUPS:
                out, wide = net.blocks[i][name].shape
                self.a[f"{name}{i}"] = torch.nn.Parameter(torch.randn(rank, wide, device=net.device) / math.sqrt(wide))
                self.b[f"{name}{i}"] = torch.nn.Parameter(torch.zeros(out, rank, device=net.device))

    def _linear(self, x: torch.Tensor, i: int, name: str, bias: torch.Tensor | None = None) -> torch.Tensor:
        y = F.linear(x, self.net.blocks[i][name], bias)
        if i < self.low:
            return y
        a, b = self.a[f"{name}{i}"].to(x.dtype), self.b[f"{name}{i}"].to(x.dtype)
        return y + 2 * (F.dropout(x, self.drop, self.training) @ a.T) @ b.T

    def forward(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The logits of what follows the last one. `states` [layers, 2, batch, kv heads, tokens, width], `lengths` [batch]."""
        net, count = self.net, len(self.rows)
        batch, heads, kv = len(lengths), int(net.heads), int(net.kv)
        x = self.rows.to(net.dtype).expand(batch, -1, -1)
        at = lengths[:, None] + torch.arange(count, device=net.device)
        beyond = (torch.arange(states.shape[4], device=net.device) >= lengths[:, None])[:, None, None]
        unseen = torch.zeros(beyond.shape, device=net.device).masked_fill_(beyond, float("-inf"))
        later = torch.full((count, count), float("-inf"), device=net.device).triu(1).repeat(heads // kv, 1)
        for i, block in enumerate(net.blocks):
            qkv = self._linear(F.rms_norm(x, x.shape[-1:], block["in"], net.eps), i, "qkv", block["bias"])
            q, k, v = qkv.view(batch, count, -1, net.width).transpose(1, 2).split([heads, kv, kv], 1)
            q, k = net._turned(q, at), net._turned(k, at)
            q = q.reshape(batch, kv, heads // kv * count, net.width) * net.width**-0.5
            scores = [(q @ states[i, 0].transpose(-1, -2)).float() + unseen, (q @ k.transpose(-1, -2)).float() + later]
            weights = torch.cat(scores, -1).softmax(-1).to(x.dtype)
            seen = weights[..., :-count] @ states[i, 1] + weights[..., -count:] @ v
            x = x + self._linear(seen.view(batch, heads, count, net.width).transpose(1, 2).reshape(batch, count, -1), i, "out")
            half, up = self._linear(F.rms_norm(x, x.shape[-1:], block["post"], net.eps), i, "up").chunk(2, -1)
            x = x + self._linear(F.silu(half) * up, i, "down")
        return F.linear(F.rms_norm(x[:, -1], x.shape[-1:], net.norm, net.eps), net.head).float()


def batches(some: Sequence[Example], rng: np.random.Generator, size: int) -> Iterator[list[Example]]:
    """Those of like length together, in random order."""
    ranked = sorted(some, key=lambda one: len(one.ids) + 30 * rng.random())
    whole: list[list[Example]] = []
    for one in ranked:
        if not whole or max(len(one.ids), *(len(other.ids) for other in whole[-1])) * (len(whole[-1]) + 1) > size:
            whole.append([])
        whole[-1].append(one)
    yield from (whole[i] for i in rng.permutation(len(whole)))


def states(net: Qwen2, some: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of what is shown, and its lengths."""
    longest = max(len(one.ids) for one in some)
    ids = torch.tensor([[*one.ids, *[0] * (longest - len(one.ids))] for one in some], device=net.device)
    lengths = torch.tensor([len(one.ids) for one in some], device=net.device)
    with torch.no_grad():
        return net.prompts(ids, lengths)[0], lengths


def judged(suffix: Suffix, some: Sequence[Example], words: tuple[int, int], size: int) -> tuple[Floats, Floats]:
    """P(yes) of examples, and the mean of what the model gives to the two words together, in the order of `some`."""
    suffix.eval()
    place = {id(one): i for i, one in enumerate(some)}
    told = np.zeros((len(some), 2))
    for batch in batches(some, np.random.default_rng(0), size):
        with torch.no_grad():
            logs = F.log_softmax(suffix(*states(suffix.net, batch)), -1)[:, list(words)]
        told[[place[id(one)] for one in batch]] = logs.exp().double().cpu().numpy()
    suffix.train()
    return told[:, 0], told.sum(axis=1)


def train(net: Qwen2, some: Sequence[Example], given: argparse.Namespace, begin: Sequence[int], words: tuple[int, int]) -> Suffix:
    suffix = Suffix(net, begin, given.rank, given.from_layer, given.dropout)
    suffix.to(net.device)
    low = [*suffix.a.values(), *suffix.b.values()]
    steps = torch.optim.AdamW([{"params": [suffix.rows], "lr": 3e-3}, {"params": low, "lr": 5e-4}], weight_decay=0.0)
    usual = [group["lr"] for group in steps.param_groups]
    rng = np.random.default_rng(0)
    plan = [batch for _ in range(math.ceil(given.epochs)) for batch in batches(some, rng, given.batch)]
    plan = plan[: max(1, round(len(plan) * given.epochs / math.ceil(given.epochs)))]
    started, loss = time.monotonic(), float("nan")
    for step, batch in enumerate(plan):
        done = max(step / len(plan), (time.monotonic() - started) / given.seconds)
        if done >= 1:
            break
        for group, most in zip(steps.param_groups, usual, strict=True):
            group["lr"] = most * min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * done))
        right = torch.tensor([words[0] if one.right else words[1] for one in batch], device=net.device)
        error = F.cross_entropy(suffix(*states(net, batch)), right)
        steps.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(suffix.parameters(), 1.0)
        steps.step()
        loss = error.item() if step == 0 else 0.98 * loss + 0.02 * error.item()
        if step % 50 == 0:
            print(f"step {step} of {len(plan)}, {time.monotonic() - started:.0f} s, loss {loss:.4f}", flush=True)
    return suffix


def figures(chance: Floats, some: Sequence[Example]) -> dict[str, float]:
    right, questions = [one.right for one in some], [one.question for one in some]
    held = np.clip(np.where(right, chance, 1 - chance), 1e-6, 1.0)
    ranked = {"AUROC": auroc(chance.tolist(), right), "within a question": within(chance.tolist(), right, questions)}
    told = {name: round(one.value, 4) for name, one in ranked.items() if one}
    return told | {"log loss": round(float(-np.log(held).mean()), 4)}


def save(suffix: Suffix, folder: Path, gguf: Path, card: dict[str, Any]) -> None:
    """As PEFT names things: each projection of a group with its own B, and the A that they share."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "base_model.model.model"
    tensors = {f"{stem}.embed_tokens.token_adapter.trainable_tokens_delta": suffix.rows.detach().half().cpu().numpy()}
    net, width = suffix.net, suffix.net.width
    for i in range(suffix.low, net.layers):
        for name, parts in GROUPS.items():
            a, b = (one[f"{name}{i}"].detach().half().cpu().numpy() for one in (suffix.a, suffix.b))
            cuts = [int(net.heads) * width, (int(net.heads) + int(net.kv)) * width] if name == "qkv" else len(parts)
            for part, own in zip(parts, np.split(b, cuts), strict=True):
                site = f"{stem}.layers.{i}.{'self_attn' if name in ('qkv', 'out') else 'mlp'}.{part}"
                tensors[f"{site}.lora_A.weight"], tensors[f"{site}.lora_B.weight"] = a.copy(), own.copy()
    save_file(tensors, folder / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": suffix.rank,
        "lora_alpha": 2 * suffix.rank,
        "target_modules": sorted(part for parts in GROUPS.values() for part in parts),
        "layers_to_transform": list(range(suffix.low, net.layers)),
        "alora_invocation_tokens": list(CALLS),
        "trainable_token_indices": {"embed_tokens": list(CALLS)},
        "base_sha256": digest(gguf, silent),
        "card": card,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="NAME=MODEL.gguf")
    parser.add_argument("banks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--from-layer", type=int, default=0)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--epochs", type=float, default=1.2)
    parser.add_argument("--seconds", type=float, default=400.0, help="of training, at most")
    parser.add_argument("--batch", type=int, default=BATCH, help="tokens")
    given = parser.parse_args()
    name, _, path = given.model.partition("=")
    gguf, device = Path(path), "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = Tokenizer(gguf)
    some = examples(given.banks, name, tokenizer)
    learn, test = ([one for one in some if held_out(one.question) is held] for held in (False, True))
    print(f"{len(learn):,} examples to learn from, {len(test):,} held out", flush=True)
    begin = tokenizer.inner.encode(HINT, add_special_tokens=False)[-len(CALLS) :]
    words = tuple(tokenizer.inner.encode(word, add_special_tokens=False)[0] for word in ("Yes", "No"))
    suffix = train(Qwen2(gguf, device, 1, LONGEST), learn, given, begin, words)
    chance, mass = judged(suffix, test, words, 2 * given.batch)
    told = {**figures(chance, test), "either word": round(float(mass.mean()), 5)}
    print(json.dumps(told))
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    card = {"model": name, "data": [one.stem for one in given.banks], "examples": len(learn), "date": date, "held out": told}
    save(suffix, given.out, gguf, card)


if __name__ == "__main__":
    main()
