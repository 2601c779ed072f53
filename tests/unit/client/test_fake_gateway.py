"""The gateway in memory keeps the contract that the real one keeps (see tests/e2e/test_public_api.py)."""

import pytest

from tests.support.api_contract import CHECKS, Check
from tests.support.fake_gateway import FakeGateway


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_fake_keeps_the_contract(check: Check) -> None:
    """Each check in turn."""
    async with FakeGateway() as gateway:
        await check(gateway.url)
