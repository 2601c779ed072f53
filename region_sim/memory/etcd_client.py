"""The modelled etcd as a process sees it: a LeaseStore that asks the members in turn, as the shipped one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from region_sim.memory.etcd_members import Member, Stream
from region_sim.memory.etcd_state import Conflict, EtcdState
from region_sim.memory.kernel import Process, running_process
from region_sim.memory.network import Unreachable
from services.coordination.base import StoreUnavailable, Versioned
from services.coordination.etcd import WATCH_SILENCE_SECONDS, WRITE_PATIENCE
from services.coordination.etcd_transport import UnknownOutcome
from services.coordination.lease import NO_LEASE, Change, Guard, Lease

if TYPE_CHECKING:
    from region_sim.memory.etcd import EtcdModel

Operation = Callable[[EtcdState, Member], Any]
"""What the leader does with a request."""
_SILENT: Final = object()


class NoLeader(StoreUnavailable):
    """Refused at the door: nothing happened."""


class Ask:
    """One request to one member."""

    __slots__ = ("answer", "client", "do", "in_log", "writes")

    def __init__(
        self, client: str, do: Operation, answer: asyncio.Future[Any] | None, *, in_log: bool, writes: bool
    ) -> None:
        self.client = client
        self.do = do
        self.answer = answer
        self.in_log = in_log
        """Committed by a majority; otherwise done by a leader that has just heard from one."""
        self.writes = writes
        """Whether anything can differ for having been asked."""


class EtcdStore:
    """A LeaseStore for the clients of one site."""

    def __init__(
        self,
        model: EtcdModel,
        site: str,
        process: Process | None = None,
        *,
        request_timeout_seconds: float = 0.3,
        watch_silence_seconds: float = WATCH_SILENCE_SECONDS,
    ) -> None:
        self.request_timeout_seconds = request_timeout_seconds
        self._model = model
        self._site = site
        self._process = process
        self._watch_silence_seconds = watch_silence_seconds
        self._order = sorted(model.sites, key=lambda name: name != site)
        self._first = 0

    @property
    def preferred(self) -> str:
        """The site whose member is asked first: that answered last."""
        return self._order[self._first]

    async def get(self, key: str) -> Versioned | None:
        """See KeyValueStore."""
        found: Versioned | None = await self._ask(lambda state, _: state.table.entries.get(key))
        return found

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""
        found: list[Versioned] = await self._ask(lambda state, _: state.table.list(prefix))
        return found

    async def compare_and_put(
        self,
        key: str,
        value: bytes,
        expected_revision: int,
        *,
        lease_id: int = NO_LEASE,
        guard: Guard | None = None,
        lasting_copy: str = "",
    ) -> Versioned:
        """See LeaseStore."""
        outcome, doubt = await self._ask_noting_doubt(
            lambda state, _: state.put(key, value, expected_revision, lease_id, guard, lasting_copy),
            in_log=True,
            writes=True,
        )
        if isinstance(outcome, Conflict):
            found = outcome.found
            is_ours = doubt and lease_id != NO_LEASE and outcome.lease_id == lease_id
            if is_ours and found is not None and found.value == value:
                return found
            raise _conflict(key, outcome, doubt=doubt)
        written: Versioned = outcome
        return written

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """See KeyValueStore."""
        outcome, doubt = await self._ask_noting_doubt(
            lambda state, _: state.delete(key, expected_revision), in_log=True, writes=True
        )
        if isinstance(outcome, Conflict):
            raise _conflict(key, outcome, doubt=doubt)

    async def grant(self, ttl_seconds: float) -> Lease:
        """See LeaseStore. A lease whose answer was lost is nobody's, and ends by itself."""

        def do(state: EtcdState, leader: Member) -> Lease:
            lease_id, ttl = state.grant(ttl_seconds, self._site)
            leader.ends[lease_id] = self._model.now_of(leader) + ttl
            return Lease(lease_id, ttl)

        lease: Lease = await self._ask(do, in_log=True, writes=True)
        return lease

    async def keep_alive(self, lease_id: int) -> float:
        """See LeaseStore."""
        ttl: float = await self._ask(lambda _, leader: self._model.renew(leader, lease_id), writes=True)
        return ttl

    async def revoke(self, lease_id: int) -> None:
        """See LeaseStore."""
        await self._ask(lambda state, _: state.revoke(lease_id), in_log=True, writes=True)

    async def revision(self) -> int:
        """See LeaseStore."""
        revision: int = await self._ask(lambda state, _: state.table.revision)
        return revision

    async def watch(self, prefix: str, after_revision: int) -> AsyncIterator[Sequence[Change]]:
        """See LeaseStore. One member serves a watch; when it fails, another is asked first by the next one."""
        member = self.preferred
        stream = Stream(self._site, prefix, after_revision, self._process or running_process())
        self._model.open(stream, member)
        try:
            while True:
                message = await stream.next(self._watch_silence_seconds)
                if message is None:
                    raise StoreUnavailable(f"{member}: the watch was silent for {self._watch_silence_seconds:g} s")
                if isinstance(message, Exception):
                    raise message
                yield message
        except StoreUnavailable:
            self._avoid(member)
            raise
        finally:
            stream.is_closed = True

    async def close(self) -> None:
        """See LeaseStore."""

    def cluster(self) -> ModelCluster:
        """The cluster itself, as seen from here."""
        return ModelCluster(self._model, self)

    async def _ask(self, do: Operation, *, in_log: bool = False, writes: bool = False) -> Any:
        outcome, _ = await self._ask_noting_doubt(do, in_log=in_log, writes=writes)
        return outcome

    async def _ask_noting_doubt(self, do: Operation, *, in_log: bool = False, writes: bool = False) -> tuple[Any, bool]:
        """The first answer, and whether an earlier member may have done it without saying so.

        A Conflict is an answer. Raises LeaseLost, StoreUnavailable; UnknownOutcome when somebody may have done it.
        """
        loop = asyncio.get_running_loop()
        limit = self.request_timeout_seconds * (WRITE_PATIENCE if in_log else 1.0)
        said: list[str] = []
        doubt = False
        first = self._first
        for step in range(len(self._order)):
            number = (first + step) % len(self._order)
            member = self._order[number]
            answer: asyncio.Future[Any] = loop.create_future()
            timer = loop.call_later(limit, _give_up, answer)
            self._model.send(Ask(self._site, do, answer, in_log=in_log, writes=writes), member)
            try:
                outcome = await answer
            finally:
                timer.cancel()
            if outcome is _SILENT:
                said.append(f"{member}: no answer in time")
                doubt = True
            elif isinstance(outcome, Unreachable | NoLeader):
                said.append(f"{member}: {outcome}")
            else:
                self._first = number
                if isinstance(outcome, Exception) and not isinstance(outcome, Conflict):
                    raise outcome
                return outcome, doubt
        self._first = (self._first + 1) % len(self._order)
        raise (UnknownOutcome if doubt else StoreUnavailable)(f"no etcd member answered. {'; '.join(said)}")

    def _avoid(self, member: str) -> None:
        if self.preferred == member:
            self._first = (self._first + 1) % len(self._order)


class ModelCluster:
    """What the shipped `Placement` wants of an EtcdCluster."""

    def __init__(self, model: EtcdModel, store: EtcdStore) -> None:
        self._model = model
        self._store = store

    async def leader(self) -> str | None:
        """See EtcdCluster."""
        await self._store.revision()
        return self._model.leader or None

    async def move_leader(self, site: str) -> bool:
        """See EtcdCluster."""
        await self._store.revision()
        return self._model.leader == site or self._model.move_leader(site)

    async def promote_ready_learners(self) -> list[str]:
        """See EtcdCluster. The model gives a vote to who has caught up."""
        await self._store.revision()
        return []


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_result(_SILENT)


def _conflict(key: str, conflict: Conflict, *, doubt: bool) -> Exception:
    if doubt:
        return StoreUnavailable(f"{key}: an answer was lost, and the key has changed since: read it again")
    return conflict
