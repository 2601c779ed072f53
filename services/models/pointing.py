"""Moving an alias: `promote` to a version, `rollback` to what stood there before.

The move is one compare-and-set in the coordination store; before it the old version is named, after it the new one, and
there is no moment between. So whoever is killed on the way has promoted or has not, and the same command again finishes
or changes nothing. What is checked before the move is what every worker checks once more before it serves.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from services.coordination import CoordinationError, KeyValueStore, StoreUnavailable
from services.coordination.model_records import (
    ALIASES,
    CHAMPION,
    AliasMoved,
    AliasRecord,
    VersionRecord,
    alias,
    point_alias,
    rollback_target,
    version_record,
)
from services.models.errors import BadRequest, NotDone, Unreachable
from services.models.premises import Premises
from services.models.proving import prove
from services.models.pushing import pin_champion, register_here
from services.models.workers import RegionSays, Say, wait_until_served

_UNKNOWN_SECONDS: Final = 10.0
_UNKNOWN_POLL_SECONDS: Final = 0.3


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a promotion or a rollback."""

    model: str
    alias: str
    version: str
    sha256: str
    before: str
    """The version that the alias named before; empty: none, or the same."""
    regions: list[RegionSays]
    """What each region's worker says; empty when nobody was asked."""


async def promote(
    premises: Premises, version: str, name: str, *, expected: str, wait_seconds: float, say: Say
) -> Moved:
    """Point an alias at a registered version that passes every check here.

    `expected`: only if the alias names this version now; empty: whatever it names. Raises BadRequest, VersionRefused,
    NotDone, Unreachable, StoreUnavailable, StoreDamaged; in all cases the alias is as it was, but for Unreachable.
    """
    _known_alias(name)
    async with premises.store() as store:
        record = await _registered_and_proved(store, premises, version, say)
        if name == CHAMPION:
            await pin_champion(store, premises, say)
        before = await alias(store, premises.model, name)
        _as_expected(before, expected, name)
        after = await _move(store, premises, name, record, before, rollback=False)
    return await _moved(premises, name, after, before, wait_seconds, say)


async def rollback(premises: Premises, name: str, *, expected: str, wait_seconds: float, say: Say) -> Moved:
    """Point an alias back at what it named before. Raises as `promote`."""
    _known_alias(name)
    async with premises.store() as store:
        before = await alias(store, premises.model, name)
        _as_expected(before, expected, name)
        target = None if before is None else rollback_target(before)
        if target is None:
            raise BadRequest(f"{name} of {premises.model} never named another version: there is nothing to go back to")
        record = await _registered_and_proved(store, premises, target.version, say)
        after = await _move(store, premises, name, record, before, rollback=True)
    return await _moved(premises, name, after, before, wait_seconds, say)


async def _registered_and_proved(store: KeyValueStore, premises: Premises, version: str, say: Say) -> VersionRecord:
    """The record of a version that lies here and passes every check; a shipped one is registered now."""
    record = await version_record(store, premises.model, version)
    folder = premises.folder(version)
    say(f"proves {premises.model}/{version}: sums, signature, golden set, every batch shape")
    await asyncio.to_thread(prove, premises, folder, record.sha256 if record is not None else "")
    return record if record is not None else await register_here(store, premises, version)


async def _move(
    store: KeyValueStore,
    premises: Premises,
    name: str,
    record: VersionRecord,
    before: AliasRecord | None,
    *,
    rollback: bool,
) -> AliasRecord:
    expected = before.version if before is not None else None
    at_ms = premises.clock.unix_ms()
    deadline = premises.clock.monotonic() + _UNKNOWN_SECONDS
    try:
        return await point_alias(
            store,
            premises.model,
            name,
            record.version,
            expected=expected,
            at_ms=at_ms,
            by=premises.by,
            rollback=rollback,
        )
    except AliasMoved as moved:
        raise NotDone(str(moved)) from moved
    except StoreUnavailable as problem:
        unknown: CoordinationError = problem
    while premises.clock.monotonic() < deadline:
        try:
            now = await alias(store, premises.model, name)
        except StoreUnavailable as problem:
            unknown = problem
            await premises.clock.sleep(_UNKNOWN_POLL_SECONDS)
            continue
        if now is not None and now.version == record.version:
            return now
        raise NotDone(f"{name} was not moved: {unknown}. Try again when the store answers.")
    raise Unreachable(
        f"it is not known whether {name} was moved: {unknown}. `meridian models list` shows it once the store answers; "
        f"with `--expect {expected or 'none'}` the same command changes nothing if it was."
    )


async def _moved(
    premises: Premises, name: str, after: AliasRecord, before: AliasRecord | None, wait_seconds: float, say: Say
) -> Moved:
    regions: list[RegionSays] = []
    if name == CHAMPION and wait_seconds > 0:
        say(f"champion is {premises.model}/{after.version} now; waits up to {wait_seconds:g} s for the workers")
        regions = await wait_until_served(
            premises.regions, premises.model, after.version, after.sha256, premises.clock, wait_seconds, say
        )
    former = before.version if before is not None and before.version != after.version else ""
    return Moved(
        model=premises.model,
        alias=name,
        version=after.version,
        sha256=after.sha256,
        before=former,
        regions=regions,
    )


def _as_expected(before: AliasRecord | None, expected: str, name: str) -> None:
    now = before.version if before is not None else "none"
    if expected and expected != now:
        raise NotDone(
            f"{name} is {now}, not {expected}: nothing was changed. `meridian models list` shows the aliases."
        )


def _known_alias(name: str) -> None:
    if name not in ALIASES:
        raise BadRequest(f"there is no alias {name[:40]!r}. There are: {', '.join(ALIASES)}")
