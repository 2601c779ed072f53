"""One question to a cluster, through whichever member answers: rotation, patience, terms, authentication.

Every client library that was tried spoke to one member, and lost a lease when that one failed or merely hung. Here each
member has `request_timeout_seconds`; then the next one is asked, and who answered is asked first from then on.

An answer in an older term than one seen before comes from a member that does not know yet that it was replaced: it is
refused, and the next member asked. Unless a majority says so: the members of a majority that elected a later leader
know its term, so it no longer exists, and the store was restored from a backup.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, Protocol, TypeVar

import aiohttp
import msgspec

from services.common.logging import get_logger
from services.common.settings import Secret
from services.coordination.base import StoreUnavailable
from services.coordination.etcd_wire import (
    UNAUTHENTICATED,
    Header,
    Refusal,
    StatusAnswer,
    TokenAnswer,
    decode,
    decode_refusal,
    final_error,
)

log = get_logger(__name__)

VERSION_MINIMUM: Final = {(3, 5): (3, 5, 28), (3, 6): (3, 6, 9)}
"""The first versions of their lines in which a revived old leader renews no lease that its successor let expire."""
_UNREACHED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_FAILED: Final = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)
_REFUSED_AT_THE_DOOR: Final = ("no leader", "not supported for learner", "too many requests")


class Answer(Protocol):
    """Every answer carries a header."""

    @property
    def header(self) -> Header:
        """Who answered, and as of when."""


A = TypeVar("A", bound=Answer)


class UnknownOutcome(StoreUnavailable):
    """Nobody answered well, and at least one member may have done what was asked."""


class Refused(Exception):
    """A member answered, and refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal

    @property
    def wants_authentication(self) -> bool:
        """Whether a (new) token would help: there was none, or the member does not know it."""
        return self.refusal.code == UNAUTHENTICATED or any(
            words in self.refusal.message for words in ("user name is empty", "revision of auth store is old")
        )

    @property
    def may_have_happened(self) -> bool:
        """Whether it may have been done all the same: time-outs inside the cluster, a leader that changed meanwhile."""
        if self.wants_authentication:
            return False
        return not any(words in self.refusal.message for words in _REFUSED_AT_THE_DOOR)


