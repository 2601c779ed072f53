"""The contract of leases, guards and watches, asked of the modelled etcd inside the simulator."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from region_sim.memory.etcd import EtcdModel
from region_sim.memory.kernel import Kernel
from region_sim.memory.network import Network
from services.coordination.lease import LeaseStore
from tests.contract import test_key_value_store as of_keys
from tests.contract import test_lease_store as of_leases

SITES = ("east", "west", "north")
NOT_OURS = {"tmp_path", "expected"}


class ModelDriver:
    """Clients at the site `east`; those whose answers get lost are at `west`."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        network = Network(kernel, random.Random(seed))
        for one in SITES:
            for other in SITES:
                network.link(one, other).jitter_seconds = 0.01
        self.model = EtcdModel(kernel, network, SITES, random.Random(seed))

    def open(self) -> LeaseStore:
        return self.model.store("east")

    async def compact(self, revision: int) -> None:
        self.model.compact(revision)

    async def move_leader(self) -> None:
        assert self.model.move_leader()

    @contextlib.asynccontextmanager
    async def mute(self) -> AsyncIterator[LeaseStore]:
        self.model.faults_of("west").lost_reply_share = 1.0
        yield self.model.store("west")
        self.model.faults_of("west").lost_reply_share = 0.0


def questions(module: Any) -> list[Callable[..., Awaitable[None]]]:
    """The tests of a contract that want no more than a store."""
    return [
        found
        for name, found in sorted(vars(module).items())
        if name.startswith("test_")
        and inspect.iscoroutinefunction(found)
        and not NOT_OURS & set(inspect.signature(found).parameters)
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("question", [*questions(of_leases), *questions(of_keys)], ids=lambda found: found.__name__)
def test_the_model_keeps_the_contract(question: Callable[..., Awaitable[None]], seed: int) -> None:
    """Each question of the contract, with another leader and other delays by the seed."""
    kernel = Kernel()
    driver = ModelDriver(kernel, seed)
    given = {"driver": driver, "store": driver.open(), "root": "/test/"}
    wanted = {name: given[name] for name in inspect.signature(question).parameters}

    async def main() -> None:
        await question(**wanted)

    kernel.run(main())
    assert kernel.failures == []


def test_no_question_is_left_out() -> None:
    """The contract is as long as it is for everybody else."""
    assert len(questions(of_leases)) >= 14
    assert len(questions(of_keys)) >= 5
