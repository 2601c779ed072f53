"""The second driver: the package `etcd3`, for those who have it in use already.

It speaks gRPC to one member and has no failover: when that member is gone, so is the store, until it is back. It is
safe all the same: every call has a time limit, whatever is not a clear answer is StoreUnavailable ("not renewed"), and
a renewal without a time to live is a lost lease. The package's own watcher stays dead after a reconnect without a word,
so the watch is read here from the call itself, and cancelled when it is silent for too long.

Its calls block, so they run in threads of their own. With a current protobuf the package only imports under
PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python, which is set here if nothing has imported protobuf before.
"""

from __future__ import annotations

import asyncio
import math
import os
import queue
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from services.common.settings import Secret, SettingsError
from services.coordination.base import ABSENT, CasConflict, StoreUnavailable, Versioned
from services.coordination.etcd_wire import prefix_end
from services.coordination.lease import NO_LEASE, Change, Compacted, Guard, Lease, LeaseLost
from services.coordination.settings import CoordinationSettings

_THREADS_MAX: Final = 16
_WATCH_SILENCE_SECONDS: Final = 2.0
_WATCH_MESSAGES_MAX: Final = 10_000
_PURE_PROTOBUF: Final = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
_T = TypeVar("_T")


def why_not() -> str | None:
    """Return why the package cannot be used in this process, None when it can."""
    os.environ.setdefault(_PURE_PROTOBUF, "python")
    try:
        import etcd3  # noqa: F401
    except ImportError as error:
        return f"the package etcd3 is not installed ({error}): pip install 'meridian[etcd3]'"
    except TypeError:
        return f"the package etcd3 needs {_PURE_PROTOBUF}=python from the start of the process"
    return None


