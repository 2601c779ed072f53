"""What the processor shows over HTTP: health, metrics, its state's frontier and digest."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.common.health import Health
from services.common.metrics import add_metrics_route
from services.common.problem import Problem
from services.controller.client import NO_EPOCH
from services.processor.client import GateReport
from services.processor.identity import Identity
from services.processor.live import state_report
from streams.digest import digest
from streams.state import State

_encode = msgspec.json.Encoder().encode


class Phase:
    """How far the start is; each step says so in one sentence."""

    def __init__(self) -> None:
        self.sentence: str | None = "starting"
        """Why nothing can be answered yet; None once the state is live."""

    def blocker(self) -> str | None:
        """For readiness."""
        return self.sentence


class Surface:
    """Serves what is there; before the state is, it says how far the start is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.health = Health()
        self.phase = Phase()
        self.health.add("state", self.phase.blocker)
        self._registry = registry
        self._shown: tuple[Identity, State] | None = None
        self._gate: Callable[[], GateReport] = lambda: GateReport(
            open=False, epoch=NO_EPOCH, reason=f"not ready: {self.phase.sentence}", markers_written=False
        )

    def show(self, identity: Identity, state: State, gate: Callable[[], GateReport]) -> None:
        """From now on state, digest and gate can be asked for."""
        self._shown = identity, state
        self._gate = gate

    def web_app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        self.health.add_routes(app)
        add_metrics_route(app, self._registry)
        app.router.add_get("/v1/state", self._state)
        app.router.add_get("/v1/digest", self._digest)
        app.router.add_get("/v1/gate", self._gate_report)
        return app

    async def _state(self, _: web.Request) -> web.Response:
        if self._shown is None:
            return self._not_yet()
        identity, state = self._shown
        return _json(_encode(state_report(identity.region, identity.incarnation, state)))

    async def _gate_report(self, _: web.Request) -> web.Response:
        return _json(_encode(self._gate()))

    async def _digest(self, _: web.Request) -> web.Response:
        if self._shown is None:
            return self._not_yet()
        state = self._shown[1]
        found = digest(state)
        return _json(
            _encode(
                {
                    "digest": found.hex(),
                    "frontier": state.frontier.to_rows(),
                    "clock_bucket": found.clock_bucket,
                    "fold_version": found.fold_version,
                    "parameters": found.parameters,
                    "tables": [
                        {"table": t.table, "bucket": t.bucket, "lanes": [f"{lane:016x}" for lane in t.lanes]}
                        for t in found.tables
                    ],
                }
            )
        )

    def _not_yet(self) -> web.Response:
        return Problem(
            503,
            "not-serving",
            f"the state is not there yet: {self.phase.sentence}",
            remedy="Ask again when /readyz says ready.",
            retry_after_seconds=1,
        ).response()


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
