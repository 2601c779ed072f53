"""The course of a drill: load, faults, takeover, heal, quiet, evidence. Writes a history and judges nothing.

It knows its world only as a `Backend`: the same lines run over real Kafka and etcd, and over models in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from region_sim.backends.base import Backend, BackendName, not_recovered
from region_sim.errors import DrillBroken
from region_sim.evidence import ControlTimes, DrillPlan
from region_sim.faults.base import wait_until_none
from region_sim.history import HistoryWriter
from region_sim.load.script import Script
from region_sim.nemesis import NEMESIS, REFUSED, STATUS_SECONDS, Nemesis
from region_sim.spec import Drill, Fault, kind_of
from region_sim.watching import Silent, Watch

CONDUCTOR = "conductor"
SETTLE_APPS_SECONDS = 20.0


def refuse(
    drill: Drill,
    seed: int,
    backend: BackendName,
    refusal: Callable[[Fault], str | None],
    history: HistoryWriter,
    times: ControlTimes | None = None,
    regions: Sequence[str] = (),
) -> bool:
    """Begin a history with its plan, and write down every fault that this world refuses; False when there is none."""
    plan = DrillPlan(
        drill=drill.name,
        backend=backend,
        seed=seed,
        kind=kind_of(drill.faults[0]),
        regions=list(regions or drill.topology.regions),
        times=times,
        parameters=msgspec.Raw(msgspec.json.encode(drill)),
    )
    history.add("info", "plan", CONDUCTOR, evidence=plan)
    refused = False
    for fault in drill.faults:
        why = refusal(fault)
        if why is not None:
            refused = True
            kind = kind_of(fault)
            began = history.add("invoke", "fault", NEMESIS, note=kind)
            history.add("fail", "fault", NEMESIS, call=began.index, note=kind, error=f"{REFUSED}{why}")
    return refused


class Conductor:
    """One drill on one world."""

    def __init__(
        self,
        drill: Drill,
        seed: int,
        backend: Backend,
        history: HistoryWriter,
        *,
        run: str = "run",
        watch: Watch | None = None,
    ) -> None:
        """`run` becomes part of every id that apps use."""
        self._drill = drill
        self._seed = seed
        self._backend = backend
        self._clock = backend.clock
        self._history = history
        self._watch = watch or Silent()
        self._script = Script(seed, drill.load, run)
        self._nemesis = Nemesis(drill, backend, history, self._watch)

    async def run(self) -> None:
        """Carry the drill out. Raises DrillBroken when it could not be begun."""
        backend, drill = self._backend, self._drill
        self._watch.begins(self._clock, self._history)
        times, regions = backend.times(), backend.regions
        if refuse(drill, self._seed, backend.name, backend.refusal, self._history, times, regions):
            # The verdict is unknown whatever comes: nothing is broken for that.
            return
        await self._backend.open(self._drill, self._script, self._history)
        try:
            await self._course()
        except (Exception, asyncio.CancelledError):
            for left in await self._nemesis.let_go():
                self._watch.said(f"left broken: {left}")
            await self._backend.close()
            raise
        await self._backend.close()

    async def _course(self) -> None:
        phases = self._drill.phases
        await self._begin()
        self._backend.start_load()
        await self._sleep("warm-up", phases.warm_up_seconds)
        await self._backend.collect_predictions("before")
        await self._sleep("steady", phases.steady_seconds)
        self._phase("fault")
        await self._nemesis.strike()
        self._phase("heal")
        await self._recover()
        await self._sleep("after", phases.after_seconds)
        self._phase("load stops")
        await self._backend.stop_load()
        await self._backend.settle_load(SETTLE_APPS_SECONDS)
        await self._settle()
        await self._backend.collect_predictions("after")
        await self._backend.collect_all()
        self._watch.said("evidence collected")

    async def _begin(self) -> None:
        """Wait until a region serves, publish the catalogue, and wait until it is found."""
        limit = self._drill.phases.begin_seconds_max
        problem = await wait_until_none(self._clock, self._backend.not_serving, limit, STATUS_SECONDS)
        problem = problem or await self._backend.preload(limit)
        if problem is not None:
            raise DrillBroken(f"the drill cannot begin: {problem}")

    async def _recover(self) -> None:
        """Heal everything that is still broken, and wait until all sites are well by their own word."""
        began = self._history.add("invoke", "recover", CONDUCTOR)
        unhealed = await self._nemesis.heal_left()
        limit = self._drill.phases.heal_seconds_max

        async def still_ill() -> str | None:
            return await not_recovered(self._backend)

        problem = await wait_until_none(self._clock, still_ill, limit, STATUS_SECONDS)
        problem = unhealed or problem
        self._history.add(
            "ok" if problem is None else "fail", "recover", CONDUCTOR, call=began.index, error=problem or ""
        )
        self._watch.said("all regions are back" if problem is None else f"not recovered: {problem}")

    async def _settle(self) -> None:
        """Without load: one frontier, and the receipts of what came back are closed."""
        began = self._history.add("invoke", "settle", CONDUCTOR)
        problem = await self._backend.collect_states(self._drill.phases.settle_seconds_max)
        self._history.add(
            "ok" if problem is None else "fail", "settle", CONDUCTOR, call=began.index, error=problem or ""
        )

    async def _sleep(self, phase: str, seconds: float) -> None:
        self._phase(phase)
        await self._clock.sleep(seconds)

    def _phase(self, name: str) -> None:
        """Begin a phase: a line in the history, and one for whoever watches."""
        self._history.add("info", "phase", CONDUCTOR, note=name)
        self._history.flush()
        self._watch.phase(name)
