"""The active region dies with records in its inbox: its receipt lists them, and closes once they are moved."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from pathlib import Path

import msgspec
import psutil
import pytest

from services.coordination import StoreUnavailable
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.inbox_record import NO_MARKS, InboxMarks, inbox_marks
from services.receipts import Receipt
from streams.logs import inbox_topic
from tests.support.deployment import LocalDeployment, meridian, running_deployment
from tests.support.inboxes import good_records, publish
from tests.support.poll import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
MOVED, STUCK = 40, 25
WAIT_SECONDS = 90
ASK_SECONDS = 2.0


def active_region(running: LocalDeployment) -> str:
    """Which region gives rankings, as soon as one does."""
    found: list[str] = []

    def is_known() -> bool:
        site = running.deployment.regions[0]
        with urllib.request.urlopen(f"{site.url('gateway')}/v1/regions", timeout=10) as answer:
            said = msgspec.json.decode(answer.read())
        found[:] = [said["active"]] if said["active"] else []
        return bool(found)

    wait_until(is_known, WAIT_SECONDS, "an active region")
    return found[0]


def marks(running: LocalDeployment, asked: str, life: str) -> InboxMarks:
    """What is recorded of an inbox, as the etcd of one site says it."""

    async def read() -> InboxMarks:
        url = running.deployment.site(asked).url("etcd_client")
        store = EtcdGatewayStore([url], request_timeout_seconds=ASK_SECONDS)
        try:
            return await inbox_marks(store, inbox_topic(life))
        except StoreUnavailable:
            return NO_MARKS  # a busy machine: it is asked again
        finally:
            await store.close()

    return asyncio.run(read())


def moved(running: LocalDeployment, asked: str, life: str) -> tuple[int, int]:
    """How many records of an inbox are known to be moved, and how many are not."""
    known = marks(running, asked, life)
    return sum(known.moved.values()), known.lag()


def worker_of(running: LocalDeployment, site: str) -> int:
    """The process that moves the inbox."""
    gateway = running.process(site, "gateway").identity
    assert gateway is not None
    (worker,) = psutil.Process(gateway.pid).children()
    return worker.pid


def receipts_of(running: LocalDeployment, asked: str, life: str) -> list[Receipt]:
    """The receipts about a life, as the controller of one region knows them."""
    url = running.deployment.site(asked).url("control")
    done = meridian("receipts", "list", "--json", "--url", url)
    found = msgspec.json.decode(done.stdout, type=list[Receipt]) if done.returncode == 0 else []
    return [receipt for receipt in found if receipt.incarnation == life]


def test_what_lay_in_the_inbox_of_a_dead_region_is_listed_and_comes_back(tmp_path: Path) -> None:
    """Its offsets, all of them and no others; healed when the region is back and has moved them."""
    with running_deployment(tmp_path) as (running, up):
        assert up.ready, up
        dies = active_region(running)
        (other,) = [site.name for site in running.deployment.peers_of(dies)]
        life, bootstrap = running.incarnation(dies), running.deployment.site(dies).bootstrap
        publish(bootstrap, life, good_records(MOVED))
        wait_until(lambda: moved(running, dies, life) == (MOVED, 0), WAIT_SECONDS, "the first records to be moved")
        worker = worker_of(running, dies)
        os.kill(worker, signal.SIGSTOP)
        try:
            places = publish(bootstrap, life, good_records(STUCK, MOVED))
            wait_until(lambda: moved(running, dies, life) == (MOVED, STUCK), WAIT_SECONDS, "the rest to be known")
            running.kill(dies)
        finally:
            os.kill(worker, signal.SIGKILL)  # stopped, it does not notice that its gateway is gone
        wait_until(lambda: bool(receipts_of(running, other, life)), WAIT_SECONDS, "a receipt")
        (receipt,) = receipts_of(running, other, life)
        listed = {(one.partition, offset) for one in receipt.inbox for offset in range(one.start, one.end)}
        assert (receipt.state, listed) == ("open", set(places))
        assert receipt.inbox_remaining == receipt.inbox and receipt.inbox_known_ms > 0
        assert running.up(dies).summary
        assert running.incarnation(dies) == life

        def is_healed() -> bool:
            return [one.state for one in receipts_of(running, other, life)] == ["healed"]

        wait_until(is_healed, WAIT_SECONDS, "the receipt to heal")
        (healed,) = receipts_of(running, other, life)
        assert (healed.inbox_remaining, healed.inbox) == ([], receipt.inbox)
        assert moved(running, other, life) == (MOVED + STUCK, 0)
