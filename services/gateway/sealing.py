"""Ending a life whose log was cut: said in the coordination store, so that nobody builds on the gap.

What is genuine of each partition is written down before the process ends, because nobody can tell it later: records
that this gateway sent after the cut stand where acknowledged ones stood. Without a store the process goes on trying,
and takes nothing meanwhile.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.common.clock import Clock
from services.common.logging import get_logger
from services.coordination import CasConflict, KeyValueStore, StoreUnavailable, lives
from services.gateway.acked_ends import Cut

log = get_logger(__name__)

RETRY_SECONDS = 0.5
GIVE_UP_SECONDS = 120.0


def first_of_each(cuts: Sequence[Cut]) -> list[lives.LogCut]:
    """One cut a partition: the lowest place at which it was found."""
    lowest: dict[int, Cut] = {}
    for cut in cuts:
        known = lowest.get(cut.partition)
        if known is None or cut.found < known.found:
            epoch = max(cut.leader_epoch, known.leader_epoch if known else -1)
            lowest[cut.partition] = replace(cut, leader_epoch=epoch)
    return [
        lives.LogCut(cut.log, cut.partition, cut.found, cut.acknowledged_end, cut.leader_epoch)
        for _, cut in sorted(lowest.items())
    ]


async def seal(store: KeyValueStore, incarnation: str, cuts: Sequence[Cut], clock: Clock) -> bool:
    """Seal a life because of cuts; False when the store could not be reached in all that time."""
    found = first_of_each(cuts)
    # Every record that was on its way says the same of its partition.
    because = "; ".join(dict.fromkeys(map(str, cuts)))
    began = clock.boottime()
    while True:
        try:
            await lives.seal_life(store, incarnation, because, clock.unix_ms(), found)
        except (StoreUnavailable, CasConflict) as error:
            if clock.boottime() - began > GIVE_UP_SECONDS:
                log.error("the life could not be sealed", incarnation=incarnation, cuts=because, reason=str(error))
                return False
            await clock.sleep(RETRY_SECONDS)
        else:
            log.error("the life is sealed", incarnation=incarnation, because=because)
            return True
