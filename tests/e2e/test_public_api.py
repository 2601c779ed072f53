"""A real region keeps the contract that the gateway in memory keeps."""

from __future__ import annotations

import pytest

from services.demo.region import DemoRegion
from tests.support.api_contract import CHECKS, Check

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_region_keeps_the_contract(region: DemoRegion, check: Check) -> None:
    """Each check in turn."""
    await check(region.addresses["gateway"])
