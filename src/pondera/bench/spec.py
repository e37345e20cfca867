"""What a bench is to do: tasks x models x strategies x budgets x seeds, from a TOML file or from flags.

    tasks = ["gsm8k_dev.jsonl", "gym(name='gsm_symbolic', n=100)"]
    models = ["qwen2.5-coder-0.5b"]
    strategies = ["cot", "vote(n=16)"]
    budgets = [{}, { tokens = 1500 }]

and if wanted `seeds`, `verifier`, `judge`, `draft`, `reward`, `price`, `at_once`, `parallel`, `n` (problems of each task), `total_tokens`
(for all problems of a task together), `learn` (from the outcomes of a task's problems for those that come after them), `out`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from pondera import parse
from pondera.bench.tasks import DEFAULT
from pondera.errors import BadInput
from pondera.plain import digest
from pondera.plan import STRATEGY, Plan
from pondera.thought import Budget

CAPS = tuple(f.name for f in fields(Budget))


@dataclass(frozen=True, slots=True)
class Cell:
    """One way to think about one task. `task` is the task's name: more of its problems are still the same cell. `total` are the tokens that
    all its problems may take together; 0: as many as each may take. `learn` says that outcomes guide the problems after them.
    """

    task: str
    plan: Plan
    budget: Budget
    seed: int = 0
    total: int = 0
    learn: bool = False

    @property
    def print(self) -> str:
        """What is asked of which model, in 16 hexadecimal digits. A price changes no answer, but where its worth is told in dollars."""
        bought = re.search(r"\b(value|error_cost|latency_cost)\s*=", self.plan.strategy)
        origin = {name: text for name, text in self.plan.origin().items() if name != "price" or bought}
        caps = [(name, float(cap)) for name, cap in self.budget.caps()]
        return digest((self.task, sorted(origin.items()), [*caps, *sorted(self._ties().items())], self.seed))

    def _ties(self) -> dict[str, int | bool]:
        """What ties its problems together."""
        return {name: value for name in ("total", "learn") if (value := getattr(self, name))}

    @property
    def label(self) -> str:
        caps = ", ".join(f"{value:g} {name}" for name, value in self.budget.caps() if value != float("inf"))
        others = [f"{name} {text}" for name, text in self.plan.origin().items() if name not in ("model", "strategy", "price")]
        total = f"{self.total:,} tokens for all" if self.total else ""
        parts = [self.plan.strategy, *others, caps, total, "learning" if self.learn else "", f"seed {self.seed}" if self.seed else ""]
        return ", ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        caps = {name: value for name, value in self.budget.caps() if value != float("inf")}
        return {"task": self.task, "plan": self.plan.origin(), "budget": caps, "seed": self.seed, **self._ties()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Cell:
        ties = body.get("total", 0), body.get("learn", False)
        return cls(body["task"], Plan(**body["plan"]), Budget(**body["budget"]), body["seed"], *ties)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The whole of it, in words. `n` problems of each task, 0 for all; `at_once` problems are thought about side by side."""

    tasks: tuple[str, ...] = (DEFAULT,)
    models: tuple[str, ...] = (Plan().model,)
    strategies: tuple[str, ...] = (STRATEGY,)
    budgets: tuple[Mapping[str, float], ...] = ({},)
    seeds: tuple[int, ...] = (0,)
    verifier: str = ""
    judge: str = ""
    draft: str = ""
    reward: str = ""
    price: str = ""
    at_once: int = 8
    parallel: int = 64
    n: int = 0
    total_tokens: int = 0
    learn: bool = False
    out: str = "bench.db"

    def __post_init__(self) -> None:
        """Raises BadInput for what cannot be done."""
        for name in ("tasks", "models", "strategies", "budgets", "seeds"):
            given = getattr(self, name)
            if not given:
                raise BadInput(f"`{name}` is empty: name one at least.")
            if any(one in given[:i] for i, one in enumerate(given)):
                raise BadInput(f"`{name}` names one of its own twice: each once is enough.")
        for name in ("at_once", "parallel"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)} does nothing: give 1 or more.")
        if self.n < 0:
            raise BadInput(f"n={self.n} is no number of problems: give 1 or more, or 0 for all.")
        if self.total_tokens < 0:
            raise BadInput(f"total_tokens={self.total_tokens} allows nothing: give a number above 0, or leave it out.")
        for cell in self.cells(self.tasks):
            cell.plan.check()

    def cells(self, names: tuple[str, ...]) -> Iterator[Cell]:
        """Every way to think about every task, `names` being the tasks'; all that one model has to do comes together."""
        extra = {name: getattr(self, name) for name in ("verifier", "judge", "draft", "reward", "price")}
        for model, task, strategy, caps, seed in product(self.models, names, self.strategies, self.budgets, self.seeds):
            plan = Plan(model=model, strategy=strategy, **extra)
            yield Cell(task, plan, Budget(**caps), seed, self.total_tokens, self.learn and plan.takes("shift"))


_LISTS: dict[str, type] = {"tasks": str, "models": str, "strategies": str, "seeds": int, "budgets": dict}


def read(path: Path) -> dict[str, Any]:
    """The keyword arguments of a Spec that a TOML file holds. Raises BadInput."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): give a TOML file that says what the bench is to do.")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no TOML ({error}): mend it there.")
    known = {f.name: f.default for f in fields(Spec)}
    return {name: _value(path, name, value, known) for name, value in given.items()}


def _value(path: Path, name: str, value: Any, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise BadInput(f"{path}: there is no `{name}`{parse.nearest(name, known)}; there are: {', '.join(known)}.")
    if kind := _LISTS.get(name):
        many = value if isinstance(value, list) else [value]
        if not all(type(one) is kind for one in many):
            raise BadInput(f"{path}: `{name}` is a list of {'tables' if kind is dict else 'numbers' if kind is int else 'texts'}.")
        return tuple(_caps(path, one) if kind is dict else one for one in many)
    if type(value) is not type(known[name]):
        raise BadInput(f"{path}: `{name}` must be a {type(known[name]).__name__}, such as {known[name]!r}.")
    return value


def _caps(path: Path, given: Mapping[str, Any]) -> Mapping[str, float]:
    for name, value in given.items():
        if name not in CAPS:
            raise BadInput(f"{path}: a budget has no `{name}`{parse.nearest(name, dict.fromkeys(CAPS))}; it has: {', '.join(CAPS)}.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput(f"{path}: {name} = {value!r} is no number.")
    return dict(given)
