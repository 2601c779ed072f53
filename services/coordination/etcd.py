"""The coordination store of several regions: etcd, through its JSON gateway.

No client library: those on PyPI know one member and lose the lease with it. Compare-and-swap is a transaction on the
key's revision. Every read is linearizable, so that a member that was away a while shows nothing old.

A write whose answer was lost is asked again of the next member. When it then meets a changed key, nobody can say
whether that was our own first try: unless the key hangs on our own lease with our own value, which only we can have
written, that is StoreUnavailable and never CasConflict.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import aiohttp
import msgspec

from services.common.settings import Secret
from services.coordination.base import ABSENT, CasConflict, StoreUnavailable, Versioned
from services.coordination.etcd_transport import GatewayTransport
from services.coordination.etcd_wire import (
    GrantAnswer,
    KeepAliveAnswer,
    KeyValue,
    PlainAnswer,
    RangeAnswer,
    TxnAnswer,
    WatchLine,
    WatchMessage,
    decode,
    decode_refusal,
    final_error,
    prefix_end,
)
from services.coordination.lease import NO_LEASE, Change, Compacted, Guard, Lease, LeaseLost

WATCH_SILENCE_SECONDS: Final = 1.0
"""A watch that says nothing for so long is dead: members report progress five times a second."""
WRITE_PATIENCE: Final = 3.0
"""A write waits for a majority's disks; with the limit of a renewal, which does not, a slow disk would look like a loss
and every outcome would be unknown."""
WATCH_LINE_BYTES_MAX: Final = 64 << 20


class EtcdGatewayStore:
    """A LeaseStore on an etcd cluster. Belongs to the event loop that first uses it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        request_timeout_seconds: float = 0.3,
        watch_silence_seconds: float = WATCH_SILENCE_SECONDS,
        tls: ssl.SSLContext | None = None,
        username: str = "",
        password: Secret | None = None,
    ) -> None:
        self.transport = GatewayTransport(
            endpoints,
            request_timeout_seconds=request_timeout_seconds,
            tls=tls,
            username=username,
            password=password,
        )
        self._watch_silence_seconds = watch_silence_seconds

    async def get(self, key: str) -> Versioned | None:
        """See KeyValueStore."""
        answer = await self.transport.ask("/v3/kv/range", {"key": _b64(key)}, RangeAnswer)
        return answer.kvs[0].versioned() if answer.kvs else None

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""
        answer = await self.transport.ask("/v3/kv/range", _range_of(prefix), RangeAnswer)
        return [entry.versioned() for entry in answer.kvs]

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
        put: dict[str, Any] = {"key": _b64(key), "value": b64encode(value).decode()}
        if lease_id != NO_LEASE:
            put["lease"] = str(lease_id)
        read = {"request_range": {"key": _b64(key)}}
        conditions = [_unchanged(key, expected_revision), *([_created(guard)] if guard else [])]
        puts = [{"request_put": put}]
        if lasting_copy:
            conditions.append(_unchanged(lasting_copy, ABSENT))
            puts.append({"request_put": {"key": _b64(lasting_copy), "value": put["value"]}})
        otherwise = [read, *([{"request_range": {"key": _b64(guard.key)}}] if guard else [])]
        answer, doubt = await self.transport.ask_noting_doubt(
            "/v3/kv/txn",
            {"compare": conditions, "success": [*puts, read], "failure": otherwise},
            TxnAnswer,
            patience=WRITE_PATIENCE,
        )
        if answer.succeeded:
            return answer.found[0].versioned()
        found = answer.found[0]
        if lease_id != NO_LEASE and found.lease == lease_id and found.value == value and doubt:
            return found.versioned()
        raise _conflict(key, found, expected_revision, guard, answer.found[-1], doubt=doubt, copy=lasting_copy)

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """See KeyValueStore."""
        read = {"request_range": {"key": _b64(key)}}
        body = {
            "compare": [_unchanged(key, expected_revision)],
            "success": [{"request_delete_range": {"key": _b64(key)}}],
            "failure": [read],
        }
        answer, doubt = await self.transport.ask_noting_doubt("/v3/kv/txn", body, TxnAnswer, patience=WRITE_PATIENCE)
        if not answer.succeeded:
            raise _conflict(key, answer.found[0], expected_revision, None, KeyValue(), doubt=doubt)

    async def grant(self, ttl_seconds: float) -> Lease:
        """See LeaseStore. A lease whose answer was lost is nobody's, and ends by itself."""
        # etcd counts in whole seconds, and may grant more than was asked for.
        body = {"TTL": str(max(1, math.ceil(ttl_seconds)))}
        answer = await self.transport.ask("/v3/lease/grant", body, GrantAnswer, patience=WRITE_PATIENCE)
        return Lease(answer.ID, float(answer.TTL))

    async def keep_alive(self, lease_id: int) -> float:
        """See LeaseStore."""
        answer = await self.transport.ask("/v3/lease/keepalive", {"ID": str(lease_id)}, KeepAliveAnswer)
        if answer.result.TTL <= 0:
            raise LeaseLost(f"the lease {lease_id:x} is gone")
        return float(answer.result.TTL)

    async def revoke(self, lease_id: int) -> None:
        """See LeaseStore."""
        try:
            await self.transport.ask("/v3/lease/revoke", {"ID": str(lease_id)}, PlainAnswer, patience=WRITE_PATIENCE)
        except LeaseLost:
            return

    async def revision(self) -> int:
        """See LeaseStore."""
        body = {"key": _b64("\0"), "count_only": True}
        return (await self.transport.ask("/v3/kv/range", body, RangeAnswer)).header.revision

    async def watch(self, prefix: str, after_revision: int) -> AsyncIterator[Sequence[Change]]:
        """See LeaseStore. One member serves a watch; when it fails, another is asked first by the next one."""
        # Starting at a revision that does not exist yet, a watch reports no progress and could not be told from a dead
        # one. So it starts at the last one that is known, and what that one did is left out.
        create = {**_range_of(prefix), "start_revision": str(max(1, after_revision)), "progress_notify": True}
        endpoint = self.transport.preferred
        body = {"create_request": create}
        try:
            async with self.transport.stream(
                endpoint, "/v3/watch", body, begins_seconds=self._watch_silence_seconds
            ) as lines:
                reading = self._messages(lines, endpoint)
                async with aclosing(reading):
                    async for message in reading:
                        changes = [_change(event.kv, event.type) for event in message.events]
                        yield [change for change in changes if change.revision > after_revision]
        except StoreUnavailable:
            self.transport.avoid(endpoint)
            raise

    async def close(self) -> None:
        """See LeaseStore."""
        await self.transport.close()

    async def _messages(self, lines: aiohttp.StreamReader, endpoint: str) -> AsyncGenerator[WatchMessage, None]:
        """Yield what a watch says; raise as soon as it is silent for too long or speaks out of an older term."""
        rest = b""
        while True:
            try:
                async with asyncio.timeout(self._watch_silence_seconds):
                    received = await lines.readany()
            except TimeoutError:
                raise StoreUnavailable(
                    f"{endpoint}: the watch was silent for {self._watch_silence_seconds:g} s"
                ) from None
            if not received:
                raise StoreUnavailable(f"{endpoint}: the watch ended")
            *whole, rest = (rest + received).split(b"\n")
            if len(rest) > WATCH_LINE_BYTES_MAX:
                raise StoreUnavailable(f"{endpoint}: a message of the watch has no end")
            for line in whole:
                if line.strip():
                    yield self._message(line, endpoint)

    def _message(self, line: bytes, endpoint: str) -> WatchMessage:
        try:
            found = decode(line, WatchLine)
        except msgspec.DecodeError as error:
            raise StoreUnavailable(f"{endpoint}: the watch cannot be read: {error}") from error
        if found.result is None:
            refusal = decode_refusal(msgspec.json.encode(found.error or {}), 200)
            raise final_error(refusal) or StoreUnavailable(f"{endpoint}: the watch ended: {refusal.message}")
        message = found.result
        if message.canceled:
            if message.compact_revision:
                raise Compacted(f"history before {message.compact_revision} is gone: list again, and watch from there")
            raise StoreUnavailable(f"{endpoint}: the watch was ended: {message.cancel_reason}")
        if not self.transport.is_current(message.header):
            raise StoreUnavailable(f"{endpoint}: the watch speaks out of a term that is over")
        return message


