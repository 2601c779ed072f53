"""Whether a region of a deployment goes on with the life that its Kafka is in, or has to begin the next one.

A life goes on if its logs end at or after everything that anybody knows of them: the acknowledged ends on the region's
own disk and in the coordination store, and what the peers hold. Otherwise it was cut: new records would take the
offsets of lost ones. Such a life is sealed, with its cuts, for the receipt; its genuine part is left to the peers; and
Kafka begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.exit_codes import ExitCode
from services.common.logging import get_logger
from services.coordination import KeyValueStore
from services.coordination.lives import Life, LogCut, all_lives, incarnations_to_subscribe, open_life, seal_life
from services.coordination.region_record import acknowledged_ends
from services.region.errors import RegionError
from services.region.premises import OwnLife, Premises
from services.region.renewal import Cut, Ends, Renewal, cuts_of, describe, not_yet_held
from services.replicator.client import PartitionReport, replication
from streams.logs import events_log, topics_of

CUT_CONFIRMED_SECONDS = 3.0
CUT_POLL_SECONDS = 0.1
DRAIN_SECONDS = 20.0
DRAIN_POLL_SECONDS = 0.25

log = get_logger(__name__)


class LifeOver(RegionError):
    """The life is sealed, and something here still reads or writes its logs."""


class LifeDrained(RegionError):
    """The life is over, and nothing of it is needed here any more."""


class PeersMissing(RegionError):
    """No other region holds what is genuine of a life that is over; the step is tried again."""


async def continue_life(site: Premises, store: KeyValueStore, cluster_id: str, clock: Clock) -> Life:
    """Return the life that the region goes on with, opened if it is new.

    Raises LifeOver, LifeDrained, PeersMissing, BrokerSilent, CoordinationError.
    """
    life = await open_life(store, site.name, cluster_id, clock.unix_ms(), number_min(site.own_life(), cluster_id))
    site.remember(OwnLife(life.number, cluster_id))
    cuts = await find_cuts(site, store, life, clock)
    if cuts:
        sentence = f"its log was cut: {describe(cuts)}"
        log.error("the log was cut, this life is over", incarnation=life.incarnation, cuts=describe(cuts))
        listed = [
            LogCut(log=cut.log, partition=cut.partition, found=cut.found, acknowledged_end=cut.known_end)
            for cut in cuts
        ]
        life = await seal_life(store, life.incarnation, sentence, clock.unix_ms(), listed) or life
    if life.sealed:
        await end_life(site, life, clock)
    return life


def number_min(own: OwnLife | None, cluster_id: str) -> int:
    """Return the least number that the region's life may have: an earlier one would write a log that there was."""
    if own is None:
        return 1
    return own.number if own.cluster_id == cluster_id else own.number + 1


async def topics_wanted(site: Premises, store: KeyValueStore) -> list[str]:
    """Return the topics of every life of every region, and of each region's next."""
    regions = [region.name for region in site.deployment().regions]
    incarnations = incarnations_to_subscribe(await all_lives(store), regions)
    return [topic for incarnation in incarnations for topic in topics_of(incarnation)]


async def find_cuts(site: Premises, store: KeyValueStore, life: Life, clock: Clock) -> list[Cut]:
    """Return where this life's logs end before what is known of them, and keep doing so for a while.

    A broker that has just come back may not know a topic or its high watermark at once; a cut does not heal.
    """
    logs = set(topics_of(life.incarnation))
    known: list[tuple[str, Ends]] = [
        ("the coordination store", {_events(life): await acknowledged_ends(store, _events(life))}),
        ("its own disk", {_events(life): site.acknowledged(_events(life))}),
    ]
    known += [(peer, ends) for peer, ends in (await ask_peers(site, logs, seen_end)).items()]
    places = sorted({(name, p) for _, ends in known for name, parts in ends.items() for p in parts})
    if not places:
        return []
    deadline = clock.monotonic() + CUT_CONFIRMED_SECONDS
    while True:
        found = await site.ends(places)
        cuts = cuts_of(found, known)
        if not cuts or clock.monotonic() > deadline:
            return cuts
        await clock.sleep(CUT_POLL_SECONDS)


