"""What `meridian status` shows besides a controller's answer, asked of whoever knows it, all at once.

etcd's members are asked one by one, because a controller that reached a majority does not know who is missing; the
holder itself how long its lease still goes; each region's processor and worker for the numbers of their metrics. What
does not answer in time stays unknown: a screen that is looked at in trouble must not wait for what is in trouble.
"""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from services.common.deployment import Deployment
from services.controller.answers import StatusAnswer
from services.controller.asking import NoController, Refused, ask
from services.coordination.history import Entry, HistoryAnswer

LOOK_SECONDS: Final = 0.7
DECISIONS: Final = 5
P99: Final = 0.99
_SCORING: Final = "meridian_inference_request_seconds"
_DEVICE: Final = "meridian_inference_device"

T = TypeVar("T")
Buckets = Mapping[float, float]
"""Requests that took at most so many seconds, since the worker was started."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to the deployment."""

    at_ms: int
    sentence: str


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a region's processor and worker say of their work; None: not known."""

    waiting_records: int | None = None
    """Records in its logs that its processor has not folded."""
    stream_lag_seconds: float | None = None
    scoring_p99_ms: float | None = None
    """Of requests since the last look, or since the worker was started; an upper bound, from a histogram."""
    device: str = ""
    """What the model really runs on."""
    fell_back: bool = False
    """Whether another device was asked for."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything around the controller's answer."""

    members: int
    """Of the coordination store."""
    members_answering: int
    lease_left_seconds: float | None
    """As its holder says."""
    decisions: list[Decided] | None
    """The last few, the newest first; None: nobody told."""
    work: dict[str, Work]
    """By region."""


NOTHING_AROUND: Final = Surroundings(members=0, members_answering=0, lease_left_seconds=None, decisions=None, work={})


class Looker:
    """Looks again and again; remembers what a worker had counted, so that its p99 is of now."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._counted: dict[str, Buckets] = {}

    def look(self, found: StatusAnswer) -> Surroundings:
        """Ask everybody at once; takes LOOK_SECONDS at most, as far as time-outs hold."""
        deployment = self._deployment
        names = [site.name for site in deployment.regions]
        with ThreadPoolExecutor(max_workers=16) as pool:
            members = [pool.submit(_healthy, url) for url in deployment.etcd_endpoints]
            lease = pool.submit(_lease_left, deployment, found)
            decisions = pool.submit(_decisions, deployment)
            work = [pool.submit(self._work, name) for name in names]
            return Surroundings(
                members=len(members),
                members_answering=sum(member.result() for member in members),
                lease_left_seconds=lease.result(),
                decisions=decisions.result(),
                work={name: each.result() for name, each in zip(names, work, strict=True)},
            )

    def _work(self, region: str) -> Work:
        site = self._deployment.site(region)
        nothing: tuple[int | None, float | None] = (None, None)
        records, lag_seconds = _known(lambda: _stream_lag(_read(f"{site.url('processor')}/metrics")), nothing)
        scoring = _known(lambda: _scoring(_read(f"{site.url('inference')}/metrics")), None)
        if scoring is None:
            return Work(waiting_records=records, stream_lag_seconds=lag_seconds)
        buckets, device, fell_back = scoring
        before, self._counted[region] = self._counted.get(region, {}), buckets
        p99 = quantile(buckets, before, P99)
        return Work(
            waiting_records=records,
            stream_lag_seconds=lag_seconds,
            scoring_p99_ms=None if p99 is None else round(p99 * 1000, 1),
            device=device,
            fell_back=fell_back,
        )


def quantile(now: Buckets, before: Buckets, share: float) -> float | None:
    """The bound of the bucket below which that share lies, of what came since `before`; None when nothing ever did.

    A worker that was started anew has counted less than before: then all that it has counted is taken.
    """
    since = {bound: count - before.get(bound, 0.0) for bound, count in now.items()}
    if not since or min(since.values()) < 0 or max(since.values()) <= 0:
        since = dict(now)
    total = max(since.values(), default=0.0)
    if total <= 0:
        return None
    finite = [bound for bound in sorted(since) if bound != float("inf")]
    return next((bound for bound in finite if since[bound] >= share * total), finite[-1] if finite else None)


def _known(asked: Callable[[], T], unknown: T) -> T:
    try:
        return asked()
    except (OSError, http.client.HTTPException, ValueError):
        return unknown


def _read(url: str) -> str:
    if not url.startswith("http://"):
        raise ValueError(f"{url} is no address of a process")
    with urllib.request.urlopen(url, timeout=LOOK_SECONDS) as answer:  # noqa: S310 - checked above
        found: bytes = answer.read()
    return found.decode()


def _healthy(url: str) -> bool:
    return _known(lambda: '"true"' in _read(f"{url}/health"), unknown=False)


def _lease_left(deployment: Deployment, found: StatusAnswer) -> float | None:
    if found.leader is None:
        return None
    if found.leader.region == found.region:
        return found.lease_left_seconds
    try:
        raw = ask(deployment, "/v1/status", region=found.leader.region, seconds_max=LOOK_SECONDS)
    except (NoController, Refused):
        return None
    return msgspec.json.decode(raw, type=StatusAnswer).lease_left_seconds


def _decisions(deployment: Deployment) -> list[Decided] | None:
    try:
        raw = ask(deployment, "/v1/history", seconds_max=LOOK_SECONDS)
    except (NoController, Refused):
        return None
    entries: list[Entry] = msgspec.json.decode(raw, type=HistoryAnswer).entries
    return [Decided(at_ms=entry.at_ms, sentence=entry.sentence) for entry in reversed(entries[-DECISIONS:])]


def _stream_lag(metrics: str) -> tuple[int | None, float | None]:
    samples = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]
    records = [sample.value for sample in samples if sample.name == "kafka_consumergroup_lag"]
    seconds = [sample.value for sample in samples if sample.name == "meridian_stream_lag_seconds"]
    return int(sum(records)) if records else None, max(seconds, default=None)


def _scoring(metrics: str) -> tuple[Buckets, str, bool]:
    buckets: dict[float, float] = {}
    requested = actual = ""
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == f"{_SCORING}_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            elif sample.name.startswith(_DEVICE) and sample.value == 1:
                requested, actual = sample.labels.get("requested", ""), sample.labels.get("actual", "")
    return buckets, actual, requested not in ("", "auto", actual)
