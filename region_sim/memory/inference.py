"""The inference worker of a simulated region: a fixed linear model over two counters, and how it is reached.

The model is not simulated. What is kept is what a drill looks at: a worker that is dead or hangs, a model file that
does not load, one that loads and predicts something else and therefore fails its golden set, and one that is sound and
not the champion that the world's alias names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from aiohttp import web

from region_sim.memory.network import Unreachable
from region_sim.memory.session import RouteBook
from services.common.health import Health
from services.controller.api import json_response
from services.inference.client import InferenceExpired, InferenceRefused, InferenceUnavailable
from services.inference.report import ChampionReport, NamedVersion, ServingVersion
from services.processor.ladder import Scored, Tensors

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

FEATURES: Final = "features"
COMPUTE_SECONDS: Final = 0.02
CHAMPION_PATH: Final = "/v2/repository/models/ranker/champion"
GOLDEN_INPUT: Final = np.array([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]], np.float32)


@dataclass(frozen=True, slots=True)
class Model:
    """What lies in a site's model directory."""

    version: str = "ranker/1"
    weights: tuple[float, float] = (1.0, 0.25)
    is_readable: bool = True

    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32[K] of float32[K, 2]."""
        return np.asarray(features @ np.array(self.weights, np.float32), np.float32)


GOOD: Final = Model()
CORRUPT: Final = Model(is_readable=False)
WRONG: Final = Model(weights=(-1.0, 0.5))


@dataclass(frozen=True, slots=True)
class _Answer:
    scores: npt.NDArray[np.float32]
    model_version: str


class InferencePart:
    """One start of an inference worker: it loads what lies there, and serves only what passes its golden set."""

    def __init__(self, site: MemorySite) -> None:
        self.model = site.model
        self.problem: str | None = None
        if not self.model.is_readable:
            self.problem = "the model cannot be loaded: it is not what its manifest says"
        elif not np.allclose(self.model.scores(GOLDEN_INPUT), GOOD.scores(GOLDEN_INPUT)):
            self.problem = "the model fails its golden set"
        self._world = site.world
        book = RouteBook()
        health = Health()
        health.add("model", lambda: self.problem)
        health.add_routes(book.as_application())
        book.add_get(CHAMPION_PATH, self._champion)
        site.world.books[site.name, "inference"] = book

    async def run(self) -> None:
        """Be there until it is killed."""
        await asyncio.get_running_loop().create_future()

    def blocker(self) -> str | None:
        """See Part."""
        return self.problem

    async def _champion(self, _: web.Request) -> web.StreamResponse:
        named, serves = self._world.champion, None if self.problem is not None else self.model.version
        blocker = self.problem
        if blocker is None and serves != named:
            blocker = f"version {named} is champion, version {serves} serves: no region has it"
        serving = None if serves is None else ServingVersion(version=serves, sha256="", golden_rows=3, device="cpu")
        report = ChampionReport(
            model="ranker",
            blocker=blocker,
            named=NamedVersion(version=named, sha256=""),
            heard=True,
            serving=serving,
            standby=None,
            challenger=None,
            shadow=None,
        )
        return json_response(report)

    async def infer(self, tensors: Tensors) -> Scored:
        """What the model says. Raises InferenceRefused."""
        await asyncio.sleep(COMPUTE_SECONDS)
        if self.problem is not None:
            raise InferenceRefused(self.problem)
        features = np.asarray(tensors[FEATURES], np.float32)
        return _Answer(self.model.scores(features).reshape(1, -1), self.model.version)


def asks_worker(site: MemorySite) -> Callable[[Tensors, int], asyncio.Future[Scored]]:
    """What a ladder asks: the site's own worker, within a deadline."""

    async def ask(tensors: Tensors, deadline_ms: int) -> Scored:
        left = (deadline_ms - site.clock.unix_ms()) / 1000
        try:
            return await site.world.network.call(
                site.name,
                site.name,
                site.world.finder(site.name, "inference"),
                lambda: site.worker().infer(tensors),
                limit_seconds=max(0.0, left),
            )
        except TimeoutError:
            raise InferenceExpired("the worker did not answer in time") from None
        except Unreachable as refused:
            raise InferenceUnavailable(str(refused)) from refused

    return ask  # type: ignore[return-value]
