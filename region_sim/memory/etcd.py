"""etcd as its clients see it: a leader, a majority, revisions, leases, watches, and all the ways in which they fail.

It is no Raft. One state machine holds what is committed; members, a modelled leader and the network decide who may
learn of it or change it, and when. What a client sees is what etcd could show it: every read is linearizable, a write
is committed once or never, an answer can get lost on its way back, a lease ends late and begins anew with every
leader, a watch tells each change once and in order or falls silent.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from region_sim.memory.etcd_client import Ask, EtcdStore, NoLeader, Operation
from region_sim.memory.etcd_members import ClientFaults, Member, Stream
from region_sim.memory.etcd_state import EtcdState, Tap
from region_sim.memory.etcd_watches import Watches
from region_sim.memory.kernel import Kernel, Process
from region_sim.memory.network import Network, Unreachable
from services.common.clock import Clock
from services.coordination.base import CoordinationError, StoreUnavailable
from services.coordination.lease import LeaseLost

HEARTBEAT_SECONDS: Final = 0.1
EXPIRY_EVERY_SECONDS: Final = 0.5
"""How often a leader looks for leases that have ended."""
RETRIES_MAX: Final = 20
"""How often a leader tries, a heartbeat apart, to have a request confirmed; by then its client is long gone."""
REJOIN_SECONDS: Final = 1.0
"""What a wiped member needs to be taken in again and to get the leader's state."""
LEADERLESS_WATCH_ELECTIONS: Final = 3
"""After so many election times without a leader, a member ends its watches."""


class _BeingRevoked(Exception):
    """The lease has ended and is on its way out: it cannot be renewed any more, and is not gone yet."""


