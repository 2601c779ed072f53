"""What the regions agree on about models: which content a version number stands for, and where the aliases point.

A number is bound to a content (the manifest's sha256, which names every file) once and for all: its record is created
and never changed, so no two regions can mean different models by `ranker/3`. An alias moves by compare-and-set: whoever
moves it names the version that it expects to replace, so two operators at once cannot undo each other unseen, and there
is no moment without a champion. The alias carries the sha256 as well: a worker knows what it must serve without asking
anything else.

Watch `watch_prefix(model)` for changes; `alias_from` reads what the watch brings.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from services.coordination.base import ABSENT, CasConflict, CoordinationError, KeyValueStore, StoreDamaged, Versioned

ALIASES: Final = ("champion", "challenger", "shadow")
CHAMPION: Final = "champion"
HISTORY_MAX: Final = 100
_CAS_TRIES: Final = 50

_T = TypeVar("_T")


class VersionTaken(CoordinationError):
    """The number stands for another content already."""


class VersionUnknown(CoordinationError):
    """No content is registered under this number."""


class AliasMoved(CoordinationError):
    """The alias does not point where the caller thought: look again, decide again."""


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a version's number stands for; created once, never changed."""

    version: str
    sha256: str
    """Of the manifest, 64 hex digits."""
    size_bytes: int
    """Of all its files together."""
    at_ms: int
    by: str


class AliasChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an alias."""

    version: str
    sha256: str = ""
    """Empty in records of releases that knew none."""
    at_ms: int
    by: str
    rollback: bool = False
    """Whether it went back to what was before, instead of forward to something else."""


class AliasRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alias points, and every change that led there (newest first, at most 100)."""

    version: str
    sha256: str = ""
    at_ms: int = 0
    by: str = ""
    history: list[AliasChange]


def models_prefix() -> str:
    """Under which key everything about all models stands."""
    return "/meridian/models/"


def watch_prefix(model: str) -> str:
    """Under which keys the aliases of a model stand: what a worker watches."""
    return f"{models_prefix()}{model}/aliases/"


def alias_name(key: str) -> str:
    """The alias (`champion`) whose key this is."""
    return key.rpartition("/")[2]


def alias_from(found: Versioned) -> AliasRecord:
    """Read what a watch or a listing brought. Raises StoreDamaged."""
    return _decode(found, AliasRecord)


async def alias(store: KeyValueStore, model: str, name: str) -> AliasRecord | None:
    """Return where an alias points, None when it was never set. Raises StoreUnavailable, StoreDamaged."""
    found = await store.get(watch_prefix(model) + name)
    return None if found is None else alias_from(found)


async def aliases(
    store: KeyValueStore, model: str, on_damaged: Callable[[str, str], None] | None = None
) -> dict[str, AliasRecord]:
    """Return all aliases of a model that were ever set. Raises StoreUnavailable, StoreDamaged.

    With `on_damaged` an alias that cannot be read is left out and told (name, reason); the champion's still raises: who
    follows the champion must not lose it to what a newer release wrote beside it.
    """
    found: dict[str, AliasRecord] = {}
    for entry in await store.list(watch_prefix(model)):
        name = alias_name(entry.key)
        try:
            found[name] = alias_from(entry)
        except StoreDamaged as problem:
            if on_damaged is None or name == CHAMPION:
                raise
            on_damaged(name, str(problem))
    return found


async def versions(store: KeyValueStore, model: str) -> list[VersionRecord]:
    """Return every registered version, smallest number first. Raises StoreUnavailable, StoreDamaged."""
    found = [_decode(entry, VersionRecord) for entry in await store.list(_versions_prefix(model))]
    return sorted(found, key=lambda record: int(record.version))


async def version_record(store: KeyValueStore, model: str, version: str) -> VersionRecord | None:
    """Return what a number stands for, None when it is free. Raises StoreUnavailable, StoreDamaged."""
    found = await store.get(_versions_prefix(model) + version)
    return None if found is None else _decode(found, VersionRecord)


async def register_version(store: KeyValueStore, model: str, record: VersionRecord) -> VersionRecord:
    """Bind a number to a content, once; return what stands there, which for the same content is the first record.

    Safe to repeat after an unknown outcome. Raises VersionTaken for another content, StoreUnavailable, StoreDamaged.
    """
    try:
        await store.compare_and_put(_versions_prefix(model) + record.version, msgspec.json.encode(record), ABSENT)
    except CasConflict:
        standing = await version_record(store, model, record.version)
        if standing is None:
            raise
        if standing.sha256 != record.sha256:
            raise VersionTaken(
                f"{model}/{record.version} stands for the content {standing.sha256[:12]} already, registered by "
                f"{standing.by}; this one is {record.sha256[:12]}. A number never changes its content: take the next."
            ) from None
        return standing
    return record


async def point_alias(
    store: KeyValueStore,
    model: str,
    name: str,
    version: str,
    *,
    expected: str | None,
    at_ms: int,
    by: str,
    rollback: bool = False,
) -> AliasRecord:
    """Point an alias at a registered version, if it still points at the version `expected` (None: was never set).

    Pointing where it points already changes nothing, so the call can be repeated after an unknown outcome. Raises
    VersionUnknown, AliasMoved, StoreUnavailable (it is unknown whether it moved), StoreDamaged.
    """
    record = await version_record(store, model, version)
    if record is None:
        raise VersionUnknown(
            f"{model}/{version} is not registered. `meridian models list` shows what is; `meridian models push FOLDER` "
            "registers a version."
        )
    key = watch_prefix(model) + name
    for _ in range(_CAS_TRIES):
        found = await store.get(key)
        before = None if found is None else alias_from(found)
        if before is not None and (before.version, before.sha256) == (version, record.sha256):
            return before
        if (before.version if before else None) != expected:
            raise AliasMoved(
                f"{name} of {model} is {before.version if before else 'not set'}, not "
                f"{expected or 'unset'} as it was when this began: somebody else moved it. Look, and decide again."
            )
        change = AliasChange(version=version, sha256=record.sha256, at_ms=at_ms, by=by, rollback=rollback)
        history = [change, *(before.history if before else [])][:HISTORY_MAX]
        after = AliasRecord(version=version, sha256=record.sha256, at_ms=at_ms, by=by, history=history)
        try:
            await store.compare_and_put(key, msgspec.json.encode(after), found.revision if found else ABSENT)
        except CasConflict:
            continue
        return after
    raise CasConflict(f"{key} was changed by others {_CAS_TRIES} times in a row; something is writing it in a loop")


def rollback_target(record: AliasRecord) -> AliasChange | None:
    """Return where a rollback leads: what stood there before, also below earlier rollbacks; None at the first.

    Going back twice goes back two steps: to undo a rollback is a promotion, and never happens by itself.
    """
    stood: list[AliasChange] = []
    for change in reversed(record.history):
        if not change.rollback and not (stood and stood[-1].version == change.version):
            stood.append(change)
        elif change.rollback and stood:
            stood.pop()
    return stood[-2] if len(stood) > 1 else None


def _versions_prefix(model: str) -> str:
    return f"{models_prefix()}{model}/versions/"


def _decode(found: Versioned, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(found.value, type=shape)
    except msgspec.DecodeError as error:
        raise StoreDamaged(
            f"{found.key} does not hold what it should ({error}); a newer release may have written it"
        ) from error
