"""The broker of these tests comes from an image; the tests themselves do not know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import KAFKA, ContaineredBroker, image_or_skip


@pytest.fixture(scope="session")
def kafka() -> Iterator[ContaineredBroker]:
    """A broker for the whole run; tests use names of their own and leave it running."""
    with ContaineredBroker(image_or_skip(KAFKA)).running() as broker:
        yield broker


@pytest.fixture
def fresh_broker() -> Iterator[ContaineredBroker]:
    """A broker for one test alone, to be killed at will."""
    with ContaineredBroker(image_or_skip(KAFKA)).running() as broker:
        yield broker
