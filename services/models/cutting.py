"""A training set from the events logs of the region that a command works with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaException

from models.data.log_cut import cut, refuse_other, wanted_frontier
from models.data.logged import LoggedSource
from models.errors import SourceUnreadable
from services.common.region_settings import RegionSettings
from services.common.settings import load
from services.models.premises import find
from services.processor.logs import asker, lives_among
from services.processor.settings import ProcessorSettings
from streams.logs import events_log
from streams.replay import Progress

SAY_EVERY_RECORDS = 5_000


def cut_region(data_dir: Path | None, region: str, frontier: Path | None) -> LoggedSource:
    """The events of all lives whose logs stand in the region's Kafka, up to a frontier in a file or to their ends.

    They are folded as the region's processor folds them. Raises SourceUnreadable, SettingsError, BadRequest.
    """
    written = None if frontier is None else _frontier(frontier)
    until = None if written is None else wanted_frontier(written)
    settings = find(data_dir, region).region
    processor = load(ProcessorSettings)
    logs = events_logs(settings, processor.broker_timeout_seconds)
    print(f"reading {', '.join(logs)} at {settings.bootstrap}", file=sys.stderr, flush=True)
    source = cut(settings.bootstrap, logs, until, parameters=processor.parameters, on_progress=_Said().told)
    if written is not None:
        refuse_other(source, written)
    return msgspec.structs.replace(source, name=f"the events logs {', '.join(logs)}")


def events_logs(region: RegionSettings, timeout_seconds: float) -> list[str]:
    """The events logs of every life that stand in a region's Kafka. Raises SourceUnreadable."""
    regions = {region.name} if region.is_alone else {site.name for site in region.load_deployment().regions}
    try:
        topics = asker(region).list_topics(timeout=timeout_seconds).topics
    except KafkaException as error:
        raise SourceUnreadable(
            f"Kafka at {region.bootstrap} does not list its logs: {error}. Next: `meridian status` says whether it runs"
        ) from error
    logs = [events_log(life) for life in lives_among(topics, regions)]
    if not logs:
        raise SourceUnreadable(
            f"Kafka at {region.bootstrap} holds no events log of {', '.join(sorted(regions))}. Next: check "
            "--region and --data-dir, or the setting bootstrap"
        )
    return logs


def _frontier(file: Path) -> dict[str, Any]:
    try:
        written = msgspec.json.decode(file.read_bytes(), type=dict)
    except (OSError, msgspec.MsgspecError) as error:
        raise SourceUnreadable(f"{file} holds no frontier: {error}; give a JSON file") from error
    found: dict[str, Any] = written.get("frontier", written)
    return found


class _Said:
    """A line every so many records."""

    def __init__(self) -> None:
        self._next = SAY_EVERY_RECORDS

    def told(self, progress: Progress) -> None:
        if progress.records >= self._next:
            self._next = progress.records + SAY_EVERY_RECORDS
            print(
                f"{progress.records} of {progress.records_total} records, {progress.events} events",
                file=sys.stderr,
                flush=True,
            )