class EtcdModel:
    """A cluster with one member at each site, one of which leads. Begins to live when it is made."""

    def __init__(
        self,
        kernel: Kernel,
        network: Network,
        sites: Sequence[str],
        draw: random.Random,
        *,
        election_seconds: float = 1.0,
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
        self._members = {site: Member(site, kernel.process(f"{site}/etcd")) for site in self.sites}
        self._others = {site: [self._members[other] for other in self.sites if other != site] for site in self.sites}
        self._majority = len(self.sites) // 2 + 1
        self._faults = {site: ClientFaults() for site in self.sites}
        self._term = 0
        self._commits = 0
        self._leader = draw.choice(self.sites)
        self._leading = self._members[self._leader].process
        """The process of that member which leads."""
        self._election_at: float | None = None
        self._has_forgotten = False
        """The leader was started anew: it leads no more, nor knows when leases end, until it is elected again."""
        self._expiry_at = 0.0
        self._watches = Watches(kernel, network, self.state, self._faults, self._knows_leader)
        self._lead(self._leader)
        self._after(0.0, self._tick)

    # For clients and for whoever looks on.

    def store(
        self, site: str, process: Process | None = None, clock: Clock | None = None, **settings: float
    ) -> EtcdStore:
        """A store for clients at a site. `settings`: request_timeout_seconds, watch_silence_seconds.

        A shipped client measures its patience with the machine's elapsed time; here with the world's. `clock` is taken
        for the sake of drivers that measure otherwise.
        """
        del clock
        return EtcdStore(self, site, process, **settings)

    @property
    def leader(self) -> str:
        """The site whose member leads a majority now; empty during an election."""
        return self._leader if self._election_at is None else ""

    def member(self, site: str) -> Member:
        """The member at a site: its process is what a drill stops and kills."""
        return self._members[site]

    def observe(self, prefix: str) -> Tap:
        """Record every change under a prefix from now on, with the world's time, outside of all faults."""
        tap = Tap(prefix)
        self.state.taps.append(tap)
        return tap

    # What a drill does to it.

    def faults_of(self, site: str) -> ClientFaults:
        """What meets the clients of a site; set its switches."""
        return self._faults[site]

    def restart(self, site: str) -> Process:
        """Start a member that was killed, and return its new process. Its data is what it was."""
        member = self._members[site]
        self._watches.end(member, StoreUnavailable(f"{site}: the watch ended"))
        self._kernel.kill(member.process)
        member.process = self._kernel.process(f"{site}/etcd")
        member.ends = {}
        member.may_revoke_stale = False
        member.heard_at = float("-inf")
        self._has_forgotten = self._has_forgotten or site == self._leader
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

    def move_leader(self, to: str | None = None) -> bool:
        """Let another member lead (the given one, or one that is drawn); False when none can."""
        able = [site for site in self.sites if site != self._leader and to in (None, site) and self._can_lead(site)]
        if not able:
            return False
        self._lead(able[0] if len(able) == 1 else self._draw.choice(able))
        return True

    def compact(self, revision: int | None = None) -> None:
        """Forget what changed up to a revision (all of it by default). Who was not told yet never will be."""
        self.state.compact(self.state.table.revision if revision is None else revision)

    def fall_behind(self, site: str) -> int:
        """Compact while the watches of a site's clients lag: they end so, and have to list again. Returns how many."""
        self.compact()
        why = self._watches.forgotten()
        return sum(self._watches.end(member, why, of_clients_at=site) for member in self._members.values())

    def revoke_as_former_leader(self, site: str) -> int:
        """Do at once what `stale_revocation` does in time, to the leases of a site's clients. Returns how many."""
        if not self.leader:
            return 0
        wrongly = [lease_id for lease_id, lease in self.state.leases.items() if lease.site == site]
        for lease_id in wrongly:
            self._revoke(lease_id)
        return len(wrongly)

    # What a client's request goes through.

    def send(self, ask: Ask, site: str) -> None:
        """Send a request to a member. It may never be answered."""
        delay = self._network.passes(ask.client, site, is_etcd=True)
        if delay is not None:
            self._after(delay, self._arrive, ask, self._members[site])

    def open(self, stream: Stream, site: str) -> None:
        """Ask a member to serve a watch."""
        self._watches.open(stream, self._members[site])

    def now_of(self, member: Member) -> float:
        """The time by which a member counts leases."""
        return self._kernel.time() if member.clock is None else member.clock.boottime()

    def renew(self, leader: Member, lease_id: int) -> float:
        """What the leader does with a keep-alive. Raises LeaseLost."""
        lease = self.state.leases.get(lease_id)
        if lease is None:
            raise LeaseLost(f"the lease {lease_id:x} is gone")
        now = self.now_of(leader)
        if leader.ends.get(lease_id, now) <= now:
            raise _BeingRevoked
        leader.ends[lease_id] = now + lease.ttl_seconds
        return lease.ttl_seconds

    def _arrive(self, ask: Ask, member: Member) -> None:
        if not member.process.is_alive:
            self._reply(ask, member, Unreachable(f"nobody listens at {member.site}"))
        elif member.process.is_paused:
            self._kernel.call_soon(self._serve, ask, member, context=member.process.context)
        else:
            self._serve(ask, member)

    def _serve(self, ask: Ask, member: Member) -> None:
        if not self._knows_leader(member):
            self._reply(ask, member, NoLeader("etcdserver: no leader"))
            return
        leader = self._members[self._leader]
        delay = 0.0 if leader is member else self._network.passes(member.site, leader.site, is_etcd=True)
        if delay is not None:
            self._after(delay, self._lead_request, ask, member, leader, leader.process, 0, of=leader.process)

    def _lead_request(self, ask: Ask, member: Member, leader: Member, _process: Process, tries: int) -> None:
        """The leader takes a request, and asks a majority whether it still leads, or to write it down."""
        if leader.process is not self._leading:
            return
        heard = self._hear_majority(leader)
        if heard is None:
            if tries < RETRIES_MAX:
                self._after(
                    HEARTBEAT_SECONDS, self._lead_request, ask, member, leader, _process, tries + 1, of=leader.process
                )
            return
        written_after, known_after, writers = heard
        if ask.in_log:
            wait = known_after - written_after
            self._after(written_after, self._commit, ask, member, leader, leader.process, self._term, wait, writers)
        else:
            self._after(known_after, self._do, ask, member, leader, self._term, of=leader.process)

    def _hear_majority(self, leader: Member) -> tuple[float, float, list[Member]] | None:
        """Seconds until a majority has a message, until the leader knows it, and who is of it; None without one."""
        needed = self._majority - 1
        heard: list[tuple[float, int, float, Member]] = []
        for number, other in enumerate(self._others[leader.site]):
            if not other.is_up or other.is_empty:
                continue
            there = self._network.passes(leader.site, other.site, is_etcd=True)
            back = self._network.passes(other.site, leader.site, is_etcd=True)
            if there is not None and back is not None:
                heard.append((there + back, number, there, other))
        if leader.is_empty or len(heard) < needed:
            return None
        nearest = sorted(heard, key=lambda one: one[:2])[:needed]
        written_after = max((there for _, _, there, _ in nearest), default=0.0)
        return written_after, nearest[-1][0] if nearest else 0.0, [other for *_, other in nearest]

    def _commit(
        self,
        ask: Ask,
        member: Member,
        leader: Member,
        process: Process,
        term: int,
        wait: float,
        writers: list[Member],
    ) -> None:
        """A majority has it: it is done, whatever becomes of the leader. Unless another one led before."""
        if term != self._term:
            return
        before = len(self.state.changes)
        outcome = self._outcome(ask.do, leader)
        self._commits += 1
        for one in (leader, *writers):
            one.holds = self._commits
        if len(self.state.changes) > before:
            self._spread(leader, wait)
        if ask.answer is not None:
            self._after(wait, self._answer, ask, member, leader, outcome, of=process)

    def _do(self, ask: Ask, member: Member, leader: Member, term: int) -> None:
        """The leader has heard that it still leads: what it does now is as of now."""
        if term != self._term:
            return
        try:
            outcome = self._outcome(ask.do, leader)
        except _BeingRevoked:
            self._after(
                HEARTBEAT_SECONDS, self._lead_request, ask, member, leader, leader.process, 0, of=leader.process
            )
            return
        self._answer(ask, member, leader, outcome)

    def _outcome(self, do: Operation, leader: Member) -> Any:
        try:
            return do(self.state, leader)
        except CoordinationError as refused:
            return refused

    def _answer(self, ask: Ask, member: Member, leader: Member, outcome: Any) -> None:
        delay = 0.0 if leader is member else self._network.passes(leader.site, member.site, is_etcd=True)
        if delay is not None:
            self._after(delay, self._reply, ask, member, outcome, of=member.process)

    def _reply(self, ask: Ask, member: Member, outcome: Any) -> None:
        share = self._faults[ask.client].lost_reply_share if ask.writes else 0.0
        if share > 0.0 and self._draw.random() < share:
            return
        delay = self._network.passes(member.site, ask.client, is_etcd=True)
        if delay is not None and ask.answer is not None:
            self._after(delay, _arrived, ask.answer, outcome)

    def _spread(self, leader: Member, wait: float) -> None:
        """Let every member know what was committed, as soon as the leader knows it and can say so."""
        count, commits = len(self.state.changes), self._commits
        self._after(wait, self._apply, leader, count, commits, of=leader.process)
        for other in self._others[leader.site]:
            delay = self._network.passes(leader.site, other.site, is_etcd=True)
            if delay is not None and not other.is_empty:
                self._after(wait + delay, self._apply, other, count, commits, of=other.process)

    def _apply(self, member: Member, changes: int, commits: int) -> None:
        member.applied = max(member.applied, changes)
        member.holds = max(member.holds, commits)
        self._watches.tell(member)

    # Who leads.

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
            member.heard_at = self._kernel.time()
        self._expiry_at = self._kernel.time() + EXPIRY_EVERY_SECONDS
        self._apply(new, len(self.state.changes), self._commits)

    def _tick(self) -> None:
        """The leader's heartbeat, and what members notice when it does not come."""
        self._after(HEARTBEAT_SECONDS, self._tick)
        now = self._kernel.time()
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

    def _revoke(self, lease_id: int) -> None:
        leader = self._members[self._leader]
        ask = Ask(leader.site, lambda state, _: state.revoke(lease_id), None, in_log=True, writes=False)
        self._lead_request(ask, leader, leader, leader.process, 0)

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
        return one is other or all(
            not (link.is_cut or link.etcd_cut)
            for link in (self._network.link(one.site, other.site), self._network.link(other.site, one.site))
        )

    def _knows_leader(self, member: Member) -> bool:
        return self._kernel.time() - member.heard_at <= self._election_seconds

    def _take_in(self, member: Member, leader: Member, term: int) -> None:
        """A wiped member has the leader's state, and a vote."""
        if member.is_empty and term == self._term and self._connected(member, leader) and leader.is_up:
            member.is_empty = False
            self._apply(member, len(self.state.changes), self._commits)

    def _after(self, seconds: float, do: Callable[..., None], *given: Any, of: Process | None = None) -> None:
        """Do something later; as part of a process, if one is given: then it waits with it, and dies with it."""
        context = self._kernel.outside if of is None else of.context
        self._kernel.call_at(self._kernel.time() + seconds, do, *given, context=context)


def _arrived(answer: asyncio.Future[Any], outcome: Any) -> None:
    if not answer.done():
        answer.set_result(outcome)
