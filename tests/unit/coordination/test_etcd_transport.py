"""Rotation, doubt and terms, against members that answer as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from services.coordination import CasConflict, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.etcd_transport import version_warning
from services.coordination.etcd_wire import prefix_end
from services.coordination.lease import LeaseLost
from tests.support.poll import wait_until_async

RANGE = "/v3/kv/range"
TXN = "/v3/kv/txn"
FAILED = {"code": 14, "message": "etcdserver: request timed out"}


class FakeMember:
    """One member: says what it is told to, in its own term, and remembers what it was asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.term = 5
        self.says: dict[str, Any] = {}
        self.refuses: dict[str, Any] | None = None
        self.hangs_up = False
        self.answers = asyncio.Event()
        """Not set: it hangs, and still accepts connections."""
        self.answers.set()
        self.asked: list[tuple[str, str]] = []
        self.server = TestServer(web.Application())
        self.server.app.router.add_post("/{path:.*}", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        await self.answers.wait()
        if self.hangs_up:
            assert request.transport is not None
            request.transport.close()
        if self.refuses is not None and request.path != "/v3/auth/authenticate":
            return web.json_response(self.refuses, status=503)
        header = {"raft_term": str(self.term), "member_id": str(self.number), "revision": "7"}
        return web.json_response({"header": header, **self.says})


@pytest.fixture
async def members() -> AsyncIterator[list[FakeMember]]:
    """Three of them, serving."""
    found = [FakeMember(number) for number in (1, 2, 3)]
    for member in found:
        await member.server.start_server()
    yield found
    for member in found:
        await member.server.close()


@pytest.fixture
async def store(members: list[FakeMember]) -> AsyncIterator[EtcdGatewayStore]:
    """A store on them."""
    opened = EtcdGatewayStore([str(member.server.make_url("")) for member in members], request_timeout_seconds=5)
    yield opened
    await opened.close()


async def test_who_answered_is_asked_first(members: list[FakeMember], store: EtcdGatewayStore) -> None:
    """A member that fails costs one try, not one in each request."""
    members[0].refuses = FAILED
    for _ in range(3):
        assert await store.revision() == 7
    assert [len(member.asked) for member in members] == [1, 3, 0]


async def test_every_member_is_asked_whatever_others_find_out_meanwhile(
    members: list[FakeMember], store: EtcdGatewayStore
) -> None:
    """Requests share whom they ask first; one that is under way still asks each member once."""
    members[0].answers.clear()
    members[0].refuses = members[2].refuses = FAILED
    asked = asyncio.create_task(store.revision())
    await wait_until_async(lambda: members[0].asked, what="the first member to be asked")
    store.transport.avoid(store.transport.preferred)
    members[0].answers.set()
    assert await asked == 7
    assert [len(member.asked) for member in members] == [1, 1, 0]


async def test_an_answer_out_of_an_older_term_is_refused(members: list[FakeMember], store: EtcdGatewayStore) -> None:
    """A member that does not know yet that it was replaced is passed over."""
    members[1].term = 6
    members[0].refuses = FAILED
    await store.revision()
    members[0].refuses = None
    members[0].says = {"count": "1"}
    members[1].refuses = FAILED
    members[2].term = 6
    await store.revision()
    assert members[2].asked
    members[2].refuses = FAILED
    with pytest.raises(StoreUnavailable, match="term 5, which is over"):
        await store.revision()


async def test_a_majority_in_an_older_term_was_restored(members: list[FakeMember], store: EtcdGatewayStore) -> None:
    """The members that elected a later leader know its term: if most do not, it no longer exists."""
    members[0].term = 9
    assert await store.revision() == 7
    members[0].refuses = FAILED
    assert await store.revision() == 7


async def test_a_refused_write_is_a_conflict_unless_an_answer_was_lost_before(
    members: list[FakeMember], store: EtcdGatewayStore
) -> None:
    """After a lost answer, a changed key may be one's own doing: nobody can say, so nobody claims."""
    for member in members:
        member.says = {"responses": [{"response_range": {"kvs": [{"key": "L2E=", "mod_revision": "4"}]}}]}
    with pytest.raises(CasConflict, match="is at revision 4, not 0"):
        await store.compare_and_put("/a", b"x", ABSENT)
    members[0].hangs_up = True
    with pytest.raises(StoreUnavailable, match="an answer was lost"):
        await store.compare_and_put("/a", b"x", ABSENT)
    assert members[1].asked


async def test_after_a_lost_answer_one_s_own_lease_proves_one_s_own_write(
    members: list[FakeMember], store: EtcdGatewayStore
) -> None:
    """Nobody else has this lease: a key on it with this value was written by the try that was not heard of."""
    found = {"key": "L2E=", "value": "eA==", "lease": "77", "mod_revision": "4", "create_revision": "4"}
    for member in members:
        member.says = {"responses": [{"response_range": {"kvs": [found]}}]}
    members[0].hangs_up = True
    assert (await store.compare_and_put("/a", b"x", ABSENT, lease_id=77)).revision == 4
    members[1].hangs_up = True
    with pytest.raises(StoreUnavailable):
        await store.compare_and_put("/a", b"other", ABSENT, lease_id=77)


async def test_without_doubt_even_one_s_own_lease_is_a_conflict(
    members: list[FakeMember], store: EtcdGatewayStore
) -> None:
    """Whoever writes twice without reading is told, also when both writes are its own."""
    found = {"key": "L2E=", "value": "eA==", "lease": "77", "mod_revision": "4"}
    members[0].says = {"responses": [{"response_range": {"kvs": [found]}}]}
    with pytest.raises(CasConflict):
        await store.compare_and_put("/a", b"x", ABSENT, lease_id=77)


async def test_a_renewal_without_a_time_to_live_is_a_lost_lease(
    members: list[FakeMember], store: EtcdGatewayStore
) -> None:
    """The gateway answers 200 for a lease that is gone."""
    members[0].says = {"result": {"header": {"raft_term": "5", "member_id": "1"}, "ID": "77"}}
    with pytest.raises(LeaseLost):
        await store.keep_alive(77)
    members[0].says["result"]["TTL"] = "2"
    assert await store.keep_alive(77) == 2.0


async def test_when_nobody_answers_each_member_s_reason_is_said(members: list[FakeMember]) -> None:
    """One line for an operator: who was asked, and what came of it."""
    members[1].refuses = FAILED
    urls = [str(member.server.make_url("")).rstrip("/") for member in members]
    store = EtcdGatewayStore(urls[:2], request_timeout_seconds=5)
    await members[0].server.close()
    with pytest.raises(StoreUnavailable) as raised:
        await store.revision()
    assert str(raised.value) == (
        f"no etcd member answered. {urls[0]}: Connection refused; {urls[1]}: etcdserver: request timed out"
    )
    await store.close()


async def test_a_token_is_fetched_when_one_is_asked_for(members: list[FakeMember]) -> None:
    """Authentication costs nothing until the cluster wants it; a wrong password is said as such."""
    from services.common.settings import Secret

    first = members[0]
    store = EtcdGatewayStore([str(first.server.make_url(""))], username="m", password=Secret("p"))
    first.refuses = {"code": 3, "message": "etcdserver: user name is empty"}
    first.says = {"token": "t.1"}
    with pytest.raises(StoreUnavailable, match="MERIDIAN_COORDINATION_USERNAME"):
        await store.revision()
    assert first.asked[1:] == [("/v3/auth/authenticate", ""), (RANGE, "t.1")]
    await store.close()


async def test_a_watch_that_a_hanging_member_never_begins_is_given_up(members: list[FakeMember]) -> None:
    """Or a member that was stopped at the wrong moment would blind its asker until it goes on."""
    urls = [str(member.server.make_url("")) for member in members]
    store = EtcdGatewayStore(urls, request_timeout_seconds=5, watch_silence_seconds=0.1)
    members[0].answers.clear()
    with pytest.raises(StoreUnavailable, match="no answer in time"):
        async with asyncio.timeout(20):
            await anext(aiter(store.watch("/a", 7)))
    assert store.transport.preferred == urls[1].rstrip("/")
    members[0].answers.set()
    await store.close()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ({"code": 8, "message": "etcdserver: mvcc: database space exceeded"}, "database is full"),
        ({"code": 7, "message": "etcdserver: permission denied"}, "etcd refuses: etcdserver: permission denied"),
        ({"code": 3, "message": "etcdserver: user name is empty"}, "_USERNAME and _PASSWORD"),
    ],
)
async def test_what_every_member_would_say_is_asked_once(
    members: list[FakeMember], store: EtcdGatewayStore, refusal: dict[str, Any], said: str
) -> None:
    """The operator reads what to do; the other members are left alone."""
    members[0].refuses = refusal
    with pytest.raises(StoreUnavailable, match=said):
        await store.revision()
    assert not members[1].asked


