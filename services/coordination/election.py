"""Holding the leader key: campaign, renew, resign, and what each unknown outcome means.

The key `LEADER` hangs on a lease and is created only if absent, so its create revision belongs to one holder and
together with the generation it is the epoch. In the same step the record is written once more, without a lease
(`terms.py`). Nothing here believes in itself: a key counts as ours only if it names this process *and* the lease that
this very claim was made with (a name alone would let a resumed or restarted process take an older key for its own), and
an answer that did not come means "not renewed", never "renewed".
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger
from services.coordination.base import ABSENT, CasConflict, CoordinationError, StoreDamaged, StoreUnavailable, Versioned
from services.coordination.epoch_seen import NOTHING_SEEN, Epoch, EpochSeen
from services.coordination.fence import NEVER, FenceTimes, Reading, act_until, clock_jump
from services.coordination.keys import GENERATION, LEADER, term_key
from services.coordination.lease import LeaseLost, LeaseStore

_CAS_TRIES: Final = 5

log = get_logger(__name__)


class LostRace(CoordinationError):
    """The campaign did not lead to a term: somebody else holds the key, or this one could not be used."""


class LeaderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The value of the leader key."""

    region: str
    instance: str
    """Of the controller process: another one after each start."""
    lease_id: int
    generation: int
    gateway_url: str
    acquired_ms: int
    cause: str
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class Candidacy:
    """Who campaigns, and why."""

    region: str
    instance: str
    gateway_url: str
    cause: str
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A term that this process won, until it ends in one way or another."""

    epoch: Epoch
    lease_id: int
    deadline: float
    """Act only before it, on `Clock.boottime`."""
    since: float


@dataclass(frozen=True, slots=True)
class _Claim:
    lease_id: int
    deadline: float


@dataclass(frozen=True, slots=True)
class _Leftover:
    """A lease that nobody uses any more."""

    not_before: float
    """Until then somebody may still act on a promise that was made under it; whoever comes next must wait."""
    until: float
    """It has ended by itself."""


class Election:
    """One process's side of the election. Not safe for concurrent campaigns; renewing beside anything is fine."""

    def __init__(self, store: LeaseStore, clock: Clock, seen: EpochSeen, ttl_seconds: float, times: FenceTimes) -> None:
        self._store = store
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._times = times
        self.seen = seen
        self._held: Held | None = None
        self._claim: _Claim | None = None
        self._leftovers: dict[int, _Leftover] = {}
        self._reading = self._read_clocks()
        self.lost_because = "it did not campaign yet"
        """Why there is no term now."""
        self.ended: Epoch = NOTHING_SEEN
        """The epoch of the last term that ended here; its key may still be seen for a while."""

    @property
    def held(self) -> Held | None:
        """The term, as long as nothing ended it; its deadline may have passed. Checks the clocks."""
        self._check_clocks()
        return self._held

    async def campaign(self, who: Candidacy) -> Held:
        """Try to become the holder.

        Raises LostRace, and StoreUnavailable when the outcome is unknown: campaign again, what was won is then found.
        """
        if any(self._clock.boottime() < each.not_before for each in self._leftovers.values()):
            raise LostRace(f"promises of an earlier term have not ended yet ({self.lost_because})")
        claim = await self._make_claim()
        generation = await self._generation_at_least(self.seen.epoch[0])
        record = LeaderRecord(
            region=who.region,
            instance=who.instance,
            lease_id=claim.lease_id,
            generation=generation,
            gateway_url=who.gateway_url,
            acquired_ms=self._clock.unix_ms(),
            cause=who.cause,
            operation_id=who.operation_id,
        )
        try:
            written = await self._store.compare_and_put(
                LEADER,
                msgspec.json.encode(record),
                ABSENT,
                lease_id=claim.lease_id,
                lasting_copy=term_key(who.instance, claim.lease_id),
            )
        except CasConflict:
            written, record = await self._found_instead(who, claim)
        except LeaseLost:
            self._claim = None
            raise LostRace("the lease ended before the campaign did") from None
        return await self._settle(written, record, claim)

    async def renew(self) -> None:
        """Renew the lease once, and end leases that are left over. Never raises for a store that is away."""
        await self.end_leftovers()
        held = self.held
        if held is None:
            return
        sent_at = self._clock.boottime()
        try:
            ttl_seconds = await self._store.keep_alive(held.lease_id)
            if sent_at >= held.deadline:
                await self._confirm(held)
        except LeaseLost:
            # While the answer was under way that term may have ended otherwise, and another one been won.
            if self._held is not None and self._held.lease_id == held.lease_id:
                self._drop(self._held, "the store says that the lease is gone", acts_until=NEVER)
            return
        except CoordinationError as problem:
            log.warning("the lease was not renewed", reason=str(problem))
            return
        current = self.held
        if current is None or current.lease_id != held.lease_id:
            return
        deadline = act_until(sent_at, ttl_seconds, self._times)
        self._held = replace(current, deadline=max(current.deadline, deadline))

    async def resign(self, because: str) -> None:
        """Stop holding, then let the key go; nobody may act any more. The store may be away: the lease then ends."""
        held = self._held
        if held is None:
            return
        self._drop(held, because, acts_until=NEVER)
        await self.end_leftovers()

    def forget(self, because: str) -> None:
        """Stop holding now; the lease is let go by `end_leftovers`, once nobody may act, or ends by itself."""
        if self._held is not None:
            self._drop(self._held, because, acts_until=NEVER)

    def heed(self, leader: Versioned | None, generation: int, revision: int) -> None:
        """Take note of what the store showed at `revision`; ends a term that the store contradicts."""
        if leader is not None and (record := _leader_or_none(leader)) is not None:
            self.seen.observe((record.generation, leader.create_revision), _holder(record))
        held = self._held
        if held is None:
            return
        if generation > held.epoch[0]:
            self._drop(held, f"the generation was raised to {generation}", acts_until=held.deadline)
        elif revision >= held.epoch[1] and (leader is None or leader.create_revision != held.epoch[1]):
            self._drop(held, "the leader key is no longer ours", acts_until=NEVER)
        else:
            self.heed_epoch(self.seen.epoch)

    def heed_epoch(self, epoch: Epoch) -> None:
        """Take note of an epoch that was met anywhere; a holder that meets a larger one than its own stops."""
        self.seen.observe(epoch)
        held = self._held
        if held is not None and self.seen.epoch > held.epoch:
            self._drop(held, f"a larger epoch was seen: {self.seen.epoch}", acts_until=held.deadline)

    async def _make_claim(self) -> _Claim:
        """Return a lease with at least half of its time left; one of unknown outcome is used again."""
        claim = self._claim
        if claim is not None and claim.deadline - self._clock.boottime() >= self._ttl_seconds / 2:
            return claim
        await self._give_back_claim()
        sent_at = self._clock.boottime()
        lease = await self._store.grant(self._ttl_seconds)
        self._claim = _Claim(lease.lease_id, act_until(sent_at, lease.ttl_seconds, self._times))
        return self._claim

    async def _found_instead(self, who: Candidacy, claim: _Claim) -> tuple[Versioned, LeaderRecord]:
        """Return the key when it is our own of a try whose answer was lost. Raises LostRace, StoreUnavailable."""
        found = await self._store.get(LEADER)
        if found is not None:
            record = read_leader(found)
            if record.instance == who.instance and record.lease_id == claim.lease_id:
                return found, record
            if record.instance == who.instance:
                self._leave(record.lease_id)
        await self._give_back_claim()
        await self.end_leftovers()
        raise LostRace("the leader key is held" if found else "the leader key was held and is free again")

    async def _settle(self, written: Versioned, record: LeaderRecord, claim: _Claim) -> Held:
        """Hold the new epoch against everything known before anybody acts under it."""
        epoch = (record.generation, written.create_revision)
        generation = await self._generation()
        if generation != record.generation or not self.seen.admits(epoch, _holder(record)):
            await self._give_back_claim()
            if generation == record.generation:
                generation = await self._generation_at_least(self.seen.epoch[0] + 1)
            raise LostRace(
                f"epoch {epoch} lies behind what was seen before ({self.seen.epoch}, generation {generation}): "
                "the store was restored or rebuilt"
            )
        self.seen.observe(epoch, _holder(record))
        self._claim = None
        now = self._clock.boottime()
        self._held = Held(epoch, claim.lease_id, claim.deadline, now)
        if self.held is None:
            raise LostRace(self.lost_because)
        return self._held

    async def _confirm(self, held: Held) -> None:
        """After a deadline that passed: act again only if the key never vanished meanwhile."""
        found = await self._store.get(LEADER)
        if found is None or found.create_revision != held.epoch[1]:
            raise LeaseLost("the leader key is no longer ours")

    async def _generation(self) -> int:
        found = await self._store.get(GENERATION)
        return 0 if found is None else _read_generation(found)

    async def _generation_at_least(self, wanted: int) -> int:
        """Return the generation, raised to `wanted` if it is smaller."""
        for _ in range(_CAS_TRIES):
            found = await self._store.get(GENERATION)
            generation = 0 if found is None else _read_generation(found)
            if generation >= wanted:
                return generation
            log.warning("raising the generation", before=generation, after=wanted)
            with suppress(CasConflict):
                await self._store.compare_and_put(
                    GENERATION, msgspec.json.encode(wanted), found.revision if found else ABSENT
                )
        raise StoreUnavailable(f"{GENERATION} was changed by others {_CAS_TRIES} times in a row")

    async def _give_back_claim(self) -> None:
        if self._claim is not None:
            self._leave(self._claim.lease_id)
            self._claim = None
        await self.end_leftovers()

    def _leave(self, lease_id: int, not_before: float = NEVER) -> None:
        """Have a lease revoked soon; after twice its time it has ended by itself."""
        until = self._clock.boottime() + 2 * self._ttl_seconds
        self._leftovers.setdefault(lease_id, _Leftover(not_before, until))

    async def end_leftovers(self) -> None:
        """Revoke leases that nobody uses, and under which nobody may act any more."""
        for lease_id, left in list(self._leftovers.items()):
            if self._clock.boottime() < left.not_before:
                continue
            try:
                await self._store.revoke(lease_id)
            except CoordinationError as problem:
                log.info("a lease could not be revoked", reason=str(problem))
                if self._clock.boottime() < left.until:
                    continue
            self._leftovers.pop(lease_id, None)

    def _drop(self, held: Held, because: str, *, acts_until: float) -> None:
        """End the term. `acts_until`: until when the region's processes may act on what they were promised."""
        log.warning("the term ended", epoch=held.epoch, reason=because)
        self._held = None
        self.ended = max(self.ended, held.epoch)
        # Let go at once, the key would be taken within milliseconds, beside those who still act.
        self._leave(held.lease_id, acts_until)
        self.lost_because = because

    def _check_clocks(self) -> None:
        before, self._reading = self._reading, self._read_clocks()
        jump = clock_jump(before, self._reading, self._times)
        if jump is None:
            return
        log.warning("the clocks parted", reason=jump)
        if self._held is not None:
            self._drop(self._held, jump, acts_until=self._held.deadline)
        if self._claim is not None:
            self._claim = replace(self._claim, deadline=NEVER)

    def _read_clocks(self) -> Reading:
        return Reading(self._clock.unix_ms(), self._clock.boottime())


def read_leader(found: Versioned) -> LeaderRecord:
    """Decode the leader key. Raises StoreDamaged."""
    try:
        return msgspec.json.decode(found.value, type=LeaderRecord)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{found.key} does not hold a leader ({error})") from error


def _holder(record: LeaderRecord) -> str:
    """The very claim: one process may hold several terms, and after a restore they could bear one number."""
    return f"{record.instance}/{record.lease_id:x}"


def _leader_or_none(found: Versioned) -> LeaderRecord | None:
    with suppress(StoreDamaged):
        return read_leader(found)
    return None


def _read_generation(found: Versioned) -> int:
    try:
        return msgspec.json.decode(found.value, type=int)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{found.key} does not hold a generation ({error})") from error
