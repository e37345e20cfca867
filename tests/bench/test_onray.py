"""A bench on a Ray cluster of two nodes, one of which dies half way, comes to the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pondera.bench.file import Bench
from pondera.bench.onray import OnRay
from pondera.bench.run import enlist, run
from pondera.errors import BadInput
from tests.bench.helpers import CHAINS, benched, dump, spec, sums

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'pondera[ray]'")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]


@pytest.fixture
def cluster() -> Iterator[tuple[Any, Any]]:
    """A head and a second node, on this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    second = made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made, second
    ray.shutdown()
    made.shutdown()


async def test_a_node_dies_and_the_result_is_the_same(cluster: tuple[Any, Any], tmp_path: Path) -> None:
    made, second = cluster
    file, heard = sums(tmp_path / "sums.jsonl", 60), 0
    wanted = spec(file, CHAINS)

    def hear(_: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 25:
            made.remove_node(second, allow_graceful=False)

    with Bench(tmp_path / "ray.db") as bench:
        listed, thinker = enlist(bench, wanted), OnRay()
        thinker.open()
        await run(bench, wanted, listed, thinker, hear)
        await thinker.close()
    await benched(tmp_path / "here.db", wanted)
    found = dump(tmp_path / "ray.db")
    assert found == dump(tmp_path / "here.db")
    for one in found.values():
        answered = [key for key, status, _ in one["samples"] if status == "answered"]
        assert len(answered) == len(set(answered)) == 6


def test_without_a_cluster_it_says_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"No Ray cluster can be joined.*ray start --head"):
        OnRay().open()