async def test_a_learner_or_a_leaderless_member_leaves_no_doubt(
    members: list[FakeMember], store: EtcdGatewayStore
) -> None:
    """They refuse at the door: what comes after them is judged as if they had not been asked."""
    members[0].refuses = {"code": 14, "message": "etcdserver: rpc not supported for learner"}
    members[1].refuses = {"code": 14, "message": "etcdserver: no leader"}
    members[2].says = {"responses": [{"response_range": {}}]}
    with pytest.raises(CasConflict):
        await store.compare_and_put("/a", b"x", 4)


@pytest.mark.parametrize(
    ("version", "warns"),
    [("3.6.16", False), ("3.6.9", False), ("3.6.8", True), ("3.5.28", False), ("3.5.9", True), ("3.4.40", True),
     ("4.0.0", False), ("3.7.0-rc.1", False), ("", False)],
)  # fmt: skip
def test_old_servers_are_warned_about(version: str, warns: bool) -> None:  # noqa: FBT001 - a table's column
    """Below 3.5.28 and 3.6.9 a revived leader renews leases that are over."""
    assert (version_warning(version) is not None) == warns


async def test_the_warning_is_given_at_the_start(members: list[FakeMember], store: EtcdGatewayStore) -> None:
    """Of each old member that answers; those that do not are left out."""
    members[0].says = {"version": "3.5.9"}
    members[1].says = {"version": "3.6.16"}
    members[2].refuses = FAILED
    with capture_logs() as logged:
        await store.transport.warn_about_old_servers()
    assert [(entry["log_level"], entry["endpoint"]) for entry in logged] == [("warning", store.transport.endpoints[0])]
    assert "3.5.28 or newer" in logged[0]["reason"]


def test_a_prefix_ends_before_the_next_one() -> None:
    """As etcd counts bytes."""
    assert prefix_end(b"/a/") == b"/a0"
    assert prefix_end(b"a\xff") == b"b"
    assert prefix_end(b"") == b"\0"
