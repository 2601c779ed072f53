"""How other processes ask the inference worker for scores: within their deadline, always.

The caller has a next rung (streaming counters) that answers in a millisecond, so the worst thing this client can do
is to wait. Whatever happens to the worker, `infer` returns or raises by the deadline it was given; a worker that is
hung costs only the first few callers their budget, then a breaker lets them go on at once (`breaker.py`). Three
exceptions say what happened: InferenceUnavailable (dead, full, draining, or the breaker is open), InferenceRefused
(answered, but this request cannot be scored), InferenceExpired (no answer by the deadline).

A caller encodes everything that models may ever ask for; only what the served model declares is sent. The
declaration is read once and again when an answer names another version or the worker says that the tensors do not
fit.

This module and what it imports need neither ONNX Runtime nor the server.
"""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from numpy.typing import NDArray

from services.common.clock import Clock, SystemClock
from services.common.tracing import HEADER_PARENT, current
from services.inference.asking import champion
from services.inference.breaker import Breaker, BreakerLimits, State
from services.inference.codec import HEADER_LENGTH, decode_response, encode_request
from services.inference.errors import (
    InferenceExpired,
    InferenceFailed,
    InferenceRefused,
    InferenceUnavailable,
    RequestProblem,
)
from services.inference.report import ChampionReport

__all__ = [
    "ChampionReport",
    "ClientLimits",
    "InferenceClient",
    "InferenceExpired",
    "InferenceFailed",
    "InferenceRefused",
    "InferenceUnavailable",
    "Scored",
    "champion",
]

Array = NDArray[Any]
SCORES = "scores"


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds of a client.

    A time-out says something about the worker only when it had a fair chance: with less than `fair_budget_seconds`
    left at sending, it is not held against it.
    """

    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    connections_max: int = 64
    fair_budget_seconds: float = 0.005


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores [B, K] float32, and the version that gave them, as answers carry it: `ranker/1`."""

    scores: Array
    model_version: str


class _Tensor(msgspec.Struct):
    name: str


class _Metadata(msgspec.Struct):
    name: str
    versions: list[str]
    inputs: list[_Tensor]


class _Problem(msgspec.Struct):
    error: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class _Declared:
    """What one version takes."""

    version: str
    inputs: frozenset[str]


class _DoesNotFit(Exception):
    """The worker says that the tensors do not fit what it serves; `__str__` is its sentence."""


