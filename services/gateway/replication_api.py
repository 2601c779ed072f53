"""`POST /v1/replication/held`: a copier says how far it holds a log of this region, and learns how far that goes.

The answer is what a receipt will be made from if this region is lost the next moment: the ends that were acknowledged
and the events behind what the copier holds. For a log that this life does not write, there is nothing to say.
"""

import msgspec
from aiohttp import web

from services.common.problem import Problem
from services.gateway.client import HeldAnswer, HeldRequest, OriginPartition
from services.gateway.core import Core
from services.gateway.events_api import bad_request
from services.gateway.watermarks import StaleLife
from streams.cloudevents import explain
from streams.errors import DECODE_ERRORS

_decode = msgspec.json.Decoder(HeldRequest).decode
_encode = msgspec.json.Encoder().encode


class ReplicationApi:
    """The handler of the route."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def held(self, request: web.Request) -> web.Response:
        """Take note of what a peer holds."""
        log = self._core.open_log()
        # Its memory is not counted as an app's is: under load, reports are what lets others be answered.
        try:
            said = _decode(await request.read())
            _check(said)
        except DECODE_ERRORS as error:
            raise bad_request(explain(error)) from None
        incarnation = log.name.rpartition(".")[0]
        acks = self._core.acks
        if said.log != log.name or acks.watermarks is None:
            return _answer(HeldAnswer(incarnation=incarnation, partitions={}))
        if said.region != self._core.region:
            # The region's own controller asks as well: it holds no copy.
            try:
                acks.report(said.region, said.incarnation, said.held)
            except StaleLife as error:
                raise Problem(409, "stale-life", str(error), remedy="Let the region's newest life report.") from None
        marks = acks.watermarks
        partitions = {
            partition: OriginPartition(
                acknowledged_end=marks.end(partition),
                events_after_held=marks.events_after(partition, said.held.get(partition, 0)),
            )
            for partition in range(log.partitions)
        }
        return _answer(HeldAnswer(incarnation=incarnation, partitions=partitions, eager=acks.eager()))


def _check(said: HeldRequest) -> None:
    """Refuse what the types let through. Raises msgspec.ValidationError."""
    region, _, number = said.incarnation.rpartition("-")
    if region != said.region or not number.isdecimal():
        raise msgspec.ValidationError(f"{said.incarnation!r} is no life of {said.region!r} - at `$.incarnation`")


def _answer(answer: HeldAnswer) -> web.Response:
    return web.Response(body=_encode(answer), content_type="application/json")
