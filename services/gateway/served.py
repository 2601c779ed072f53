"""What was shown, written into the log, so that click-through, A/B results and online quality are part of the truth.

Nobody waits for these events, so they must not stand in anybody's way: while the log is full or stalled they are
dropped and counted, and they ride on the next frame of their partition instead of costing a record of their own. Their
time is the time that the answer was for, and they lie in the user's own partition.
"""

from dataclasses import dataclass

from services.common.problem import Problem
from services.gateway.core import Core
from services.gateway.events_log import NotKept, Waiting
from streams.asks import Ask, Ranking, RankingId
from streams.events import Content, Received, ServedBody, canonical_body, ranking_bytes
from streams.kinds import Kind


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer that was given."""

    ask: Ask
    key: int
    session: int
    ranking: Ranking


class ServedEvents:
    """Writes `served` events, as many as there is room for."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def write(self, shown: Shown) -> None:
        """Write one, or count that it could not be."""
        core = self._core
        try:
            log = core.log()
            core.admission.enter_events(1)
        except Problem:
            core.metrics.served_dropped.inc()
            return
        waiting = log.waiting(1)
        waiting.done.add_done_callback(lambda _: self._done(waiting))
        log.put([served_event(core.region, shown)], waiting, patient=True)

    def _done(self, waiting: Waiting) -> None:
        self._core.admission.leave_events(1)
        if isinstance(waiting.outcomes[0], NotKept):
            self._core.metrics.served_dropped.inc()


def served_event(region: str, shown: Shown) -> Received:
    """The event that says what was shown; its id is the ranking's."""
    ask, ranking = shown.ask, shown.ranking
    ranking_id = ranking_bytes(ranking.ranking_id)
    content = Content(
        kind=Kind.SERVED,
        time_ms=ask.at_ms,
        user=ask.user,
        session=shown.session,
        query=ask.query,
        ranking=ranking_id,
        body=canonical_body(
            ServedBody(
                items=ranking.items,
                rung=ranking.rung,
                model_version=ranking.model_version,
                arm=RankingId.from_bytes(ranking_id).arm,
            )
        ),
    )
    return Received(ranking.ranking_id, content.row(f"/gateways/{region}", ranking.ranking_id), shown.key)
