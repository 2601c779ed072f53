"""Asking every process what it keeps of a request.

Nobody collects spans: each process keeps its own, and whoever wants to see a request asks all of them. Only gateway and
processor know a ranking's id, so they are asked for the trace first, and then everybody for that. Each answer says what
time it was there, which tells how far the clocks differ: never better than half of what the question took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.settings import SettingsError
from services.common.spans import PATH, SpansAnswer
from services.region import run_file
from streams.errors import DECODE_ERRORS

SERVICES: Final = ("gateway", "processor", "inference")
"""Who keeps spans."""
ANSWER_SECONDS: Final = 3.0
REFUSALS: Final = {
    401: "asks for a token: set MERIDIAN_GATEWAY_API_TOKENS",
    404: "keeps no spans: it runs an older release, or is another server",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One process to ask."""

    region: str
    service: str
    url: str

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.region} {self.service}".strip() or self.url


@dataclass(frozen=True, slots=True)
class Reply:
    """What a process said, or why it did not."""

    target: Target
    answer: SpansAnswer | None
    problem: str = ""
    clock_ahead_us: int = 0
    """How far its clock is ahead of the asker's, on average of what is possible."""
    clock_within_us: int = 0
    """How far off that may be."""


def targets_in(directory: Path) -> list[Target]:
    """Return the processes of the deployment or region that keeps its files in `directory`. Raises SettingsError."""
    if (directory / DEPLOYMENT_FILE).exists():
        return of_deployment(load_deployment(directory))
    record = run_file.read(directory)
    if record is None:
        raise SettingsError(
            f"nothing runs in {directory}: there is neither a {DEPLOYMENT_FILE} nor a {run_file.RUN_FILE}. Name the "
            "directory of the region or deployment with --data-dir, or its processes with --url."
        )
    return [
        Target(record.region, process.name, f"http://{process.host}:{process.port}")
        for process in record.processes
        if process.name in SERVICES and process.port is not None
    ]


def of_deployment(deployment: Deployment) -> list[Target]:
    """Return the processes of all regions."""
    return [Target(site.name, service, site.url(service)) for site in deployment.regions for service in SERVICES]


async def collect(
    targets: Sequence[Target], wanted: str, token: str, now_us: Callable[[], int]
) -> tuple[list[Reply], frozenset[str]]:
    """Return what everybody keeps of the traces in which `wanted` is known, and the spans that are meant by it.

    The spans are none where a whole trace is meant. Who does not answer says why.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        first = await asyncio.gather(*(_ask(session, target, wanted, now_us) for target in targets))
        traces = traces_in(first)
        if traces <= {wanted}:
            return list(first), frozenset()
        found = [await asyncio.gather(*(_ask(session, t, trace, now_us) for t in targets)) for trace in sorted(traces)]
    meant = (span_id for reply in first if reply.answer is not None for span_id in reply.answer.matched)
    return _merged(found), frozenset(meant)


def traces_in(replies: Iterable[Reply]) -> set[str]:
    """Return the ids of all traces of which somebody knows a span."""
    return {span.trace_id for reply in replies if reply.answer is not None for span in reply.answer.spans}


def _merged(rounds: list[list[Reply]]) -> list[Reply]:
    merged = list(rounds[0])
    for replies in rounds[1:]:
        for place, (known, more) in enumerate(zip(merged, replies, strict=True)):
            if known.answer is not None and more.answer is not None:
                spans = [*known.answer.spans, *more.answer.spans]
                answer = msgspec.structs.replace(known.answer, spans=spans)
                merged[place] = Reply(known.target, answer, "", known.clock_ahead_us, known.clock_within_us)
    return merged


async def _ask(session: aiohttp.ClientSession, target: Target, wanted: str, now_us: Callable[[], int]) -> Reply:
    asked_us = now_us()
    try:
        async with session.get(f"{target.url}{PATH}", params={"trace": wanted}) as response:
            body = await response.read()
            answered_us = now_us()
            if response.status != 200:
                return Reply(target, None, REFUSALS.get(response.status, f"answers HTTP {response.status}"))
            answer = msgspec.json.decode(body, type=SpansAnswer)
    except TimeoutError:
        return Reply(target, None, f"did not answer within {ANSWER_SECONDS:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Reply(target, None, f"cannot be reached: {error}")
    except DECODE_ERRORS as error:
        return Reply(target, None, f"cannot be understood: {error}")
    ahead_us = answer.now_us - (asked_us + answered_us) // 2
    return Reply(target, answer, "", ahead_us, (answered_us - asked_us) // 2)
