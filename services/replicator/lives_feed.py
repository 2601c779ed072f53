"""The list of lives, kept up to date: watched where the store can, and read again now and then in any case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.common.clock import Clock
from services.common.logging import get_logger
from services.coordination.base import CoordinationError, KeyValueStore
from services.coordination.keys import LIVES
from services.coordination.lease import LeaseStore
from services.coordination.lives import Life, all_lives

OnLives = Callable[[list[Life]], Awaitable[None]]
log = get_logger(__name__)


async def watch_lives(store: LeaseStore, on_lives: OnLives, clock: Clock, interval_seconds: float) -> None:
    """Hand on the list now and after each change, for ever; a store that is away is asked again."""
    while True:
        try:
            revision = await store.revision()
            await on_lives(await all_lives(store))
            async for changes in store.watch(LIVES, revision):
                if changes:
                    await on_lives(await all_lives(store))
        except CoordinationError as error:
            log.warning("the list of lives is not news any more", reason=str(error))
        await clock.sleep(interval_seconds)


async def read_lives(store: KeyValueStore, on_lives: OnLives, clock: Clock, interval_seconds: float) -> None:
    """The same with a store that cannot be watched."""
    while True:
        try:
            await on_lives(await all_lives(store))
        except CoordinationError as error:
            log.warning("the list of lives cannot be read", reason=str(error))
        await clock.sleep(interval_seconds)
