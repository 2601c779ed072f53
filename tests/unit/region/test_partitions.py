"""All regions have the same number of partitions: a copier takes as many as its own region has."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.region_settings import RegionSettings
from services.coordination import MemoryStore
from services.region.errors import RegionError
from services.region.prepare import check_partitions


async def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    """The first region decides; what to set is said."""
    store = MemoryStore()
    await check_partitions(RegionSettings(name="east", data_dir=tmp_path, partitions=8), store)
    await check_partitions(RegionSettings(name="west", data_dir=tmp_path, partitions=8), store)
    with pytest.raises(RegionError, match="partitions = 8"):
        await check_partitions(RegionSettings(name="west", data_dir=tmp_path, partitions=4), store)