class InferenceClient:
    """One worker's client. Make it anywhere; use it on one event loop, and `close` it there."""

    def __init__(
        self, url: str, *, model: str = "ranker", limits: ClientLimits | None = None, clock: Clock | None = None
    ) -> None:
        self._limits = limits or ClientLimits()
        self._model = model
        self._address = f"{url.rstrip('/')}/v2/models/{model}"
        self._clock = clock or SystemClock()
        self._breaker = Breaker(self._limits.breaker)
        self._http: aiohttp.ClientSession | None = None
        self._declared: _Declared | None = None
        self._declaring = asyncio.Lock()

    @property
    def breaker_state(self) -> State:
        """For a gauge: closed, open or half_open."""
        return self._breaker.state

    async def __aenter__(self) -> Self:
        """The client itself; connections are made when they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def infer(self, inputs: dict[str, Array], deadline_unix_ms: int) -> Scored:
        """Score; `inputs` may hold more tensors than the model takes.

        Raises InferenceUnavailable, InferenceRefused or InferenceExpired, by the deadline at the latest.
        """
        budget_seconds = (deadline_unix_ms - self._clock.unix_ms()) / 1000
        if budget_seconds <= 0:
            raise InferenceExpired("the deadline was over before the request could be sent")
        blocker = self._breaker.blocker(self._clock.monotonic())
        if blocker is not None:
            raise InferenceUnavailable(f"the inference worker is left alone for a moment: {blocker}")
        attempt = self._breaker.begin()
        try:
            async with asyncio.timeout(budget_seconds):
                scored = await self._infer(inputs, deadline_unix_ms)
        except TimeoutError:
            if budget_seconds >= self._limits.fair_budget_seconds:
                self._breaker.failed(attempt, self._clock.monotonic())
            else:
                self._breaker.abandoned(attempt)
            raise InferenceExpired(f"no answer within the {budget_seconds * 1000:.0f} ms that were left") from None
        except (aiohttp.ClientError, OSError) as error:
            self._breaker.failed(attempt, self._clock.monotonic())
            raise InferenceUnavailable(f"the inference worker cannot be reached: {_sentence(error)}") from error
        except InferenceFailed:
            self._breaker.succeeded()
            raise
        except BaseException:
            self._breaker.abandoned(attempt)
            raise
        self._breaker.succeeded()
        return scored

    async def _infer(self, inputs: dict[str, Array], deadline_unix_ms: int) -> Scored:
        declared = self._declared or await self._read_declaration()
        try:
            return await self._ask(declared, inputs, deadline_unix_ms)
        except _DoesNotFit as refusal:
            # Another version may serve by now, which takes other tensors: look once, and ask again only if so.
            again = await self._read_declaration()
            if again == declared:
                raise InferenceRefused(str(refusal)) from None
        try:
            return await self._ask(again, inputs, deadline_unix_ms)
        except _DoesNotFit as refusal:
            raise InferenceRefused(str(refusal)) from None

    async def _ask(self, declared: _Declared, inputs: dict[str, Array], deadline_unix_ms: int) -> Scored:
        missing = sorted(declared.inputs - inputs.keys())
        if missing:
            raise _DoesNotFit(f"version {declared.version} takes {missing[0]!r}, which was not given")
        taken = {name: array for name, array in inputs.items() if name in declared.inputs}
        body = encode_request(taken, deadline_unix_ms=deadline_unix_ms)
        parent = current().passed_on()
        headers = {**body.headers, HEADER_PARENT: parent} if parent else body.headers
        content, header_length = await self._post(body.content, headers)
        try:
            answer = decode_response(content, header_length)
            scores = answer.outputs[SCORES]
        except (RequestProblem, KeyError) as error:
            raise InferenceRefused(f"the worker's answer cannot be read: {error}") from error
        if declared.version not in (answer.model_version, answer.stands_in_for):
            self._declared = None
        return Scored(scores, f"{answer.model_name}/{answer.model_version}")

    async def _post(self, content: bytes, headers: dict[str, str]) -> tuple[bytes, str | None]:
        for tries_left in (1, 0):
            try:
                async with self._session().post(f"{self._address}/infer", data=content, headers=headers) as response:
                    answer = await response.read()
                    if response.status != 200:
                        _raise_problem(response.status, answer)
                    return answer, response.headers.get(HEADER_LENGTH)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError):
                # A kept connection that the worker's end closed (it was restarted): scoring twice harms nobody.
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _read_declaration(self) -> _Declared:
        async with self._declaring:
            async with self._session().get(self._address) as response:
                content = await response.read()
                if response.status != 200:
                    _raise_problem(response.status, content)
            try:
                metadata = msgspec.json.decode(content, type=_Metadata)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InferenceRefused(f"the worker's model metadata cannot be read: {error}") from error
            version = metadata.versions[0] if metadata.versions else ""
            self._declared = _Declared(version, frozenset(tensor.name for tensor in metadata.inputs))
            return self._declared

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=self._limits.connections_max)
            # The caller's deadline bounds everything; aiohttp's own time-outs would only hide which one it was.
            self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._http


def _raise_problem(status: int, content: bytes) -> None:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(f"HTTP {status} without a reason", "")
    if problem.code == "bad_tensor":
        raise _DoesNotFit(problem.error)
    if problem.code == "deadline_expired":
        raise InferenceExpired(problem.error)
    if status in (429, 503):
        raise InferenceUnavailable(problem.error)
    raise InferenceRefused(f"{problem.error} (HTTP {status})")


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__