class GatewayTransport:
    """Speaks to all members of one cluster. Belongs to the event loop that first uses it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        request_timeout_seconds: float = 0.3,
        tls: ssl.SSLContext | None = None,
        username: str = "",
        password: Secret | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("etcd needs at least one endpoint")
        self.endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self.request_timeout_seconds = request_timeout_seconds
        self._tls = tls
        self._username = username
        self._password = password or Secret("")
        self._token = ""
        self._first = 0
        self._term = 0
        self.cluster_id = 0
        """Which cluster answered last; another one means that it was rebuilt. 0 before the first answer."""
        self._session: aiohttp.ClientSession | None = None

    @property
    def preferred(self) -> str:
        """The member that is asked first: the one that answered last."""
        return self.endpoints[self._first]

    async def ask(self, path: str, body: Mapping[str, Any], shape: type[A], *, patience: float = 1.0) -> A:
        """Return the first good answer; it may be asked twice. Raises what a refusal means, StoreUnavailable."""
        answer, _ = await self.ask_noting_doubt(path, body, shape, patience=patience)
        return answer

    async def ask_noting_doubt(
        self, path: str, body: Mapping[str, Any], shape: type[A], *, patience: float = 1.0
    ) -> tuple[A, bool]:
        """As `ask`, and whether an earlier member may have carried it out without saying so.

        Each member has `patience` times the usual limit. Raises UnknownOutcome when nobody answered but somebody may
        have done it.
        """
        limit = patience * self.request_timeout_seconds
        said: list[str] = []
        doubt = False
        outdated: dict[int, int] = {}
        # Remembered, since others change it meanwhile: each member is asked once.
        first = self._first
        for step in range(len(self.endpoints)):
            number = (first + step) % len(self.endpoints)
            endpoint = self.endpoints[number]
            try:
                answer = await self.ask_one(endpoint, path, body, shape, timeout_seconds=limit)
            except _UNREACHED as error:
                said.append(f"{endpoint}: {_named(error)}")
                continue
            except Refused as refused:
                error_for_all = final_error(refused.refusal)
                if error_for_all is not None:
                    raise error_for_all from None
                said.append(f"{endpoint}: {refused.refusal.message}")
                doubt = doubt or refused.may_have_happened
                continue
            except _FAILED as error:
                said.append(f"{endpoint}: {_named(error)}")
                doubt = True
                continue
            if self._is_current(answer.header, outdated):
                self._first = number
                return answer, doubt
            said.append(f"{endpoint}: answered in term {answer.header.raft_term}, which is over")
            doubt = True
        self._first = (self._first + 1) % len(self.endpoints)
        raise (UnknownOutcome if doubt else StoreUnavailable)(f"no etcd member answered. {'; '.join(said)}")

    async def ask_one(
        self, endpoint: str, path: str, body: Mapping[str, Any], shape: type[A], *, timeout_seconds: float | None = None
    ) -> A:
        """Ask one member, once more when it wants us to authenticate anew.

        Raises Refused, aiohttp's errors, TimeoutError, OSError, msgspec.DecodeError.
        """
        limit = timeout_seconds or self.request_timeout_seconds
        try:
            return await self._post(endpoint, path, body, shape, limit)
        except Refused as refused:
            if not self._username or not refused.wants_authentication:
                raise
            await self._authenticate(endpoint)
            return await self._post(endpoint, path, body, shape, limit)

    @asynccontextmanager
    async def stream(
        self, endpoint: str, path: str, body: Mapping[str, Any], *, begins_seconds: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a stream of lines on one member, which must begin it within `begins_seconds`.

        Raises StoreUnavailable, and what the refusal means.
        """
        try:
            # A member that hangs still accepts connections, and one that was cut off breaks none.
            async with asyncio.timeout(begins_seconds):
                response = await self._open().post(
                    f"{endpoint}{path}",
                    data=msgspec.json.encode(body),
                    headers=self._headers(),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.request_timeout_seconds),
                )
            async with response:
                if response.status != 200:
                    await self._refuse_stream(endpoint, response, begins_seconds)
                yield response.content
        except (*_FAILED, Refused) as error:
            raise StoreUnavailable(f"{endpoint}: {_named(error)}") from error

    async def _refuse_stream(self, endpoint: str, response: aiohttp.ClientResponse, limit: float) -> NoReturn:
        """Raise what the refusal of a stream means; when it wants authentication, that is done."""
        async with asyncio.timeout(limit):
            refusal = decode_refusal(await response.read(), response.status)
        if self._username and Refused(refusal).wants_authentication:
            await self._authenticate(endpoint)
            raise StoreUnavailable(f"{endpoint}: authenticated anew, watch again")
        raise final_error(refusal) or StoreUnavailable(f"{endpoint}: {refusal.message}")

    def is_current(self, header: Header) -> bool:
        """Say whether an answer is of the latest term that was seen."""
        return self._is_current(header, {})

    def avoid(self, endpoint: str) -> None:
        """Ask another member first from now on."""
        if self.preferred == endpoint:
            self._first = (self._first + 1) % len(self.endpoints)

    async def warn_about_old_servers(self) -> None:
        """Log a warning for each member whose version can lose leases that it renewed; silent ones are left out."""
        for endpoint in self.endpoints:
            try:
                status = await self.ask_one(endpoint, "/v3/maintenance/status", {}, StatusAnswer)
            except (*_FAILED, Refused):
                continue
            if (reason := version_warning(status.version)) is not None:
                log.warning("etcd is old", endpoint=endpoint, reason=reason)

    async def close(self) -> None:
        """Let connections go."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _is_current(self, header: Header, outdated: dict[int, int]) -> bool:
        if header.raft_term >= self._term:
            self._term = header.raft_term
            self.cluster_id = header.cluster_id or self.cluster_id
            return True
        outdated[header.member_id] = header.raft_term
        if 2 * len(outdated) > len(self.endpoints):
            log.warning("etcd's terms went back: it was restored", seen=self._term, now=max(outdated.values()))
            self._term = max(outdated.values())
            return header.raft_term >= self._term
        return False

    async def _post(self, endpoint: str, path: str, body: Mapping[str, Any], shape: type[A], limit: float) -> A:
        async with (
            asyncio.timeout(limit),
            self._open().post(f"{endpoint}{path}", data=msgspec.json.encode(body), headers=self._headers()) as response,
        ):
            raw = await response.read()
            if response.status != 200:
                raise Refused(decode_refusal(raw, response.status))
            return decode(raw, shape)

    async def _authenticate(self, endpoint: str) -> None:
        self._token = ""
        credentials = {"name": self._username, "password": self._password.reveal()}
        self._token = (
            await self._post(endpoint, "/v3/auth/authenticate", credentials, TokenAnswer, self.request_timeout_seconds)
        ).token

    def _headers(self) -> dict[str, str]:
        # A member that has lost the cluster's leader ends a watch instead of letting it wait.
        headers = {"Content-Type": "application/json", "Grpc-Metadata-hasleader": "true"}
        if self._token:
            headers["Authorization"] = self._token
        return headers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session


def _named(error: Exception) -> str:
    """What an operator wants to read of it: the address stands before it already."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def version_warning(version: str) -> str | None:
    """Return what is wrong with a server of this version, None when nothing is known."""
    try:
        major, minor, patch = (int(part) for part in version.partition("-")[0].split("."))
    except ValueError:
        return None
    minimum = VERSION_MINIMUM.get((major, minor), (3, 5, 28))
    if (major, minor, patch) >= minimum:
        return None
    return (
        f"version {version} may end a lease that it renewed, or renew one that it ended (etcd #15247): use "
        f"{'.'.join(map(str, minimum))} or newer. What is shown stays fenced by the epoch."
    )