def _conflict(
    key: str, found: KeyValue, expected: int, guard: Guard | None, guarding: KeyValue, *, doubt: bool, copy: str = ""
) -> Exception:
    if doubt:
        return StoreUnavailable(f"{key}: an answer was lost, and the key has changed since: read it again")
    if guard is not None and guarding.create_revision != guard.create_revision:
        return CasConflict(
            f"{guard.key} was created at {guarding.create_revision}, not {guard.create_revision}: read it again"
        )
    if copy and found.mod_revision == expected:
        return CasConflict(f"{copy} exists already: read it again")
    return CasConflict(f"{key} is at revision {found.mod_revision}, not {expected}: read it again")


def _change(entry: KeyValue, kind: str) -> Change:
    deleted = kind == "DELETE"
    return Change(entry.key.decode(), None if deleted else entry.versioned(), entry.mod_revision)


def _unchanged(key: str, revision: int) -> dict[str, str]:
    return {"key": _b64(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _created(guard: Guard) -> dict[str, str]:
    return {
        "key": _b64(guard.key), "target": "CREATE", "result": "EQUAL", "create_revision": str(guard.create_revision),
    }  # fmt: skip


def _range_of(prefix: str) -> dict[str, str]:
    raw = prefix.encode() or b"\0"
    return {"key": b64encode(raw).decode(), "range_end": b64encode(prefix_end(prefix.encode())).decode()}


def _b64(text: str) -> str:
    return b64encode(text.encode()).decode()
