"""Changed items reach retrieval in small steps, each once, and the text index is committed beside the loop."""

import asyncio
import threading

from models.catalogue import Catalogue
from models.retrieval import Retriever
from services.processor.catalogue_follower import STEP_ITEMS, CatalogueFollower
from streams.hashing import item_hash
from streams.state import CatalogueEntry
from tests.support.frames import item_rows
from tests.support.poll import wait_until_async


class FakeTexts:
    """Notes what is done to it, and on which thread."""

    def __init__(self) -> None:
        self.staged = 0
        self.committed_by: list[int] = []
        self.shown_by: list[int] = []

    def stage(self) -> bool:
        self.staged += 1
        return True

    def commit(self) -> None:
        self.committed_by.append(threading.get_ident())

    def show(self) -> None:
        self.shown_by.append(threading.get_ident())


async def test_changes_are_gathered_and_taken_in_steps() -> None:
    """A whole catalogue at once leaves the loop free in between; it is committed once, by another thread."""
    steps: list[list[int]] = []
    slept: list[float] = []
    texts = FakeTexts()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    follower = CatalogueFollower(steps.append, texts, 0.25, sleep)
    running = asyncio.create_task(follower.run())
    follower.changed([1, 2])
    follower.changed(range(100))
    assert follower.behind == 100
    await wait_until_async(lambda: texts.shown_by, what="the new texts")
    assert sorted(item for step in steps for item in step) == list(range(100))
    assert max(map(len, steps)) == STEP_ITEMS
    assert (slept, follower.behind) == ([0.25], 0)
    here = threading.get_ident()
    assert len(texts.committed_by) == 1
    assert texts.committed_by[0] != here
    assert texts.shown_by == [here]
    running.cancel()


async def test_whoever_asks_does_not_wait_for_more_changes_to_gather() -> None:
    """An item that was acknowledged before a search is in the search, long before the gathering would have ended."""
    taken: list[int] = []

    async def for_ever(_: float) -> None:
        await asyncio.Event().wait()

    follower = CatalogueFollower(taken.extend, FakeTexts(), 0.25, for_ever)
    running = asyncio.create_task(follower.run())
    assert await follower.level(0)
    follower.changed([7])
    assert not await follower.level(0), "nothing may be claimed that has not happened"
    assert await follower.level(5)
    assert (taken, follower.behind) == ([7], 0)
    follower.changed([8])
    assert await follower.level(5)
    assert taken == [7, 8]
    running.cancel()


async def test_a_large_catalogue_is_searched_while_it_changes() -> None:
    """Queries do not take changes in themselves; they see them once they were shown, and never a row that is gone."""
    rows = item_rows(2_500)
    entries = {item_hash(r.item): CatalogueEntry(r.item, r.time_ms, 1, r.body, deleted=False) for r in rows}
    catalogue = Catalogue(entries)
    retriever = Retriever(catalogue)
    texts = retriever.text_index
    assert texts.propose(("lamp",), None).size
    texts.refreshes_itself = False

    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    follower = CatalogueFollower(catalogue.follow, texts, 0.25, sleep)
    gone = next(iter(entries))
    row = catalogue.row_of(gone)
    words = catalogue.text(row or 0).words
    old = entries[gone]
    entries[gone] = CatalogueEntry(old.item, old.time_ms + 1, 2, b"{}", deleted=True)
    new = CatalogueEntry("brand-new", old.time_ms, 3, b'{"title":"zanzibar"}', deleted=False)
    entries[item_hash("brand-new")] = new
    catalogue.follow([gone])
    assert row not in texts.propose(words, None).tolist(), "it was deleted, whatever the text index still holds"
    follower.changed([item_hash("brand-new")])
    assert texts.propose(("zanzibar",), None).size == 0
    await follower.catch_up()
    found = texts.propose(("zanzibar",), None).tolist()
    assert [catalogue.item_at(r).item for r in found] == ["brand-new"]
