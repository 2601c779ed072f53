"""The watches of the modelled etcd: each change once, in order, late by the network, and proof of life in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from region_sim.memory.etcd_members import ClientFaults, Member, Stream
from region_sim.memory.etcd_state import EtcdState
from region_sim.memory.kernel import Kernel
from region_sim.memory.network import Network
from services.coordination.base import StoreUnavailable
from services.coordination.lease import Change, Compacted

PROGRESS_SECONDS: Final = 0.4
"""How often a watch proves that it is alive; its client's patience is more than twice that."""


class Watches:
    """Serves all watches of all members."""

    def __init__(
        self,
        kernel: Kernel,
        network: Network,
        state: EtcdState,
        faults: Mapping[str, ClientFaults],
        knows_leader: Callable[[Member], bool],
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self._kernel = kernel
        self._network = network
        self._state = state
        self._faults = faults
        self._knows_leader = knows_leader
        self._progress_seconds = progress_seconds

    def open(self, stream: Stream, member: Member) -> None:
        """Send the wish for a watch to a member. Everything else the stream is told."""
        delay = self._network.passes(stream.client, member.site, is_etcd=True)
        if delay is not None:
            at = self._kernel.now + delay
            self._kernel.call_at(at, self._arrive, stream, member, context=self._kernel.outside)

    def tell(self, member: Member, *, also_idle: bool = False) -> None:
        """Tell the watches of a member what is new; `also_idle`: and those that were told nothing for a while."""
        if not member.streams:
            return
        now = self._kernel.now
        for stream in member.streams:
            if stream.position < member.applied or (also_idle and now - stream.told_at >= self._progress_seconds):
                self._tell(stream, member, now)
        if also_idle:
            member.streams = [stream for stream in member.streams if not stream.is_over]

    def end(self, member: Member, why: Exception, *, of_clients_at: str | None = None) -> int:
        """End all watches of a member, or those of the clients at one site, and return how many."""
        ending = [stream for stream in member.streams if of_clients_at in (None, stream.client)]
        for stream in ending:
            self._end(stream, member, why)
        member.streams = [stream for stream in member.streams if not stream.is_over]
        return len(ending)

    def forgotten(self) -> Compacted:
        """What a watch is told that asks for the forgotten past."""
        return Compacted(f"history before {self._state.compacted} is gone: list again, and watch from there")

    def _arrive(self, stream: Stream, member: Member) -> None:
        if not member.process.is_alive:
            self._end(stream, member, StoreUnavailable(f"{member.site}: nobody listens"))
        elif member.process.is_paused:
            self._kernel.call_soon(self._begin, stream, member, context=member.process.context)
        else:
            self._begin(stream, member)

    def _begin(self, stream: Stream, member: Member) -> None:
        if stream.is_over or self._faults[stream.client].silent_watches:
            return
        if not self._knows_leader(member):
            self._end(stream, member, StoreUnavailable(f"{member.site}: etcdserver: no leader"))
        elif stream.after_revision < self._state.compacted:
            self._end(stream, member, self.forgotten())
        else:
            stream.position = self._state.count_up_to(stream.after_revision)
            member.streams.append(stream)
            self._tell(stream, member, self._kernel.now)

    def _tell(self, stream: Stream, member: Member, now: float) -> None:
        """Send what is new, or that nothing is. What the network does not take is said again later."""
        if stream.is_over or self._faults[stream.client].silent_watches:
            return
        upto = max(stream.position, member.applied)
        batch = [
            change for change in self._state.changes[stream.position : upto] if change.key.startswith(stream.prefix)
        ]
        if batch and batch[0].revision < self._state.compacted:
            self._end(stream, member, self.forgotten())
            return
        if not batch and now - stream.told_at < self._progress_seconds:
            stream.position = upto
            return
        delay = self._network.passes(member.site, stream.client, is_etcd=True)
        if delay is not None:
            stream.position, stream.told_at = upto, now
            self._deliver(stream, batch, now + delay)

    def _end(self, stream: Stream, member: Member, why: Exception) -> None:
        if stream.is_over:
            return
        stream.has_ended = True
        delay = self._network.passes(member.site, stream.client, is_etcd=True)
        if delay is not None:
            self._deliver(stream, why, self._kernel.now + delay)

    def _deliver(self, stream: Stream, message: Sequence[Change] | Exception, at: float) -> None:
        stream.arrives_at = max(stream.arrives_at, at)
        self._kernel.call_at(stream.arrives_at, stream.deliver, message, context=self._kernel.outside)
