"""From names to a run: the model, the strategy and the verifiers that a user writes as text, bound together."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pondera import parse, sandbox, unit_tests
from pondera.allocate import table as tables
from pondera.coroutines import forget
from pondera.errors import BadInput
from pondera.events import Watch
from pondera.ledger import Ledger
from pondera.models import weights
from pondera.models.known import KNOWN
from pondera.ops import Role, Strategy
from pondera.plain import question_from_json
from pondera.ports import Model
from pondera.runtime import Run
from pondera.strategies import strategy as parse_strategy
from pondera.strategies.guide import judge
from pondera.thought import Answer, Budget, Kind, Price, Question, root_of
from pondera.verifiers import VERIFIERS
from pondera.verifiers.keys import keys

STRATEGY = "auto"


def open_model(
    spec: str = weights.DEFAULT, *, price: Price | None = None, progress: weights.Progress = weights.silent, **options: Any
) -> Model:
    """A model by name: one of `pondera models`, a path to a GGUF file or an OpenVINO folder, "fake", or NAME@URL on a compatible server.

    `gpt-4o-mini@` alone means the server of the OPENAI_BASE_URL variable, or else OpenAI's. `progress` hears of what the embedded engine
    fetches, checks and converts. Raises BadInput, WeightsError or ModelUnavailable.
    """
    if spec == "fake":
        from pondera.models.fake import Fake

        return Fake(price=price or Price(), **options)
    if "@" in spec and not Path(spec).exists():
        from pondera.models.openai import OpenAI

        name, _, url = spec.partition("@")
        if not name or (url and "://" not in url):
            raise BadInput(f"{spec!r} names no model on a server: write NAME@URL, as in qwen3@http://localhost:8000/v1.")
        return OpenAI(name, base_url=url or os.environ.get("OPENAI_BASE_URL"), price=price, **options)
    engine = importlib.import_module("pondera.models.openvino")
    model: Model = engine.OpenVINO(spec, price=price, progress=progress, **options)
    return model


def open_reward(spec: str) -> Model:
    """A reward model, as NAME@URL of a server that has it. Raises BadInput."""
    from pondera.models.reward import Reward

    name, at, url = spec.partition("@")
    if not name or not at or "://" not in url:
        raise BadInput(f"{spec!r} names no reward model: write NAME@URL, as in skywork-prm@http://localhost:8000.")
    return Reward(name, base_url=url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in words that a ledger can keep: all that is needed to do it again."""

    model: str = weights.DEFAULT
    strategy: str = STRATEGY
    verifier: str = ""
    judge: str = ""
    draft: str = ""
    reward: str = ""
    price: str = ""  # "PROMPT,GENERATED", dollars a million tokens of the model that thinks
    worth: float = 0.0  # tokens that a right answer is worth to this question, of those that share a budget; 0: the strategy's to say
    shift: float = 0.0  # log odds, and how steep they are: learned from earlier questions
    steep: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadInput for an address with a password in it: it would be recorded with the run."""
        for spec in self.roles().values():
            if "://" in spec and "@" in urlsplit(spec.partition("@")[2]).netloc:
                raise BadInput("An address with a user's name or password in it is not used: give the key by OPENAI_API_KEY.")

    def price_of(self) -> Price | None:
        """Raises BadInput where it is not two numbers."""
        if not self.price:
            return None
        try:
            prompt, generated = map(float, self.price.split(","))
        except ValueError:
            raise BadInput(f"{self.price!r} is no price: give dollars a million tokens of prompt and of output, as in --price 0.15,0.6.")
        return Price(prompt, generated)

    def origin(self) -> dict[str, Any]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}

    def strategy_of(self) -> Strategy:
        """The strategy; a verifier that is named judges where the strategy's own arguments do not say who does.

        One that goes by a calibrated table goes by that of its model, where there is one; of the draft model, where one is named.
        """
        who = self.draft or self.model
        own: dict[str, Any] = {"table": table} if (table := tables.of_model(who, embedded=who in KNOWN)) else {}
        own |= {"larger": tables.name_of(self.model)} if self.draft else {}
        own |= {"price": price.generated} if (price := self.price_of()) else {}
        own |= {name: value for name in ("worth", "shift", "steep") if (value := getattr(self, name))}
        return parse_strategy(self.strategy, **({"by": self.verifier} if self.verifier else {}), **own)

    def check(self) -> None:
        """Raises BadInput for what is wrong with it that can be told before a model is opened, the strategy's arguments among it."""
        self.price_of()
        self.run({})
        begun = self.strategy_of()(root_of(Question.of("?")))
        try:
            forget(begun.send(None))  # a strategy looks at its arguments before it asks for anything
        except BadInput:
            raise
        except Exception:  # of another package, perhaps, that wants a question of its own
            return
        finally:
            begun.close()

    def takes(self, name: str) -> bool:
        """Whether the strategy has an argument of this name."""
        return name in parse.keywords(getattr(self.strategy_of(), "func", self.strategy_of()))

    def tabled(self, table: str, role: Role = "think") -> str:
        """The verifier of the table that a strategy goes by, of samples by a role's model; "" where there is none.

        Raises BadInput for a table of another model.
        """
        if table in ("", "none"):
            return ""
        known, name = tables.load(table), tables.name_of(self.draft or self.model)
        if known.model != name:
            raise BadInput(
                f"The table {table} was calibrated for {known.model}, not for {name}: give {name} its own, by `pondera calibrate`."
            )
        return judge(table, role) if known.verifier else ""

    def verifiers_of(self) -> dict[str, Any]:
        """Those that have names, and those that this plan calls with arguments of their own; a search counts "votes" itself."""
        given = getattr(self.strategy_of(), "keywords", {})
        role: Role = "draft" if given.get("larger") else "think"
        named = (self.verifier, given.get("by", ""), self.tabled(given.get("table", ""), role))
        called = {text: parse.call(text, VERIFIERS, "verifier")() for text in named if text not in ("", "votes")}
        return {name: make() for name, make in VERIFIERS.items()} | called

    def roles(self) -> dict[str, str]:
        """The model that is named for each role."""
        named = {"think": self.model, "draft": self.draft, "judge": self.judge, "reward": self.reward}
        return {role: spec for role, spec in named.items() if spec}

    def open(self, role: str, progress: weights.Progress = weights.silent) -> Model:
        """Open the model of a role. Raises what open_model raises."""
        spec = self.roles()[role]
        if role == "reward":
            return open_reward(spec)
        return open_model(spec, price=self.price_of() if role == "think" else None, progress=progress)

    def run(self, models: Mapping[str, Model], budget: Budget | None = None, seed: int = 0, parallel: int = 64) -> Run:
        return Run(
            models=models,
            keyer=keys,
            verifiers=self.verifiers_of(),
            tools={"python": sandbox.python, "tests": unit_tests.run},
            budget=budget or Budget(),
            seed=seed,
            parallel=parallel,
            origin=self.origin(),
        )


