"""A bench on a Ray cluster: problems are spread over its nodes, and the file is the same as that of a bench on one machine.

Each node has a thinker, which opens the models once. What it records goes, row by row and before its strategy hears of it, to a recorder
beside the bench's file. When a node dies, the runs that it had begun go on elsewhere with what was recorded: only what was in flight is
asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pondera import ledger
from pondera.bench.run import Here
from pondera.bench.spec import Cell
from pondera.errors import BadInput, ModelUnavailable, PonderaError, named
from pondera.ledger import Ledger, Row
from pondera.plain import question_from_json, question_to_json
from pondera.plan import Plan
from pondera.ports import Model
from pondera.thought import Question

TRIES = 8  # of one run, whose nodes die one after another
AT_ONCE = 1_000  # runs that a thinker can have at once: how many it has is the bench's to say


async def opened(plan: Plan) -> Mapping[str, Model]:
    """The model of each role; roles of one model share it."""
    roles = plan.roles()
    first = {(role == "reward", spec): role for role, spec in reversed(roles.items())}
    found = {role: await asyncio.to_thread(plan.open, role) for role in first.values()}
    return {role: found[first[role == "reward", spec]] for role, spec in roles.items()}


class Recorder:
    """Lives on the node of the bench's file, and writes what thinkers tell it."""

    def __init__(self) -> None:
        self.stores: dict[tuple[str, str], Ledger] = {}

    def append(self, path: str, run: str, n: int, kind: str, key: str, body: Mapping[str, Any]) -> None:
        place = (path, run)
        if place not in self.stores:
            self.stores[place] = ledger.reopen(path, run) if n else ledger.create(path, run)
        store = self.stores[place].store
        assert store is not None
        store.append(n, Row(kind, key, body))

    def close(self, path: str, run: str) -> None:
        if done := self.stores.pop((path, run), None):
            done.close()


@dataclass(slots=True)
class Afar:
    """The store of a ledger whose file is at the recorder's."""

    recorder: Any
    path: str
    run: str

    def append(self, n: int, row: Row) -> None:
        import ray

        ray.get(self.recorder.append.remote(self.path, self.run, n, row.kind, row.key, dict(row.body)))

    def close(self) -> None: ...


class There:
    """A thinker on one node."""

    def __init__(self, parallel: int) -> None:
        self.here = Here(opened, parallel)

    async def think(self, cell: Mapping[str, Any], problem: Mapping[str, Any], seed: int, rows: list[Any], afar: Afar) -> str | None:
        """The name and the message of a PonderaError are told in words: not every error can travel."""
        record = Ledger([Row(*row) for row in rows], afar)
        try:
            await self.here.think(Cell.from_json(cell), question_from_json(problem), seed, record)
        except PonderaError as error:
            return f"{type(error).__name__}\n{error}"
        return None


@dataclass(eq=False, slots=True)
class OnRay:
    """A Thinker on the cluster that `address` names: "auto" is the one that this machine is in, "" one of this machine alone."""

    address: str = "auto"
    parallel: int = 64
    recorder: Any = None
    thinkers: dict[str, Any] = field(default_factory=dict)  # by node
    busy: dict[str, int] = field(default_factory=dict)

    def open(self) -> None:
        """Join the cluster. Raises BadInput where Ray is not installed or no cluster is found."""
        try:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        except ImportError:
            raise BadInput("Ray is not here: install it with pip install 'pondera[ray]'.")
        if not ray.is_initialized():
            try:
                ray.init(address=self.address or None, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadInput(f"No Ray cluster can be joined ({str(error).splitlines()[0]}): start one with ray start --head.")
        mine = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.recorder = ray.remote(Recorder).options(num_cpus=0, scheduling_strategy=mine).remote()

    async def think(self, cell: Cell, problem: Question, seed: int, record: Ledger) -> None:
        import ray

        store: Any = record.store
        afar = Afar(self.recorder, str(store.path.resolve()), store.run)
        asked = cell.to_json(), question_to_json(problem), seed
        for _ in range(TRIES):
            node = self._node()
            self.busy[node] = self.busy.get(node, 0) + 1
            try:
                rows = [(row.kind, row.key, dict(row.body)) for row in record.rows]
                told = await self.thinkers[node].think.remote(*asked, rows, afar)
            except ray.exceptions.RayActorError:  # its node is gone, or its process: others go on
                self.thinkers.pop(node, None)
                await self._reread(record, afar)
                if record.rows:
                    record.append("resume", "0", {})
                continue
            finally:
                self.busy[node] -= 1
            await self._reread(record, afar)
            if told:
                raise named(*told.split("\n", 1))
            return
        raise ModelUnavailable(f"{TRIES} nodes died one after another while they thought about one problem: look at the cluster.")

    async def _reread(self, record: Ledger, afar: Afar) -> None:
        await self.recorder.close.remote(afar.path, afar.run)
        record.rows[:] = ledger.read(afar.path, afar.run)

    def _node(self) -> str:
        """The node with the least to do; new ones get a thinker of their own."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
        alive: list[str] = [node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
        if not alive:
            raise ModelUnavailable("The Ray cluster has no node with a processor left: start one, and run again.")
        node = min(alive, key=lambda one: self.busy.get(one, 0))
        if node not in self.thinkers:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            options = {"num_cpus": 0, "max_concurrency": AT_ONCE, "scheduling_strategy": there}
            self.thinkers[node] = ray.remote(There).options(**options).remote(self.parallel)
        return node

    async def close(self) -> None:
        import ray

        for one in (*self.thinkers.values(), self.recorder):
            with contextlib.suppress(Exception):  # gone already
                ray.kill(one)
        self.thinkers.clear()
