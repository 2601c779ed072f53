"""What is on record, over HTTP: status, explanation, history, receipts."""

from __future__ import annotations

from aiohttp import web

from services.common.problem import Problem
from services.controller.answers import explain, status_of
from services.controller.api import json_response
from services.controller.attendants import Attendants
from services.controller.controller import Controller
from services.controller.settings import RTO_TARGET_SECONDS
from services.coordination.base import CoordinationError
from services.coordination.history import History, HistoryAnswer, verify
from services.coordination.lease import LeaseStore
from services.receipts import ReceiptBook
from services.receipts.book import NoSuchReceipt
from services.receipts.client import ReceiptsAnswer


class RecordsApi:
    """`GET /v1/{status,explain,history,receipts,receipts/ID}`."""

    def __init__(
        self,
        controller: Controller,
        store: LeaseStore,
        book: ReceiptBook,
        attendants: Attendants,
        rto_target_seconds: float = RTO_TARGET_SECONDS,
    ) -> None:
        """`rto_target_seconds`: what an explanation holds the forecast against."""
        self._rto_target_seconds = rto_target_seconds
        self._controller = controller
        self._history = History(store)
        self._book = book
        self._attendants = attendants

    def add_routes(self, app: web.Application) -> None:
        """The routes."""
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/explain", self._explain)
        app.router.add_get("/v1/history", self._entries)
        app.router.add_get("/v1/receipts", self._receipts)
        app.router.add_get("/v1/receipts/{id}", self._receipt)

    async def _status(self, _: web.Request) -> web.Response:
        placement = self._attendants.placement
        return json_response(
            status_of(
                self._controller.view(),
                self._controller.now(),
                sentence=self._controller.sentence,
                largest_epoch=self._controller.election.seen.epoch,
                etcd_leader=placement.leader_site if placement is not None else None,
                receipts_open=self._attendants.desk.open_count,
            )
        )

    async def _explain(self, _: web.Request) -> web.Response:
        controller = self._controller
        expected = (controller.forecast(), self._rto_target_seconds)
        view, now = controller.view(), controller.now()
        return json_response(explain(view, controller.limits, now, controller.sentence, expected))

    async def _entries(self, _: web.Request) -> web.Response:
        try:
            entries = await self._history.entries()
        except CoordinationError as problem:
            raise _away(problem) from problem
        return json_response(HistoryAnswer(entries=entries, broken=verify(entries) or ""))

    async def _receipts(self, _: web.Request) -> web.Response:
        try:
            return json_response(ReceiptsAnswer(receipts=await self._book.all()))
        except CoordinationError as problem:
            raise _away(problem) from problem

    async def _receipt(self, request: web.Request) -> web.Response:
        try:
            return json_response(await self._book.get(request.match_info["id"]))
        except NoSuchReceipt as missing:
            raise Problem(404, "no-such-receipt", str(missing)) from missing
        except CoordinationError as problem:
            raise _away(problem) from problem


def _away(problem: CoordinationError) -> Problem:
    return Problem(
        503,
        "no-quorum",
        str(problem),
        remedy="Every region keeps receipts in its `receipts` directory; see docs/operating/lost-quorum.md.",
        retry_after_seconds=1,
    )
