"""A region's own memory of its life, held against a coordination store that was restored from an old backup."""

from __future__ import annotations

from pathlib import Path

from services.common.region_settings import RegionSettings
from services.coordination import MemoryStore
from services.coordination.lives import all_lives, open_life
from services.region.life import number_min
from services.region.premises import LIFE_FILE, OwnLife, SitePremises


async def begin(store: MemoryStore, region: RegionSettings, cluster_id: str) -> str:
    """What the preparing step does, without Kafka."""
    site = SitePremises(region)
    life = await open_life(store, "east", cluster_id, 1, number_min(site.own_life(), cluster_id))
    site.remember(OwnLife(life.number, cluster_id))
    return life.incarnation


async def test_an_old_backup_of_the_store_gives_no_life_an_earlier_name(tmp_path: Path) -> None:
    """East is in its third life; a store that knows only the first must not make it write the second one's log."""
    store, region = MemoryStore(), RegionSettings(name="east", data_dir=tmp_path)
    assert await begin(store, region, "kafka-1") == "east-1"
    backup, revision = await store.list(""), await store.revision()
    assert await begin(store, region, "kafka-2") == "east-2"
    assert await begin(store, region, "kafka-3") == "east-3"
    store.restore(backup, revision)
    assert await begin(store, region, "kafka-3") == "east-3"
    store.restore([], 1)
    assert await begin(store, region, "kafka-3") == "east-3"
    known = [(life.incarnation, life.sealed) for life in await all_lives(store)]
    assert known == [("east-1", True), ("east-2", True), ("east-3", False)], "their logs are still to be read"
    assert await begin(store, region, "kafka-4") == "east-4"


async def test_a_store_that_knows_more_is_believed(tmp_path: Path) -> None:
    """As when the region's directory is the older one."""
    store, region = MemoryStore(), RegionSettings(name="east", data_dir=tmp_path)
    for number in (1, 2, 3):
        assert await begin(store, region, f"kafka-{number}") == f"east-{number}"
    SitePremises(region).remember(OwnLife(1, "kafka-1"))
    assert await begin(store, region, "kafka-1") == "east-4"


async def test_a_memory_that_cannot_be_read_decides_nothing(tmp_path: Path) -> None:
    """Then the store does."""
    store, region = MemoryStore(), RegionSettings(name="east", data_dir=tmp_path)
    (tmp_path / LIFE_FILE).write_text("{")
    assert await begin(store, region, "kafka-1") == "east-1"