async def solve(
    question: str | Question,
    *,
    model: str | Model = weights.DEFAULT,
    strategy: str = STRATEGY,
    verifier: str = "",
    judge: str | Model = "",
    draft: str | Model = "",
    reward: str | Model = "",
    kind: Kind = "math",
    budget: Budget | None = None,
    seed: int = 0,
    ledger: Ledger | None = None,
    watch: Watch | None = None,
) -> Answer:
    """Think about a question under a budget.

    `model`, `judge` and `draft` are models or names for `open_model`, `reward` one for `open_reward`; models opened here are closed here.
    Raises what Run.solve raises, and BadInput for a name that is not known.
    """
    given: dict[str, str | Model] = {"model": model, "judge": judge, "draft": draft, "reward": reward}
    names: dict[str, Any] = {name: one if isinstance(one, str) else one.name for name, one in given.items()}
    plan = Plan(strategy=strategy, verifier=verifier, **names)
    thinking, asked = plan.strategy_of(), question if isinstance(question, Question) else Question.of(question, kind=kind)
    opened: list[Model] = []
    try:
        models: dict[str, Model] = {}
        for role in plan.roles():
            one = given["model" if role == "think" else role]
            if isinstance(one, str):
                one = await asyncio.to_thread(plan.open, role)
                opened.append(one)
            models[role] = one
        return await plan.run(models, budget, seed).solve(asked, thinking, ledger=ledger, watch=watch)
    finally:
        for one in opened:
            await one.close()


def solve_sync(question: str | Question, **options: Any) -> Answer:
    """As `solve`, for code that is not async; inside a running event loop it works in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(solve(question, **options))
    box: list[Any] = []

    def work() -> None:
        try:
            box.append(asyncio.run(solve(question, **options)))
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(box[0], BaseException):
        raise box[0]
    answer: Answer = box[0]
    return answer


def replayed(ledger: Ledger) -> tuple[Question, Plan, Budget, int]:
    """What a ledger's run was about, and how it thought: question, plan, budget and seed. Raises LedgerError."""
    body = ledger.rows[0].body
    known = {name: value for name, value in body.get("origin", {}).items() if name in Plan.__slots__}
    return question_from_json(body["question"]), Plan(**known), Budget(**body.get("budget", {})), int(body.get("seed", 0))
