"""Who leads the modelled etcd: members that see each other or do not, elections, heartbeats, and the end of leases.

A leader is whoever a majority can talk with, and holds all that was committed. When it is gone for one to two election
times, another one is chosen; a leader that was started again is none. Every leader gives all leases their whole time
again, because nobody else knew when they would end.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

from region_sim.memory.etcd_members import ClientFaults, Member
from region_sim.memory.etcd_state import EtcdState
from region_sim.memory.etcd_watches import PROGRESS_SECONDS, Watches
from region_sim.memory.kernel import Kernel, Process
from region_sim.memory.network import Network
from services.coordination.base import StoreUnavailable

HEARTBEAT_SECONDS: Final = 0.25
"""Slower than etcd's: every one costs something, and elections take seconds here."""
HEARTBEATS_PER_ELECTION: Final = 6
"""Where members are far apart and elections last longer, heartbeats come less often, as etcd is set there."""
EXPIRY_EVERY_SECONDS: Final = 0.5
"""How often a leader looks for leases that have ended."""
REJOIN_SECONDS: Final = 1.0
"""What a wiped member needs to be taken in again and to get the leader's state."""
LEADERLESS_WATCH_ELECTIONS: Final = 3
"""After so many election times without a leader, a member ends its watches."""


class Leadership(ABC):
    """The members of a cluster, and which of them leads. Begins to live when it is made."""

    def __init__(
        self,
        kernel: Kernel,
        network: Network,
        sites: Sequence[str],
        draw: random.Random,
        *,
        election_seconds: float = 1.0,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self.sites = list(sites)
        self.stale_revocation = False
        """The bug of etcd before 3.5.13: a leader that was stopped, and deposed meanwhile, revokes what it believes to
        have ended, although its successor renewed it."""
        self.elections = 0
        self.state = EtcdState(kernel.time, ttl_minimum_seconds=float(math.ceil(1.5 * election_seconds)))
        self._kernel = kernel
        self._network = network
        self._draw = draw
        self._election_seconds = election_seconds
        self._heartbeat_seconds = max(HEARTBEAT_SECONDS, election_seconds / HEARTBEATS_PER_ELECTION)
        self._members = {site: Member(site, kernel.process(f"{site}/etcd")) for site in self.sites}
        self._others = {site: [self._members[other] for other in self.sites if other != site] for site in self.sites}
        self._majority = len(self.sites) // 2 + 1
        self._faults: dict[str, ClientFaults] = defaultdict(ClientFaults)
        self._term = 0
        self._commits = 0
        self._leader = draw.choice(self.sites)
        self._leading = self._members[self._leader].process
        """The process of that member which leads."""
        self._election_at: float | None = None
        self._expiry_at = 0.0
        self._watches = Watches(kernel, network, self.state, self._faults, self._knows_leader, progress_seconds)
        self._lead(self._leader)
        self._after(0.0, self._tick)

    @property
    def leader(self) -> str:
        """The site whose member leads a majority now; empty during an election."""
        return self._leader if self._election_at is None else ""

    def member(self, site: str) -> Member:
        """The member at a site: its process is what a drill stops and kills."""
        return self._members[site]

    def move_leader(self, to: str | None = None) -> bool:
        """Let another member lead (the given one, or one that is drawn); False when none can."""
        able = [site for site in self.sites if site != self._leader and to in (None, site) and self._can_lead(site)]
        if not able:
            return False
        self._lead(able[0] if len(able) == 1 else self._draw.choice(able))
        return True

    def restart(self, site: str) -> Process:
        """Start a member that was killed, and return its new process. Its data is what it was."""
        member = self._members[site]
        self._watches.end(member, StoreUnavailable(f"{site}: the watch ended"))
        self._kernel.kill(member.process)
        member.process = self._kernel.process(f"{site}/etcd")
        member.ends = {}
        member.may_revoke_stale = False
        member.heard_at = float("-inf")
        return member.process

    def wipe(self, site: str) -> None:
        """Kill a member and delete its data. After `restart` it has no vote until a leader has brought it up to date.

        Wiping a majority is the end of the cluster: nobody can say what was written.
        """
        member = self._members[site]
        self._watches.end(member, StoreUnavailable(f"{site}: the watch ended"))
        self._kernel.kill(member.process)
        member.is_empty = True
        member.holds = member.applied = 0

    def now_of(self, member: Member) -> float:
        """The time by which a member counts leases."""
        return self._kernel.now if member.clock is None else member.clock.boottime()

    @abstractmethod
    def _revoke(self, lease_id: int) -> None:
        """Let the leader end a lease."""

    def _lead(self, site: str) -> None:
        """A member begins to lead: every lease begins anew, and lasts an election longer."""
        old, new = self._members[self._leader], self._members[site]
        old.may_revoke_stale = old is not new and old.process.is_paused and old.process.is_alive
        self._leader = site
        self._leading = new.process
        self._election_at = None
        self._term += 1
        now = self.now_of(new)
        new.ends = {
            lease_id: now + lease.ttl_seconds + self._election_seconds for lease_id, lease in self.state.leases.items()
        }
        new.may_revoke_stale = False
        for member in self._reached_by(new):
            member.heard_at = self._kernel.now
        self._expiry_at = self._kernel.now + EXPIRY_EVERY_SECONDS
        self._apply(new, len(self.state.changes), self._commits)

    def _tick(self) -> None:
        """The leader's heartbeat, and what members notice when it does not come."""
        self._after(self._heartbeat_seconds, self._tick)
        now = self._kernel.now
        leader = self._members[self._leader]
        # A leader that was started again is none: it begins as everybody does.
        reached = self._reached_by(leader) if leader.process is self._leading else []
        if len(reached) >= self._majority:
            self._election_at = None
            self._beat(leader, reached, now)
        else:
            self._elect_when_due(now)
        for member in self._members.values():
            if not member.process.is_alive:
                if member.streams:
                    self._watches.end(member, StoreUnavailable(f"{member.site}: the watch ended"))
            elif member.is_up:
                self._look_after(member, now)

    def _beat(self, leader: Member, reached: list[Member], now: float) -> None:
        for member in reached:
            member.heard_at = now
        count, commits = len(self.state.changes), self._commits
        for other in self._others[leader.site]:
            if not other.is_up or not self._connected(leader, other):
                continue
            other.heard_at = now
            if other.is_empty:
                self._after(REJOIN_SECONDS, self._take_in, other, leader, self._term, of=other.process)
            elif other.holds < commits or other.applied < count:
                delay = self._network.passes(leader.site, other.site, is_etcd=True)
                if delay is not None:
                    self._after(delay, self._apply, other, count, commits, of=other.process)
        if now >= self._expiry_at:
            self._expiry_at = now + EXPIRY_EVERY_SECONDS
            today = self.now_of(leader)
            for lease_id in [found for found in self.state.leases if leader.ends.get(found, math.inf) <= today]:
                self._revoke(lease_id)

    def _look_after(self, member: Member, now: float) -> None:
        if member.may_revoke_stale:
            self._notice_successor(member)
        if now - member.heard_at > LEADERLESS_WATCH_ELECTIONS * self._election_seconds:
            self._watches.end(member, StoreUnavailable(f"{member.site}: etcdserver: no leader"))
        else:
            self._watches.tell(member, also_idle=True)

    def _notice_successor(self, member: Member) -> None:
        """A deposed leader goes on: in old versions it looked for ended leases before it looked whether it leads."""
        member.may_revoke_stale = False
        if not self.stale_revocation or not self._connected(member, self._members[self._leader]):
            return
        today = self.now_of(member)
        for lease_id in [found for found, end in member.ends.items() if end <= today]:
            self._revoke(lease_id)

    def _elect_when_due(self, now: float) -> None:
        if self._election_at is None:
            self._election_at = now + self._election_seconds * (1.0 + self._draw.random())
        if now < self._election_at:
            return
        able = [site for site in self.sites if self._can_lead(site)]
        if able:
            self.elections += 1
            self._lead(able[0] if len(able) == 1 else self._draw.choice(able))
        else:
            self._election_at = now + self._election_seconds / 2

    def _can_lead(self, site: str) -> bool:
        """Whether a majority would vote for it: it reaches one, and holds all that was committed."""
        member = self._members[site]
        return member.holds == self._commits and len(self._reached_by(member)) >= self._majority

    def _reached_by(self, member: Member) -> list[Member]:
        """The members with a vote that it can talk with, itself included; none when it is not up."""
        if not member.is_up or member.is_empty:
            return []
        others = self._others[member.site]
        return [member, *(one for one in others if one.is_up and not one.is_empty and self._connected(member, one))]

    def _connected(self, one: Member, other: Member) -> bool:
        if one is other:
            return True
        there, back = self._network.link(one.site, other.site), self._network.link(other.site, one.site)
        return not (there.is_cut or there.etcd_cut or back.is_cut or back.etcd_cut)

    def _knows_leader(self, member: Member) -> bool:
        return self._kernel.now - member.heard_at <= self._election_seconds

    def _take_in(self, member: Member, leader: Member, term: int) -> None:
        """A wiped member has the leader's state, and a vote."""
        if member.is_empty and term == self._term and self._connected(member, leader) and leader.is_up:
            member.is_empty = False
            self._apply(member, len(self.state.changes), self._commits)

    def _apply(self, member: Member, changes: int, commits: int) -> None:
        member.applied = max(member.applied, changes)
        member.holds = max(member.holds, commits)
        self._watches.tell(member)

    def _after(self, seconds: float, do: Callable[..., None], *given: Any, of: Process | None = None) -> None:
        """Do something later; as part of a process, if one is given: then it waits with it, and dies with it."""
        context = self._kernel.outside if of is None else of.context
        self._kernel.call_at(self._kernel.now + seconds, do, *given, context=context)
