"""Where rankings come from: the region that may act now, and no other.

Events are taken everywhere and at any time; only effects belong to one region at a time. A gateway answers for itself
while its region's term lasts, sends the asker to the active region's gateway while it has a fresh view of who that is,
and otherwise says when to come back. One hop at most: two gateways that each believe in the other would send an
asker round for ever. The decision is pure; who may act is asked of `Rights`.

A region that has just become active may not answer at once: its processor first begins the new term in every
partition of the rankings log. Askers that come meanwhile wait for those markers instead of for their deadline.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlencode

from services.common.problem import Problem
from services.controller.client import NO_EPOCH, Epoch, Leader, Term

HOP: Final = "hop"
"""The query parameter that says that somebody was sent here already."""
VIEW_SECONDS_MAX: Final = 2.0
RETRY_SECONDS: Final = 0.25


class Rights(Protocol):
    """What a process knows about who may act; `services.controller.client.LeaseFollower` is one."""

    def term(self) -> Term:
        """The own region's term."""

    @property
    def leader(self) -> Leader | None:
        """Who is active, as last heard."""

    @property
    def largest_epoch(self) -> Epoch:
        """The largest epoch heard of, anywhere."""

    def view_age_seconds(self) -> float | None:
        """How old the view of the leader is; None when there is none."""


class Alone:
    """The rights of a region that has no other beside it: they never end, and need no election."""

    def term(self) -> Term:
        """See Rights. There is no epoch to hold rankings against, but the largest that was seen."""
        return Term(active=True, epoch=NO_EPOCH, deadline=float("inf"), reason="")

    @property
    def leader(self) -> Leader | None:
        """See Rights. Nobody else could be."""
        return None

    @property
    def largest_epoch(self) -> Epoch:
        """See Rights."""
        return NO_EPOCH

    def view_age_seconds(self) -> float | None:
        """See Rights."""
        return None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Somebody else answers."""

    region: str
    epoch: Epoch
    location: str


def route(
    rights: Rights, region: str, path: str, query: str, view_seconds_max: float = VIEW_SECONDS_MAX
) -> Redirect | None:
    """Where a request for a ranking goes: None for here. Raises Problem (503) when nobody is known to answer."""
    term = rights.term()
    if term.active:
        return None
    leader, age = rights.leader, rights.view_age_seconds()
    asked = parse_qsl(query, keep_blank_values=True)
    hopped = any(name == HOP for name, _ in asked)
    blocker = _redirect_blocker(leader, age, region, view_seconds_max, hopped=hopped)
    if blocker is not None or leader is None:
        raise Problem(
            503,
            "not-active",
            f"region {region} gives no rankings now: {term.reason}; {blocker}",
            remedy="Ask again after Retry-After, here or at another region's gateway (GET /v1/regions).",
            retry_after_seconds=RETRY_SECONDS,
        )
    location = f"{leader.gateway_url.rstrip('/')}{path}?{urlencode([*asked, (HOP, '1')])}"
    return Redirect(leader.region, leader.epoch, location)


def _redirect_blocker(
    leader: Leader | None, age_seconds: float | None, region: str, view_seconds_max: float, *, hopped: bool
) -> str | None:
    """Why the asker cannot be sent to the leader, or None."""
    if leader is None or age_seconds is None:
        return "no region is known to be active"
    if age_seconds >= view_seconds_max:
        return f"who is active was last confirmed {age_seconds:.1f} s ago"
    if leader.region == region:
        return "the coordination store still names this region"
    if not leader.serving or not leader.gateway_url:
        return f"region {leader.region} is taking over"
    if hopped:
        return f"region {leader.region} is active, and the request was passed on once already"
    return None


class Opening:
    """Whether the region's own processor has begun the term: seen in the rankings log, or said by the controller."""

    def __init__(self, rights: Rights, region: str, partitions: Callable[[], int]) -> None:
        self._rights = rights
        self._region = region
        self._partitions = partitions
        self._begun: dict[int, Epoch] = {}
        self._news = asyncio.Event()

    def on_epoch(self, partition: int, epoch: Epoch) -> None:
        """Something under this epoch stands in a partition of the own rankings log."""
        if epoch > self._begun.get(partition, NO_EPOCH):
            self._begun[partition] = epoch
            self.notice()

    def notice(self) -> None:
        """Something changed: whoever waits looks again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def wait(self, limit_seconds: float) -> bool:
        """Wait until the term has begun; False when it has not in time, or ended."""
        try:
            async with asyncio.timeout(limit_seconds):
                while self._rights.term().active:
                    news = self._news
                    if self.begun():
                        return True
                    await news.wait()
        except TimeoutError:
            pass
        return False

    def begun(self) -> bool:
        """Whether effects of the own term can be expected."""
        epoch, leader = self._rights.term().epoch, self._rights.leader
        if leader is None:
            return True
        if leader.region == self._region and leader.epoch == epoch and leader.serving:
            return True
        partitions = self._partitions()
        return partitions > 0 and sum(begun == epoch for begun in self._begun.values()) >= partitions
