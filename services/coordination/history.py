"""What happened to the deployment, in an order that nobody can rewrite unseen: a chain of hashed entries.

One key an entry, numbered from 1 without gaps; each carries the hash of the one before. Appending is "create the next
number", which the store grants once, so two controllers at once make two entries, never a fork. Changing, removing or
slipping in an entry breaks the chain at a place that `verify` names. What the chain alone cannot show is a tail that
was cut off; an entry's number that somebody has seen (in a receipt, in a log) does.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from services.coordination.base import ABSENT, CasConflict, KeyValueStore, StoreDamaged
from services.coordination.keys import HISTORY

_CAS_TRIES = 50
_DIGITS = 12
FIRST_PREVIOUS = "0" * 64


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    sequence: int
    """From 1."""
    at_ms: int
    """Unix ms of whoever wrote it."""
    region: str
    """Whose controller wrote it."""
    kind: str
    """`acquired`, `resigned`, `switchover`, `failover`, `pause`, `resume`, `receipt`, ..."""
    sentence: str
    """What happened, in words."""
    by: str = ""
    """The operator, where there is one."""
    epoch: tuple[int, int] | None = None
    operation_id: str = ""
    """Appending twice under the same operation and kind makes one entry; empty: never the same."""
    token: str = ""
    """Of one thing that one process had to say: appending it twice makes one entry; empty: never the same."""
    previous: str
    """Hash of the entry before, 64 hex digits."""
    digest: str = ""
    """SHA-256 of this entry's other fields that are not empty, as JSON with sorted names."""


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/history` on a controller."""

    entries: list[Entry]
    """Oldest first."""
    broken: str = ""
    """Where the chain is broken; empty when it is whole."""


class History:
    """The history of a deployment."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self._last: Entry | None = None

    async def append(
        self,
        *,
        at_ms: int,
        region: str,
        kind: str,
        sentence: str,
        by: str = "",
        epoch: tuple[int, int] | None = None,
        operation_id: str = "",
        token: str = "",
    ) -> Entry:
        """Add an entry after the last one and return it.

        Raises StoreUnavailable when it is unknown whether it was added; with an `operation_id` or a `token` it can be
        tried again.
        """
        # An operation's entry may lie anywhere: it is looked for, as operations are rare.
        last = None if operation_id else self._last
        for _ in range(_CAS_TRIES):
            if last is None:
                known = await self.entries()
                done = [entry for entry in known if _same(entry, operation_id, kind, token)]
                if done:
                    return done[-1]
                last = known[-1] if known else None
            entry = _sealed(
                Entry(
                    sequence=1 if last is None else last.sequence + 1,
                    at_ms=at_ms,
                    region=region,
                    kind=kind,
                    sentence=sentence,
                    by=by,
                    epoch=epoch,
                    operation_id=operation_id,
                    token=token,
                    previous=FIRST_PREVIOUS if last is None else last.digest,
                )
            )
            try:
                await self._store.compare_and_put(_key(entry.sequence), msgspec.json.encode(entry), ABSENT)
            except CasConflict:
                last = None  # others went on, perhaps by many entries, or this one is there from an earlier try
                continue
            self._last = entry
            return entry
        raise CasConflict(f"{HISTORY} grew by {_CAS_TRIES} entries of others while one was to be added")

    async def entries(self) -> list[Entry]:
        """Return all of it, oldest first. Raises StoreUnavailable, StoreDamaged."""
        return [_decode(entry.key, entry.value) for entry in await self._store.list(HISTORY)]


def verify(entries: Sequence[Entry]) -> str | None:
    """Return which entry is broken and how, None when the chain is whole."""
    previous = FIRST_PREVIOUS
    for number, entry in enumerate(entries, start=1):
        if entry.sequence != number:
            return f"entry {number} is missing: entry {entry.sequence} stands in its place"
        if entry.previous != previous:
            return f"entry {number} does not follow entry {number - 1}: that one was replaced, or this one slipped in"
        if _sealed(entry).digest != entry.digest:
            return f"entry {number} was changed after it was written"
        previous = entry.digest
    return None


def _same(entry: Entry, operation_id: str, kind: str, token: str) -> bool:
    if token and entry.token == token:
        return True
    return bool(operation_id) and (entry.operation_id, entry.kind) == (operation_id, kind)


def _sealed(entry: Entry) -> Entry:
    # Without what is empty: a field that a later release adds must not change the hashes of earlier entries.
    said = {name: value for name, value in msgspec.structs.asdict(entry).items() if value not in {"", None}}
    said.pop("digest", None)
    digest = hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()
    return msgspec.structs.replace(entry, digest=digest)


def _key(sequence: int) -> str:
    return f"{HISTORY}{sequence:0{_DIGITS}d}"


def _decode(key: str, raw: bytes) -> Entry:
    try:
        return msgspec.json.decode(raw, type=Entry)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{key} does not hold an entry of the history ({error})") from error
