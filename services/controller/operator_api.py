"""An operator's verbs over HTTP: idempotent by operation id, one at a time, refused with the next step."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from aiohttp import web

from services.common.logging import get_logger
from services.common.problem import Problem
from services.controller.api import json_response
from services.controller.controller import Controller
from services.controller.model import Operation, Pause
from services.controller.operator import (
    FailoverRequest,
    PauseRequest,
    Refusal,
    ResumeRequest,
    SwitchoverRequest,
    operation_of,
    refuse_failover,
    refuse_switchover,
)
from services.coordination.base import ABSENT, CasConflict, StoreDamaged, StoreUnavailable
from services.coordination.keys import OPERATION_OPEN, OPERATIONS, PAUSE
from services.coordination.lease import Guard, LeaseStore

STATUS_OF: Final = {"unknown-region": 404, "no-quorum": 503}
UNKNOWN_REMEDY: Final = "It is unknown whether it was taken: send the same again, with the same operation_id."

log = get_logger(__name__)
T = TypeVar("T")


class OperatorApi:
    """`POST /v1/{switchover,failover,pause,resume}`, `GET /v1/operations/ID`."""

    def __init__(self, controller: Controller, store: LeaseStore) -> None:
        self._controller = controller
        self._store = store

    def add_routes(self, app: web.Application) -> None:
        """The routes."""
        app.router.add_post("/v1/switchover", self._switchover)
        app.router.add_post("/v1/failover", self._failover)
        app.router.add_post("/v1/pause", self._pause)
        app.router.add_post("/v1/resume", self._resume)
        app.router.add_get("/v1/operations/{id}", self._operation)

    async def _switchover(self, request: web.Request) -> web.Response:
        wanted = await _body(request, SwitchoverRequest)
        return await self._begin("switchover", wanted)

    async def _failover(self, request: web.Request) -> web.Response:
        wanted = await _body(request, FailoverRequest)
        return await self._begin("failover", wanted)

    async def _begin(self, kind: str, wanted: SwitchoverRequest | FailoverRequest) -> web.Response:
        known = await self._known(wanted.operation_id)
        if known is not None:
            return _same_or_refused(known, kind, wanted.to)
        view, now, limits = self._controller.view(), self._controller.now(), self._controller.limits
        if isinstance(wanted, SwitchoverRequest):
            refused = refuse_switchover(view, wanted, limits, now)
        else:
            refused = refuse_failover(view, wanted, limits, now)
        if refused is not None:
            raise problem_of(refused)
        operation = operation_of(view, kind, wanted, now)
        try:
            # Guarded, so that a pause and an operation never stand beside each other.
            await self._store.compare_and_put(
                OPERATION_OPEN, msgspec.json.encode(operation), ABSENT, guard=Guard(PAUSE, ABSENT)
            )
        except CasConflict:
            known = await self._known(wanted.operation_id)
            if known is not None:
                return _same_or_refused(known, kind, wanted.to)
            raise Problem(
                409,
                "operation-open",
                "another operator was quicker: an operation or a pause began at this moment",
                remedy="Look at `meridian status`, then ask again.",
            ) from None
        except StoreUnavailable as unknown:
            raise _unknown(unknown) from unknown
        log.info("an operation was asked for", operation_id=operation.operation_id, kind=kind, to=wanted.to)
        return json_response(operation, 202)

    async def _operation(self, request: web.Request) -> web.Response:
        found = await self._known(request.match_info["id"])
        if found is None:
            raise Problem(404, "no-such-operation", f"there is no operation {request.match_info['id'][:64]!r}")
        return json_response(found)

    async def _known(self, operation_id: str) -> Operation | None:
        """Return the operation of that id, open or over. Raises Problem (503)."""
        try:
            for key in (OPERATION_OPEN, OPERATIONS + operation_id):
                entry = await self._store.get(key)
                if entry is not None:
                    found = msgspec.json.decode(entry.value, type=Operation)
                    if found.operation_id == operation_id:
                        return found
        except StoreUnavailable as silent:
            raise _unknown(silent) from silent
        except msgspec.DecodeError as error:
            raise StoreDamaged(f"an operation cannot be read ({error})") from error
        return None

    async def _pause(self, request: web.Request) -> web.Response:
        wanted = await _body(request, PauseRequest)
        now = self._controller.now()
        pause = Pause(
            by=wanted.by,
            reason=wanted.reason,
            created_ms=now.unix_ms,
            until_ms=now.unix_ms + wanted.seconds * 1000,
            operation_id=wanted.operation_id,
        )
        try:
            await self._store.compare_and_put(
                PAUSE, msgspec.json.encode(pause), ABSENT, guard=Guard(OPERATION_OPEN, ABSENT)
            )
        except CasConflict:
            return await self._paused_already(wanted)
        except StoreUnavailable as unknown:
            raise _unknown(unknown) from unknown
        sentence = f"paused for {wanted.seconds} s: {wanted.reason}"
        self._controller.performer.note("pause", sentence, by=wanted.by, operation_id=wanted.operation_id)
        return json_response(pause)

    async def _paused_already(self, wanted: PauseRequest) -> web.Response:
        entry = await self._store.get(PAUSE)
        if entry is None:
            raise Problem(409, "operation-open", "an operation is under way", remedy="Wait for it to end, then pause.")
        found = msgspec.json.decode(entry.value, type=Pause)
        if found.operation_id == wanted.operation_id:
            return json_response(found)
        raise Problem(
            409,
            "paused",
            f"{found.by} has paused already: {found.reason}",
            remedy="`meridian resume` ends that pause; agree with its owner first.",
        )

    async def _resume(self, request: web.Request) -> web.Response:
        wanted = await _body(request, ResumeRequest)
        try:
            entry = await self._store.get(PAUSE)
            if entry is None:
                return json_response({"paused": False, "detail": "it was not paused"})
            await self._store.compare_and_delete(PAUSE, entry.revision)
        except CasConflict:
            raise Problem(409, "conflict", "the pause changed at this moment", remedy="Ask again.") from None
        except StoreUnavailable as unknown:
            raise _unknown(unknown) from unknown
        self._controller.performer.note("resume", wanted.reason, by=wanted.by, operation_id=wanted.operation_id)
        return json_response({"paused": False, "detail": "resumed"})


def problem_of(refused: Refusal) -> Problem:
    """The refusal as an answer."""
    members = {} if refused.loss_events is None else {"loss_events": refused.loss_events}
    status = STATUS_OF.get(refused.kind, 409)
    return Problem(status, refused.kind, refused.detail, remedy=refused.remedy, members=members)


def _same_or_refused(known: Operation, kind: str, to: str) -> web.Response:
    if (known.kind, known.target) != (kind, to):
        raise Problem(
            409,
            "operation-id-used",
            f"{known.operation_id} is a {known.kind} to {known.target}",
            remedy="Use another operation_id for another operation.",
        )
    return json_response(known)


def _unknown(problem: StoreUnavailable) -> Problem:
    return Problem(503, "no-quorum", str(problem), remedy=UNKNOWN_REMEDY, retry_after_seconds=1)


async def _body(request: web.Request, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except msgspec.DecodeError as error:
        raise Problem(
            400, "bad-request", str(error), remedy="See docs/operating/switchover.md for the fields."
        ) from None
