"""One region for all end-to-end tests that leave it running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.demo.region import DemoRegion, running_region


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRegion]:
    """Started as a user would, taken down at the end."""
    with running_region(tmp_path_factory.mktemp("e2e") / "region") as running:
        yield running