class Etcd3Store:
    """A LeaseStore on one etcd member. Belongs to the event loop that uses it."""

    def __init__(
        self,
        endpoint: str,
        *,
        request_timeout_seconds: float = 0.3,
        files: tuple[Path, Path, Path] = (Path(), Path(), Path()),
        username: str = "",
        password: Secret | None = None,
    ) -> None:
        """`files` are the authority's certificate, the own one and its key. Raises SettingsError without etcd3."""
        if (reason := why_not()) is not None:
            raise SettingsError(f"MERIDIAN_COORDINATION_DRIVER=etcd3: {reason}. Or use the driver `gateway`.")
        self._endpoint = endpoint
        self._timeout_seconds = request_timeout_seconds
        self._files = files
        self._username = username
        self._password = password or Secret("")
        self._pool = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="etcd3")
        self._client: Any = None

    @classmethod
    def from_settings(cls, endpoint: str, settings: CoordinationSettings) -> Etcd3Store:
        """Return the store that the settings describe, on one member."""
        return cls(
            endpoint,
            request_timeout_seconds=settings.request_timeout_ms / 1000,
            files=(settings.ca_file, settings.cert_file, settings.key_file),
            username=settings.username,
            password=settings.password,
        )

    async def get(self, key: str) -> Versioned | None:
        """See KeyValueStore."""
        value, about = await self._call(lambda client: client.get(key))
        return None if about is None else _versioned(value, about)

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""

        def read(client: Any) -> list[Versioned]:
            found = client.get_prefix(prefix, sort_order="ascend") if prefix else client.get_all(sort_order="ascend")
            return [_versioned(value, about) for value, about in found]

        return await self._call(read)

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

        def write(client: Any) -> tuple[bool, list[Any]]:
            say = client.transactions
            conditions = [say.mod(key) == expected_revision]
            if guard is not None:
                conditions.append(say.create(guard.key) == guard.create_revision)
            puts = [say.put(key, value, lease=lease_id or None)]
            if lasting_copy:
                conditions.append(say.mod(lasting_copy) == ABSENT)
                puts.append(say.put(lasting_copy, value))
            done: tuple[bool, list[Any]] = client.transaction(conditions, [*puts, say.get(key)], [say.get(key)])
            return done

        succeeded, answers = await self._call(write)
        if not succeeded:
            guarded = f", or {guard.key} was not created at {guard.create_revision}" if guard is not None else ""
            copied = f", or {lasting_copy} exists already" if lasting_copy else ""
            raise CasConflict(
                f"{key} is at {_revision(answers[0])}, not {expected_revision}{guarded}{copied}: read it again"
            )
        return _versioned(*answers[-1][0])

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """See KeyValueStore."""

        def delete(client: Any) -> tuple[bool, list[Any]]:
            say = client.transactions
            done: tuple[bool, list[Any]] = client.transaction(
                [say.mod(key) == expected_revision], [say.delete(key)], [say.get(key)]
            )
            return done

        succeeded, answers = await self._call(delete)
        if not succeeded:
            raise CasConflict(f"{key} is at {_revision(answers[0])}, not {expected_revision}: read it again")

    async def grant(self, ttl_seconds: float) -> Lease:
        """See LeaseStore."""
        granted = await self._call(lambda client: client.lease(max(1, math.ceil(ttl_seconds))))
        return Lease(granted.id, float(granted.ttl))

    async def keep_alive(self, lease_id: int) -> float:
        """See LeaseStore."""
        answer = await self._call(lambda client: next(client.refresh_lease(lease_id), None))
        if answer is None:
            raise StoreUnavailable(f"{self._endpoint}: the renewal was not answered")
        if answer.TTL <= 0:
            raise LeaseLost(f"the lease {lease_id:x} is gone")
        return float(answer.TTL)

    async def revoke(self, lease_id: int) -> None:
        """See LeaseStore."""
        try:
            await self._call(lambda client: client.revoke_lease(lease_id))
        except LeaseLost:
            return

    async def revision(self) -> int:
        """See LeaseStore."""
        found: int = await self._call(lambda client: client.get_response("\0").header.revision)
        return found

    async def watch(self, prefix: str, after_revision: int) -> AsyncIterator[Sequence[Change]]:
        """See LeaseStore."""
        received: queue.Queue[Any] = queue.Queue(_WATCH_MESSAGES_MAX)
        news = asyncio.Event()
        call = await self._call(lambda client: self._open_watch(client, prefix, after_revision))
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._pool, _read_watch, call, received, loop, news)
        try:
            while True:
                try:
                    async with asyncio.timeout(_WATCH_SILENCE_SECONDS):
                        await news.wait()
                except TimeoutError:
                    raise StoreUnavailable(f"{self._endpoint}: the watch was silent") from None
                news.clear()
                while not received.empty():
                    changes = self._changes(received.get_nowait())
                    yield [change for change in changes if change.revision > after_revision]
        finally:
            call.cancel()
            await asyncio.shield(reading)

    async def close(self) -> None:
        """See LeaseStore."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _open_watch(self, client: Any, prefix: str, after_revision: int) -> Any:
        from etcd3 import etcdrpc

        # From the last known revision on, or no progress is reported: see the gateway's driver.
        create = etcdrpc.WatchCreateRequest(
            key=prefix.encode() or b"\0",
            range_end=prefix_end(prefix.encode()),
            start_revision=max(1, after_revision),
            progress_notify=True,
        )
        requests = _OneRequest(etcdrpc.WatchRequest(create_request=create))
        call = etcdrpc.WatchStub(client.channel).Watch(requests, metadata=client.metadata)
        call.add_callback(requests.end)
        return call

    def _changes(self, message: Any) -> Sequence[Change]:
        if isinstance(message, Exception):
            raise self._meaning(message)
        if message.compact_revision:
            raise Compacted(f"history before {message.compact_revision} is gone: list again, and watch from there")
        if message.canceled:
            raise StoreUnavailable(f"{self._endpoint}: the watch was ended: {message.cancel_reason}")
        return [
            Change(
                event.kv.key.decode(),
                None if event.type else _versioned(event.kv.value, event.kv),
                event.kv.mod_revision,
            )
            for event in message.events
        ]

    async def _call(self, ask: Callable[[Any], _T]) -> _T:
        """Run a blocking call in a thread, and say in the contract's words what goes wrong."""
        import grpc
        from etcd3.exceptions import Etcd3Exception

        def run() -> _T:
            if self._client is None:
                self._client = self._connect()
            return ask(self._client)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, run)
        except (grpc.RpcError, Etcd3Exception, ValueError, OSError) as error:
            raise self._meaning(error) from error

    def _connect(self) -> Any:
        import etcd3

        address = urlsplit(self._endpoint)
        authority, certificate, key = (str(file) if file != Path() else None for file in self._files)
        client = etcd3.client(
            host=address.hostname,
            port=address.port,
            ca_cert=authority,
            cert_cert=certificate,
            cert_key=key,
            timeout=self._timeout_seconds,
            user=self._username or None,
            password=self._password.reveal() or None,
        )
        # A member without a leader refuses at once instead of letting us wait.
        client.metadata = (*(client.metadata or ()), ("hasleader", "true"))
        return client

    def _meaning(self, error: Exception) -> Exception:
        import grpc

        if isinstance(error, grpc.RpcError):
            code, said = error.code(), str(error.details())
            if code == grpc.StatusCode.NOT_FOUND and "lease" in said:
                return LeaseLost(said)
            if code == grpc.StatusCode.OUT_OF_RANGE and "compacted" in said:
                return Compacted(f"{said}: list again, and watch from there")
            if code == grpc.StatusCode.UNAUTHENTICATED:
                self._client = None
            return StoreUnavailable(f"{self._endpoint}: {said}")
        return StoreUnavailable(f"{self._endpoint}: {type(error).__name__}: {error}")


class _OneRequest:
    """The sending side of a watch: one request, and then open until the call has ended."""

    def __init__(self, request: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._requests.put(request)

    def __iter__(self) -> _OneRequest:
        return self

    def __next__(self) -> Any:
        request = self._requests.get()
        if request is None:
            raise StopIteration
        return request

    def end(self) -> None:
        """Let the thread go that waits for more."""
        self._requests.put(None)


def _read_watch(call: Any, received: queue.Queue[Any], loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    """Hand on what a watch says until it ends; an overflow ends it, which its reader takes for silence."""
    import grpc

    def hand_on(message: Any) -> None:
        received.put_nowait(message)
        loop.call_soon_threadsafe(news.set)

    try:
        for message in call:
            hand_on(message)
    except grpc.RpcError as error:
        if not loop.is_closed() and not received.full():
            hand_on(error)
    except queue.Full:
        call.cancel()


def _versioned(value: bytes, about: Any) -> Versioned:
    return Versioned(about.key.decode(), value, about.create_revision, about.mod_revision)


def _revision(found: Sequence[tuple[bytes, Any]]) -> int:
    return int(found[0][1].mod_revision) if found else 0
