"""What etcd's JSON gateway says, as typed values, and what its refusals mean.

There, int64 are strings, bytes are base64, and what is zero or false is left out. Refusals are told apart by gRPC's
codes; what is not known for certain to have changed nothing counts as unknown.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from services.coordination.base import CoordinationError, StoreUnavailable, Versioned
from services.coordination.lease import Compacted, LeaseLost

T = TypeVar("T")

NOT_FOUND: Final = 5
FAILED_PRECONDITION: Final = 9
OUT_OF_RANGE: Final = 11
UNAUTHENTICATED: Final = 16
_REFUSED_FOR_GOOD: Final = {3, 7, 8, 12}
"""Invalid argument, permission denied, resource exhausted, unimplemented: every member would say the same."""

_ADVICE: Final = {
    "user name is empty": "etcd asks who this is. Set MERIDIAN_COORDINATION_USERNAME and _PASSWORD.",
    "authentication failed": "etcd does not know this user or its password. Correct MERIDIAN_COORDINATION_USERNAME "
    "and _PASSWORD.",
    "space exceeded": "etcd's database is full and takes no writes. See docs/operating/etcd.md: compact, defragment, "
    "disarm.",
}


class LearnerBehind(CoordinationError):
    """A learner has not caught up yet, or is none any more."""


class Header(msgspec.Struct, frozen=True):
    """Who answered, as of which revision and in which term of the cluster's own leadership."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    """A key at one revision."""

    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    lease: int = 0

    def versioned(self) -> Versioned:
        """The same in the contract's words."""
        return Versioned(self.key.decode(), self.value, self.create_revision, self.mod_revision)


class RangeAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/kv/range."""

    header: Header
    kvs: list[KeyValue] = []


class _Ranged(msgspec.Struct, frozen=True):
    kvs: list[KeyValue] = []


class TxnResponse(msgspec.Struct, frozen=True):
    """One operation's part of a transaction's answer."""

    response_range: _Ranged | None = None


class TxnAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/kv/txn."""

    header: Header
    succeeded: bool = False
    responses: list[TxnResponse] = []

    @property
    def found(self) -> list[KeyValue]:
        """What the reading operations saw, one entry for each; an empty KeyValue where the key does not exist."""
        read = [response.response_range for response in self.responses if response.response_range is not None]
        return [part.kvs[0] if part.kvs else KeyValue() for part in read]


class GrantAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/lease/grant."""

    header: Header
    ID: int = 0
    TTL: int = 0


class KeptAlive(msgspec.Struct, frozen=True):
    """The inner part of a keep-alive's answer; a lease that is gone has no TTL."""

    header: Header
    ID: int = 0
    TTL: int = 0


class KeepAliveAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/lease/keepalive, which is a stream of one."""

    result: KeptAlive

    @property
    def header(self) -> Header:
        """As every other answer has it."""
        return self.result.header


class PlainAnswer(msgspec.Struct, frozen=True):
    """Any answer of which only the header matters; a moved lead is answered without one."""

    header: Header = Header()


class Event(msgspec.Struct, frozen=True):
    """One change in a watch; a put has no type."""

    kv: KeyValue
    type: str = "PUT"


class WatchMessage(msgspec.Struct, frozen=True):
    """One line of a watch."""

    header: Header
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[Event] = []


class WatchLine(msgspec.Struct, frozen=True):
    """What a watch sends, line by line."""

    result: WatchMessage | None = None
    error: dict[str, Any] | None = None


class Refusal(msgspec.Struct, frozen=True):
    """A refusal of the gateway."""

    code: int = 2
    message: str = ""


class StatusAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/maintenance/status."""

    header: Header
    version: str = ""
    leader: int = 0
    isLearner: bool = False  # noqa: N815 - as etcd spells it


class MemberEntry(msgspec.Struct, frozen=True):
    """One member of the cluster."""

    ID: int
    name: str = ""
    peerURLs: list[str] = []  # noqa: N815 - as etcd spells it
    clientURLs: list[str] = []  # noqa: N815 - as etcd spells it
    isLearner: bool = False  # noqa: N815 - as etcd spells it


class MembersAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/cluster/member/list."""

    header: Header
    members: list[MemberEntry] = []


class TokenAnswer(msgspec.Struct, frozen=True):
    """Answer of /v3/auth/authenticate."""

    header: Header
    token: str


def decode(raw: bytes, shape: type[T]) -> T:
    """Return an answer in its shape; numbers may be strings. Raises msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=shape, strict=False)


def decode_refusal(raw: bytes, status: int) -> Refusal:
    """Return what a refusal says, whatever it is written in."""
    try:
        return decode(raw, Refusal)
    except msgspec.DecodeError:
        return Refusal(2, f"HTTP {status}: {raw[:200].decode(errors='replace')}")


def final_error(refusal: Refusal) -> CoordinationError | None:
    """Return what a refusal means if no other member would say anything else; None: ask the next one."""
    if refusal.code == NOT_FOUND and "lease" in refusal.message:
        return LeaseLost(refusal.message)
    if refusal.code == OUT_OF_RANGE and "compacted" in refusal.message:
        return Compacted(f"{refusal.message}: list again, and watch from there")
    if refusal.code == FAILED_PRECONDITION and "can only promote" in refusal.message:
        return LearnerBehind(refusal.message)
    for words, advice in _ADVICE.items():
        if words in refusal.message:
            return StoreUnavailable(advice)
    return StoreUnavailable(f"etcd refuses: {refusal.message}") if refusal.code in _REFUSED_FOR_GOOD else None


def prefix_end(prefix: bytes) -> bytes:
    """Return the key after all keys that start with `prefix`, as etcd's ranges want it."""
    cut = prefix.rstrip(b"\xff")
    return cut[:-1] + bytes([cut[-1] + 1]) if cut else b"\0"
