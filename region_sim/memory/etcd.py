"""etcd as its clients see it: a leader, a majority, revisions, leases, watches, and all the ways in which they fail.

It is no Raft. One state machine holds what is committed; members, a modelled leader and the network decide who may
learn of it or change it, and when. What a client sees is what etcd could show it: every read is linearizable, a write
is committed once or never, an answer can get lost on its way back, a lease ends late and begins anew with every
leader, a watch tells each change once and in order or falls silent.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from region_sim.memory.etcd_client import Ask, EtcdStore, NoLeader, Operation
from region_sim.memory.etcd_lead import HEARTBEAT_SECONDS, Leadership
from region_sim.memory.etcd_members import ClientFaults, Member, Stream
from region_sim.memory.etcd_state import Tap
from region_sim.memory.kernel import Process
from region_sim.memory.network import Unreachable
from services.common.clock import Clock
from services.coordination.base import CoordinationError
from services.coordination.lease import LeaseLost

RETRIES_MAX: Final = 20
"""How often a leader tries, a heartbeat apart, to have a request confirmed; by then its client is long gone."""


class _BeingRevoked(Exception):
    """The lease has ended and is on its way out: it cannot be renewed any more, and is not gone yet."""


class EtcdModel(Leadership):
    """A cluster with one member at each site, one of which leads. Begins to live when it is made."""

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

    def observe(self, prefix: str) -> Tap:
        """Record every change under a prefix from now on, with the world's time, outside of all faults."""
        tap = Tap(prefix)
        self.state.taps.append(tap)
        return tap

    # What a drill does to it.

    def faults_of(self, site: str) -> ClientFaults:
        """What meets the clients of a site; set its switches."""
        return self._faults[site]

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
        if ask.client == site:
            # On one machine; the time that this takes is nothing beside what a majority takes.
            self._arrive(ask, self._members[site])
            return
        delay = self._network.passes(ask.client, site, is_etcd=True)
        if delay is not None:
            self._after(delay, self._arrive, ask, self._members[site])

    def open(self, stream: Stream, site: str) -> None:
        """Ask a member to serve a watch."""
        self._watches.open(stream, self._members[site])

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
        if leader is member:
            self._lead_request(ask, member, leader, 0)
            return
        delay = self._network.passes(member.site, leader.site, is_etcd=True)
        if delay is not None:
            self._after(delay, self._lead_request, ask, member, leader, 0, of=leader.process)

    def _lead_request(self, ask: Ask, member: Member, leader: Member, tries: int) -> None:
        """The leader takes a request, and asks a majority whether it still leads, or to write it down."""
        if leader.process is not self._leading:
            return
        heard = self._hear_majority(leader)
        if heard is None:
            if tries < RETRIES_MAX:
                self._after(HEARTBEAT_SECONDS, self._lead_request, ask, member, leader, tries + 1, of=leader.process)
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
            self._after(HEARTBEAT_SECONDS, self._lead_request, ask, member, leader, 0, of=leader.process)
            return
        self._answer(ask, member, leader, outcome)

    def _outcome(self, do: Operation, leader: Member) -> Any:
        try:
            return do(self.state, leader)
        except CoordinationError as refused:
            return refused

    def _answer(self, ask: Ask, member: Member, leader: Member, outcome: Any) -> None:
        if leader is member:
            self._reply(ask, member, outcome)
            return
        delay = self._network.passes(leader.site, member.site, is_etcd=True)
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

    def _revoke(self, lease_id: int) -> None:
        leader = self._members[self._leader]
        ask = Ask(leader.site, lambda state, _: state.revoke(lease_id), None, in_log=True, writes=False)
        self._lead_request(ask, leader, leader, 0)


def _arrived(answer: asyncio.Future[Any], outcome: Any) -> None:
    if not answer.done():
        answer.set_result(outcome)