async def end_life(site: Premises, life: Life, clock: Clock) -> None:
    """Wait until the peers hold what is genuine of a sealed life, and ask for another one.

    Raises LifeOver first if something still uses the logs; LifeDrained when done; PeersMissing.
    """
    using = site.users()
    if using:
        raise LifeOver(
            f"{life.incarnation} is over ({life.sealed_because}); {', '.join(using)} must end before it is handed on",
            ExitCode.LIFE_OVER,
        )
    logs = topics_of(life.incarnation)
    places = [(name, partition) for name in logs for partition in range(site.partitions)]
    genuine = genuine_ends(await site.ends(places), life.cuts)
    deadline = clock.monotonic() + DRAIN_SECONDS
    while True:
        answers = await ask_peers(site, set(logs))
        missing = not_yet_held(genuine, answers.values())
        if not missing:
            break
        if clock.monotonic() > deadline:
            raise PeersMissing(_waiting_for(life, missing, answers), ExitCode.CRASH)
        await clock.sleep(DRAIN_POLL_SECONDS)
    because = f"{life.incarnation} is over ({life.sealed_because}), and its peers hold what is left of it"
    site.ask_for_renewal(Renewal(life.incarnation, because))
    log.warning("Kafka begins anew", incarnation=life.incarnation, reason=because)
    raise LifeDrained(because, ExitCode.LIFE_DRAINED)


def genuine_ends(found: Ends, cuts: Iterable[LogCut]) -> dict[str, dict[int, int]]:
    """Return where what was really acknowledged ends: nothing that was written behind a cut counts."""
    genuine = {name: dict(partitions) for name, partitions in found.items()}
    for cut in cuts:
        partitions = genuine.get(cut.log, {})
        if cut.partition in partitions:
            partitions[cut.partition] = min(partitions[cut.partition], cut.found)
    return genuine


def held_end(found: PartitionReport) -> int:
    """Return below which offset a peer holds everything."""
    return found.held


def seen_end(found: PartitionReport) -> int:
    """Return how far a peer knows a log to have reached; it need not hold all of that."""
    return max(found.held, found.origin_end)


async def ask_peers(
    site: Premises, logs: set[str], end_of: Callable[[PartitionReport], int] = held_end
) -> dict[str, dict[str, dict[int, int]]]:
    """Return, for each peer whose replicator answers, what it says of `logs`: by log and partition."""
    peers = site.deployment().peers_of(site.name)
    async with site.session() as session:
        answers = await asyncio.gather(*(_said_by(session, peer.url("replicator"), logs, end_of) for peer in peers))
    return {peer.name: answer for peer, answer in zip(peers, answers, strict=True) if answer is not None}


async def _said_by(
    session: aiohttp.ClientSession, url: str, logs: set[str], end_of: Callable[[PartitionReport], int]
) -> dict[str, dict[int, int]] | None:
    try:
        report = await replication(session, url)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OSError) as problem:
        log.info("a peer's replicator does not answer", url=url, reason=str(problem) or type(problem).__name__)
        return None
    return {found.log: {p.partition: end_of(p) for p in found.partitions} for found in report.logs if found.log in logs}


def _events(life: Life) -> str:
    return events_log(life.incarnation)


def _waiting_for(life: Life, missing: dict[tuple[str, int], int], answers: dict[str, dict[str, dict[int, int]]]) -> str:
    count = sum(missing.values())
    who = f"{', '.join(answers)} copies" if answers else "no peer answers"
    return (
        f"{life.incarnation} is over ({life.sealed_because}). {count} records of it are in no other region yet; {who}. "
        "The region begins its next life once a peer holds them: start a peer, or mend the network. To give them up, "
        "wipe the region's directory."
    )
