"""The step between a region's broker and everything that reads or writes logs, in virtual time.

Which life is this, and are its logs whole? The shipped step says it (`services.region.life`); what differs is where a
site's small files lie, how its broker is asked, and that nobody waits in threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import aiohttp

from services.common.deployment import Deployment
from services.common.exit_codes import ExitCode
from services.coordination.lease import LeaseStore
from services.region.broker import BrokerSilent
from services.region.life import continue_life, topics_wanted
from services.region.premises import OwnLife
from services.region.renewal import Renewal

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

LIFE: Final = "life"


def own_ends(site: MemorySite, log: str) -> dict[int, int]:
    """How far a site's disk knows one of its logs to be acknowledged."""
    ends: dict[int, int] = site.disk.get(f"{log}.ends", {})
    return ends


class MemoryPremises:
    """A simulated site as the shipped step sees it. `users`: what of it reads or writes logs now."""

    def __init__(self, site: MemorySite, users: Iterable[str] = ()) -> None:
        self._site = site
        self._users = list(users)

    @property
    def name(self) -> str:
        """See Premises."""
        return self._site.name

    @property
    def partitions(self) -> int:
        """See Premises."""
        return self._site.world.settings.partitions

    def deployment(self) -> Deployment:
        """See Premises."""
        return self._site.world.deployment

    def session(self) -> aiohttp.ClientSession:
        """See Premises."""
        return self._site.world.session(self._site.name)

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[str, dict[int, int]]:
        """See Premises."""
        self.check_broker()
        found: dict[str, dict[int, int]] = {}
        for (log, partition), end in self._site.broker.ends(list(places)).items():
            found.setdefault(log, {})[partition] = end.next_offset
        return found

    def acknowledged(self, log: str) -> dict[int, int]:
        """See Premises."""
        return own_ends(self._site, log)

    def own_life(self) -> OwnLife | None:
        """See Premises."""
        return self._site.disk.get(LIFE)

    def remember(self, own: OwnLife) -> None:
        """See Premises."""
        self._site.disk[LIFE] = own

    def users(self) -> list[str]:
        """See Premises."""
        return self._users

    def ask_for_renewal(self, renewal: Renewal) -> None:
        """See Premises. The site begins anew itself, when it is told that the life is drained."""

    def check_broker(self) -> None:
        """Raise BrokerSilent when the broker does not run."""
        if not self._site.kafka.is_up():
            raise BrokerSilent("the broker does not answer", ExitCode.CRASH)


async def prepare(site: MemorySite, store: LeaseStore, users: Iterable[str]) -> str:
    """Return the life that the region goes on with, its topics made.

    Raises LifeOver while something uses the logs of a life that is sealed (`users`), LifeDrained, PeersMissing,
    BrokerSilent and CoordinationError.
    """
    premises = MemoryPremises(site, users)
    premises.check_broker()
    life = await continue_life(premises, store, site.broker.cluster_id, site.clock)
    topics = await topics_wanted(premises, store)
    premises.check_broker()
    for topic in topics:
        site.broker.make_topic(topic, premises.partitions)
    return life.incarnation
