"""What the processor shows over HTTP: health, metrics, its state's frontier and digest, its gate, its snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.common.health import Health
from services.common.metrics import add_metrics_route
from services.common.problem import Problem
from services.common.tracing import NO_TRACER, Tracer
from services.controller.client import NO_EPOCH
from services.processor.canary import CanaryTrails
from services.processor.client import CanaryTrail, FoldReport, GateReport, SnapshotOffer
from services.processor.held_digests import HeldDigests, HoldBusy
from services.processor.identity import Identity
from services.processor.live import state_report
from streams.digest import digest
from streams.position import Frontier
from streams.snapshot import newest
from streams.snapshot_tar import pack
from streams.state import State

HOLD_MS_MAX = 10_000
_encode = msgspec.json.Encoder().encode
_Rows = list[tuple[str, int, int]]


class Phase:
    """How far the start is; each step says so in one sentence."""

    def __init__(self) -> None:
        self.sentence: str | None = "starting"
        """Why nothing can be answered yet; None once the state is live."""

    def blocker(self) -> str | None:
        """For readiness."""
        return self.sentence


class Saves(Protocol):
    """The part of `Snapshots` that is needed here."""

    async def save_now(self) -> bool:
        """Write a snapshot if something changed."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts of a running processor that others may look at."""

    identity: Identity
    state: State
    gate: Callable[[], GateReport]
    held: HeldDigests
    snapshots: Saves
    snapshot_dir: Path
    canaries: CanaryTrails | None = None
    fold: Callable[[], FoldReport | None] | None = None
    """How far the fold is behind; None: nobody measures it."""

    def report(self) -> bytes:
        """Frontier and digest of this moment."""
        return _encode(state_report(self.identity.region, self.identity.incarnation, self.state))

    def gate_report(self) -> bytes:
        """The gate, and how far the fold is behind."""
        fold = None if self.fold is None else self.fold()
        return _encode(msgspec.structs.replace(self.gate(), fold=fold))

    def digest(self) -> bytes:
        """The digest of this moment, table by table."""
        found = digest(self.state)
        return _encode(
            {
                "digest": found.hex(),
                "frontier": self.state.frontier.to_rows(),
                "clock_bucket": found.clock_bucket,
                "fold_version": found.fold_version,
                "parameters": found.parameters,
                "tables": [
                    {"table": t.table, "bucket": t.bucket, "lanes": [f"{lane:016x}" for lane in t.lanes]}
                    for t in found.tables
                ],
            }
        )


class Surface:
    """Serves what is there; before the state is, it says how far the start is."""

    def __init__(self, registry: CollectorRegistry, tracer: Tracer = NO_TRACER) -> None:
        self.tracer = tracer
        self.health = Health()
        self.phase = Phase()
        self.health.add("state", self.phase.blocker)
        self._registry = registry
        self._shown: Shown | None = None

    def show(self, shown: Shown) -> None:
        """From now on state, digest, gate and snapshot can be asked for."""
        self._shown = shown

    def web_app(self) -> web.Application:
        """The application."""
        app = web.Application()
        self.add_routes(app)
        add_metrics_route(app, self._registry)
        return app

    def add_routes(self, app: web.Application) -> None:
        """The routes."""
        self.health.add_routes(app)
        self.tracer.add_route(app)
        app.router.add_get("/v1/state", self._state)
        app.router.add_get("/v1/digest", self._digest)
        app.router.add_post("/v1/hold", self._hold)
        app.router.add_get("/v1/gate", self._gate)
        app.router.add_get("/v1/canary", self._canary)
        app.router.add_get("/v1/snapshots/latest", self._snapshot)

    async def _state(self, _: web.Request) -> web.Response:
        return self._not_yet() if self._shown is None else _json(self._shown.report())

    async def _gate(self, _: web.Request) -> web.Response:
        if self._shown is not None:
            return _json(self._shown.gate_report())
        reason = f"not ready: {self.phase.sentence}"
        return _json(_encode(GateReport(open=False, epoch=NO_EPOCH, reason=reason, markers_written=False)))

    async def _canary(self, request: web.Request) -> web.Response:
        """Answer how far a canary came, once it has ended."""
        shown, canary_id = self._shown, request.query.get("id", "")
        if shown is None:
            return self._not_yet()
        try:
            wait_seconds = _milliseconds(request) / 1000
        except ValueError as problem:
            return _bad(str(problem))
        if shown.canaries is None:
            return _json(_encode(CanaryTrail(canary_id=canary_id)))
        return _json(_encode(await shown.canaries.ended(canary_id, wait_seconds)))

    async def _digest(self, request: web.Request) -> web.Response:
        shown = self._shown
        if shown is None:
            return self._not_yet()
        if "frontier" not in request.query:
            return _json(shown.digest())
        try:
            frontier = Frontier.from_rows(msgspec.json.decode(request.query["frontier"], type=_Rows))
            wait_ms = _milliseconds(request)
        except (msgspec.DecodeError, ValueError) as problem:
            return _bad(str(problem))
        found: list[bytes] = []
        try:
            reached = await shown.held.reach(frontier, wait_ms, lambda: found.append(shown.digest()))
        except HoldBusy as busy:
            return _busy(busy)
        return _json(found[0]) if reached else _json(shown.report(), status=409)

    async def _hold(self, request: web.Request) -> web.Response:
        shown = self._shown
        if shown is None:
            return self._not_yet()
        try:
            shown.held.begin(_milliseconds(request))
        except ValueError as problem:
            return _bad(str(problem))
        except HoldBusy as busy:
            return _busy(busy)
        return _json(shown.report())

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        shown = self._shown
        if shown is None:
            return self._not_yet()
        if await asyncio.to_thread(newest, shown.snapshot_dir) is None:
            await shown.snapshots.save_now()
        found = await asyncio.to_thread(newest, shown.snapshot_dir)
        if found is None:
            return Problem(404, "no-snapshot", "there is no snapshot: nothing was folded yet").response()
        if "about" in request.query:
            manifest = found[1]
            offer = SnapshotOffer(
                digest=manifest.digest,
                frontier=[(name, partition, point.next_offset) for name, partition, point in manifest.points],
                events=manifest.tally.events,
                size_bytes=sum(file.size_bytes for file in manifest.files),
                now=shown.state.frontier.to_rows(),
                events_now=shown.state.tally.events,
            )
            return _json(_encode(offer))
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        chunks = pack(shown.snapshot_dir)
        while (chunk := await asyncio.to_thread(_next, chunks)) is not None:
            await response.write(chunk)
        await response.write_eof()
        return response

    def _not_yet(self) -> web.Response:
        return Problem(
            503,
            "not-serving",
            f"the state is not there yet: {self.phase.sentence}",
            remedy="Ask again when /readyz says ready.",
            retry_after_seconds=1,
        ).response()


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)


def _milliseconds(request: web.Request) -> int:
    wait_ms = int(request.query.get("wait_ms", "1000"))
    if not 0 <= wait_ms <= HOLD_MS_MAX:
        raise ValueError(f"wait_ms is {wait_ms}; it must be in 0..{HOLD_MS_MAX}")
    return wait_ms


def _bad(reason: str) -> web.Response:
    remedy = "frontier is JSON rows [[log, partition, next offset], ...]; wait_ms is a number."
    return Problem(400, "bad-request", reason, remedy=remedy).response()


def _busy(reason: HoldBusy) -> web.Response:
    return Problem(503, "busy", str(reason), remedy="Ask again in a moment.", retry_after_seconds=1).response()


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
