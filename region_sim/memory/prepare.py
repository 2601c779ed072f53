"""The step between a region's broker and everything that reads or writes logs, in virtual time.

Which life is this, and are its logs whole? The decisions are the shipped ones (`coordination.lives`, `region.renewal`,
`region.life`); what differs is where a site's small files lie and how its broker is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from services.controller.observe import ASK_FAILED
from services.coordination.lease import LeaseStore
from services.coordination.lives import Life, LogCut, all_lives, incarnations_to_subscribe, open_life, seal_life
from services.coordination.region_record import acknowledged_ends
from services.region.life import OwnLife, genuine_ends, held_end, seen_end
from services.region.renewal import Cut, Ends, cuts_of, describe, not_yet_held
from services.replicator.client import PartitionReport, replication
from streams.logs import events_log, topics_of

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

CUT_CONFIRMED_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 20.0
LIFE: Final = "life"


class BrokerAway(Exception):
    """The own broker does not answer; the step is tried again."""


class PeersAway(Exception):
    """No other region holds what is genuine of a life that is over; the step is tried again."""


class Over(Exception):
    """The life is sealed, and its users must end before it is handed on."""


class Drained(Exception):
    """The life is over and its peers hold what is left of it: the broker may begin anew."""


async def prepare(site: MemorySite, store: LeaseStore, *, in_use: bool) -> str:
    """Return the life that the region goes on with, its topics made.

    Raises Over while something uses the logs of a life that is sealed (`in_use`), Drained, PeersAway, BrokerAway and
    CoordinationError.
    """
    if not site.kafka.is_up():
        raise BrokerAway("the broker does not answer")
    cluster_id = site.broker.cluster_id
    life = await open_life(store, site.name, cluster_id, site.clock.unix_ms(), _number_min(site, cluster_id))
    site.disk[LIFE] = OwnLife(life.number, cluster_id)
    cuts = await _find_cuts(site, store, life)
    if cuts:
        listed = [
            LogCut(log=cut.log, partition=cut.partition, found=cut.found, acknowledged_end=cut.known_end)
            for cut in cuts
        ]
        because = f"its log was cut: {describe(cuts)}"
        life = await seal_life(store, life.incarnation, because, site.clock.unix_ms(), listed) or life
    if life.sealed:
        await _end_life(site, life, in_use=in_use)
    await make_topics(site, store)
    return life.incarnation


async def make_topics(site: MemorySite, store: LeaseStore) -> None:
    """Make the topics of every life of every region, and of each region's next. Raises BrokerAway."""
    incarnations = incarnations_to_subscribe(await all_lives(store), site.world.regions)
    if not site.kafka.is_up():
        raise BrokerAway("the broker does not answer")
    for incarnation in incarnations:
        for topic in topics_of(incarnation):
            site.broker.make_topic(topic, site.world.settings.partitions)


def _number_min(site: MemorySite, cluster_id: str) -> int:
    own: OwnLife | None = site.disk.get(LIFE)
    if own is None:
        return 1
    return own.number if own.cluster_id == cluster_id else own.number + 1


async def _find_cuts(site: MemorySite, store: LeaseStore, life: Life) -> list[Cut]:
    """Where this life's logs end before what is known of them, and keep doing so for a while."""
    events = events_log(life.incarnation)
    known: list[tuple[str, Ends]] = [
        ("the coordination store", {events: await acknowledged_ends(store, events)}),
        *(await _ask_peers(site, set(topics_of(life.incarnation)), seen_end)).items(),
    ]
    places = sorted({(name, p) for _, ends in known for name, parts in ends.items() for p in parts})
    deadline = site.clock.monotonic() + CUT_CONFIRMED_SECONDS
    while places:
        cuts = cuts_of(_ends(site, places), known)
        if not cuts or site.clock.monotonic() > deadline:
            return cuts
        await site.clock.sleep(POLL_SECONDS)
    return []


async def _end_life(site: MemorySite, life: Life, *, in_use: bool) -> None:
    """Wait until the peers hold what is genuine of a sealed life. Raises Over, Drained, PeersAway, BrokerAway."""
    if in_use:
        raise Over(f"{life.incarnation} is over ({life.sealed_because})")
    logs = topics_of(life.incarnation)
    places = [(name, partition) for name in logs for partition in range(site.world.settings.partitions)]
    deadline = site.clock.monotonic() + DRAIN_SECONDS
    while True:
        genuine = genuine_ends(_ends(site, places), life.cuts)
        missing = not_yet_held(genuine, (await _ask_peers(site, set(logs), held_end)).values())
        if not missing:
            raise Drained(f"{life.incarnation} is over ({life.sealed_because}), and its peers hold what is left of it")
        if site.clock.monotonic() > deadline:
            raise PeersAway(f"{sum(missing.values())} records of {life.incarnation} are in no other region yet")
        await site.clock.sleep(POLL_SECONDS)


def _ends(site: MemorySite, places: list[tuple[str, int]]) -> dict[str, dict[int, int]]:
    if not site.kafka.is_up():
        raise BrokerAway("the broker does not answer")
    found: dict[str, dict[int, int]] = {}
    for (log, partition), end in site.broker.ends(places).items():
        found.setdefault(log, {})[partition] = end.next_offset
    return found


async def _ask_peers(
    site: MemorySite, logs: set[str], end_of: Callable[[PartitionReport], int]
) -> dict[str, dict[str, dict[int, int]]]:
    """For each peer whose replicator answers, what it says of `logs`: by log and partition."""
    session = site.world.session(site.name)

    async def ask(url: str) -> dict[str, dict[int, int]] | None:
        try:
            report = await replication(session, url)
        except ASK_FAILED:
            return None
        return {
            found.log: {p.partition: end_of(p) for p in found.partitions} for found in report.logs if found.log in logs
        }

    peers = site.world.deployment.peers_of(site.name)
    answers = await asyncio.gather(*(ask(peer.url("replicator")) for peer in peers))
    return {peer.name: answer for peer, answer in zip(peers, answers, strict=True) if answer is not None}
