"""The step between Kafka and everything that reads or writes logs: which life is this, and is its log whole?

Runs after each start of the broker, because a broker that comes back may have come back with less: a cluster id does
not prove the same life. It allocates the incarnation, binds the pseudonym key, holds every log's end against what was
acknowledged from it, and makes the topics of this incarnation and of the next, so that a later wipe surprises nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import cast

from services.common.clock import Clock, SystemClock, random_bytes
from services.common.exit_codes import ExitCode
from services.common.logging import get_logger
from services.common.own_ends import read_own_ends
from services.common.process import LoadedSettings, main_exit, run_service
from services.common.region_settings import RegionSettings
from services.coordination import KeyValueStore
from services.coordination.base import StoreUnavailable
from services.coordination.opening import opened_store
from services.coordination.region_record import (
    KeyMismatch,
    acknowledged_ends,
    agreed_partitions,
    allocate_incarnation,
    check_key_fingerprint,
    cut_partitions,
    key_fingerprint,
    next_incarnation_name,
)
from services.coordination.settings import CoordinationSettings
from services.region.broker import BrokerSilent, admin_of, cluster_id_of, log_ends, make_topics
from services.region.errors import RegionError
from services.region.life import LifeDrained, LifeOver, PeersMissing, continue_life, topics_wanted
from services.region.premises import SitePremises
from streams.errors import LogTruncated
from streams.logs import events_log, queues_of, topics_of
from streams.pseudonym import KEY_BYTES, Pseudonyms

CUT_CONFIRMED_SECONDS = 3.0
POLL_SECONDS = 0.1
STORE_WAIT_SECONDS = 60.0

log = get_logger(__name__)


async def prepare(region: RegionSettings, coordination: CoordinationSettings | None = None) -> str:
    """Return the incarnation, its topics made and its log found whole.

    Raises LogTruncated, KeyMismatch, RegionError (settings), BrokerSilent; in a deployment LifeOver, LifeDrained,
    PeersMissing, StoreUnavailable.
    """
    clock = SystemClock()
    async with opened_store(region, coordination or CoordinationSettings(), clock) as store:
        await wait_for_store(store, clock)
        await check_key_fingerprint(store, Pseudonyms(await read_or_make_key(region, store)).fingerprint)
        admin = admin_of(region.bootstrap)
        cluster_id = await asyncio.to_thread(cluster_id_of, admin, region.bootstrap)
        if region.is_alone:
            incarnation = await _continue_alone(region, store, cluster_id)
            topics = [*topics_of(incarnation), *topics_of(next_incarnation_name(incarnation))]
        else:
            await check_partitions(region, store)
            site = SitePremises(region)
            incarnation = (await continue_life(site, store, cluster_id, clock)).incarnation
            topics = await topics_wanted(site, store)
    await asyncio.to_thread(make_topics, admin, [*topics, *queues_of(incarnation)], region.partitions)
    region.incarnation_file.write_text(incarnation + "\n")
    log.info("prepared", incarnation=incarnation, cluster_id=cluster_id, partitions=region.partitions)
    return incarnation


async def check_partitions(region: RegionSettings, store: KeyValueStore) -> None:
    """Refuse another number of partitions than the other regions have: what lies in the rest would never be copied."""
    agreed = await agreed_partitions(store, region.partitions)
    if agreed != region.partitions:
        raise RegionError(
            f"the settings of {region.name} say {region.partitions} partitions, the deployment's logs have {agreed}. "
            f"It is the same in every region and never changes: set [region] partitions = {agreed}."
        )


async def _continue_alone(region: RegionSettings, store: KeyValueStore, cluster_id: str) -> str:
    incarnation = await allocate_incarnation(store, region.name, cluster_id)
    name = events_log(incarnation)
    recorded, own = await acknowledged_ends(store, name), read_own_ends(region.data_dir, name)
    known = {p: max(recorded.get(p, 0), own.get(p, 0)) for p in {*recorded, *own}}
    if known:
        await asyncio.to_thread(check_ends, region.bootstrap, name, known)
    return incarnation


async def wait_for_store(store: KeyValueStore, clock: Clock, limit_seconds: float = STORE_WAIT_SECONDS) -> None:
    """Return once the coordination store answers; raises StoreUnavailable when it does not in time."""
    deadline = clock.monotonic() + limit_seconds
    while True:
        try:
            await key_fingerprint(store)
        except StoreUnavailable as problem:
            if clock.monotonic() > deadline:
                raise StoreUnavailable(
                    f"etcd has not answered for {limit_seconds:g} s: {problem}. More than half of the sites must run; "
                    "`meridian status` shows which do. See docs/operating/lost-quorum.md."
                ) from problem
            log.info("waits for etcd", reason=str(problem))
            await clock.sleep(POLL_SECONDS)
        else:
            return


async def read_or_make_key(region: RegionSettings, store: KeyValueStore) -> bytes:
    """Return the pseudonym key, made when the record knows of none yet. Raises RegionError, KeyMismatch."""
    path = region.pseudonym_key_file
    try:
        key = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        if await key_fingerprint(store) is not None:
            raise KeyMismatch(
                f"{path} is gone, but the region has a record: its logs were written under that key. Put the file back "
                "(a backup, or a copy from another region); a new key would make every user a stranger."
            ) from None
        key = random_bytes(KEY_BYTES)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return key
    except (OSError, ValueError) as error:
        raise RegionError(f"{path} is not {2 * KEY_BYTES} hex digits: {error}. Put the right file back.") from None
    if len(key) != KEY_BYTES:
        raise RegionError(f"{path} holds {len(key)} bytes, a pseudonym key has {KEY_BYTES}. Put the right file back.")
    return key


def check_ends(bootstrap: str, log_name: str, recorded: dict[int, int]) -> None:
    """Raise LogTruncated if the log ends before what was acknowledged from it, and keeps doing so for a while.

    A broker that has just come back may not know a topic or its high watermark at once; a cut does not heal.
    """
    deadline = time.monotonic() + CUT_CONFIRMED_SECONDS
    places = [(log_name, partition) for partition in recorded]
    while cuts := cut_partitions(recorded, log_ends(bootstrap, places)[log_name]):
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    if cuts:
        listed = ", ".join(f"partition {p}: acknowledged up to {end}, ends at {now}" for p, end, now in cuts)
        raise LogTruncated(
            f"{log_name} was cut: {listed}. Acknowledged events are missing, so nothing reads or writes it. Restore "
            "the log's directory from a copy and start again; or, to go on without them, move the region's kafka "
            "directory away (keep it): the next start then opens a new incarnation."
        )


async def _serve(loaded: LoadedSettings, _: asyncio.Event) -> None:
    region, coordination = loaded[RegionSettings], loaded[CoordinationSettings]
    await prepare(cast("RegionSettings", region), cast("CoordinationSettings", coordination))


def main() -> int:
    """Run the step; the exit code says what an operator must mend, or what the supervisor is to do."""
    return run_service(
        "region.prepare",
        [RegionSettings, CoordinationSettings],
        _serve,
        exit_codes={
            LogTruncated: ExitCode.LOG_TRUNCATED_OR_GAP,
            KeyMismatch: ExitCode.KEY_MISMATCH,
            LifeOver: ExitCode.LIFE_OVER,
            LifeDrained: ExitCode.LIFE_DRAINED,
            PeersMissing: ExitCode.CRASH,
            BrokerSilent: ExitCode.CRASH,
            StoreUnavailable: ExitCode.CRASH,
            RegionError: ExitCode.BAD_SETTINGS,
        },
    )


if __name__ == "__main__":
    main_exit(main())
