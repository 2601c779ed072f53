"""The verbs `receipts` and `history`, against a controller's answers and against files."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from services.audit.cli import history, receipts
from services.audit.source import merged
from services.common.deployment import Deployment, Site
from services.coordination import MemoryStore
from services.coordination.history import Entry, History, HistoryAnswer
from services.ledger.acks import Ack, AckWriter
from services.receipts import Range, Receipt, Timeline
from services.receipts.client import ReceiptsAnswer

LOG = "east-1.events"


def receipt(receipt_id: str = "east-1-0-7", **changes: object) -> Receipt:
    """East was lost; one record of three events is missing."""
    missing = Range(log=LOG, partition=0, start=4, end=6, events=3)
    found = Receipt(
        receipt_id=receipt_id,
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        created_ms=1_700_000_000_500,
        reason="the lease ran out",
        survivors=["west"],
        last_contact_ms=1_700_000_000_000,
        ranges=[missing],
        remaining=[missing],
        state="open",
        known_ends={LOG: {0: 6}},
        timeline=Timeline(last_seen_ms=1_000, lease_gone_ms=3_000, acquired_ms=3_050, serving_ms=3_200),
    )
    return msgspec.structs.replace(found, **changes)


class Controller(ThreadingHTTPServer):
    """Answers what it is told to, and 404 otherwise."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One answer a path."""

    server: Controller

    def do_GET(self) -> None:
        body = self.server.answers.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def controller() -> Iterator[Controller]:
    """A controller that answers."""
    with Controller() as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield serving
        finally:
            serving.shutdown()
            thread.join()


def deployed(tmp_path: Path, port: int = 1) -> Path:
    """A deployment whose controllers are where nobody listens, unless a port says otherwise."""
    sites = [
        Site(name="east", kind="region", host="127.0.0.1", base_port=1, namespace=""),
        Site(name="west", kind="region", host="127.0.0.1", base_port=port, namespace=""),
    ]
    Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(tmp_path)).save()
    return tmp_path


def on_disk(data_dir: Path, region: str, found: Receipt) -> Path:
    """A region's mirror of a receipt."""
    path = data_dir / region / "receipts" / f"{found.receipt_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(found))
    return path


def acks_file(path: Path, *offsets: int, log: str = LOG) -> Path:
    """An app's acknowledgements."""
    with AckWriter(path) as out:
        for offset in offsets:
            out.write(Ack(source="/app", id=f"e{offset}", time_ms=1, kind="click", log=log, partition=0, offset=offset))
    return path


def run(*words: str) -> Result:
    """`meridian receipts ...`."""
    return CliRunner().invoke(receipts, list(words))


def run_history(*words: str) -> Result:
    """`meridian history ...`, as services.cli runs a plain function."""
    import typer

    app = typer.Typer()
    app.command()(history)
    return CliRunner().invoke(app, list(words))


def test_a_controller_is_asked(controller: Controller) -> None:
    """List and show, for people and as JSON."""
    controller.answers["/v1/receipts"] = msgspec.json.encode(ReceiptsAnswer(receipts=[receipt(), receipt("other")]))
    listed = run("list", "--url", controller.url)
    assert listed.exit_code == 0 and "east-1-0-7" in listed.stdout and "other" in listed.stdout
    assert [found["receipt_id"] for found in json.loads(run("list", "--url", controller.url, "--json").stdout)] == [
        "east-1-0-7",
        "other",
    ]
    shown = run("show", "east-1-0-7", "--url", controller.url).stdout
    assert "lease gone +2.000 s" in shown and "3 events in 1 range;" in shown and LOG in shown
    assert "2023-11-14 22:13:20.000Z" in shown
    found = msgspec.json.decode(run("show", "other", "--url", controller.url, "--json").stdout, type=Receipt)
    assert found == receipt("other")


def test_an_unknown_receipt_is_refused_with_those_there_are(controller: Controller) -> None:
    """Exit code 64, and what to type instead."""
    controller.answers["/v1/receipts"] = msgspec.json.encode(ReceiptsAnswer(receipts=[receipt()]))
    refused = run("show", "east-9", "--url", controller.url)
    assert refused.exit_code == 64 and "Receipts: east-1-0-7" in refused.stderr


def test_files_are_read_when_no_controller_answers(tmp_path: Path) -> None:
    """A closed receipt is newer than an open one, and the source is named."""
    deployed(tmp_path)
    on_disk(tmp_path, "east", receipt())
    on_disk(tmp_path, "west", receipt(state="healed", remaining=[]))
    listed = run("list", "--data-dir", str(tmp_path))
    assert listed.exit_code == 0 and "healed" in listed.stdout and "open" not in listed.stdout
    assert "no controller answered" in listed.stderr


def test_nothing_anywhere_is_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    """No receipts and nobody to ask are two different things."""
    refused = run("list", "--data-dir", str(deployed(tmp_path)))
    assert refused.exit_code == 69 and "no controller answered" in refused.stderr
    assert run("list", "--data-dir", str(tmp_path / "nowhere")).exit_code == 64


def test_the_most_advanced_of_several_copies_counts() -> None:
    """Closed before open, less missing before more."""
    half = receipt(remaining=[Range(log=LOG, partition=0, start=5, end=6, events=None)])
    assert merged([receipt(), half]) == merged([half, receipt()]) == [half]
    closed = receipt(state="confirmed_lost")
    assert merged([half, closed, receipt()]) == [closed]


@pytest.mark.parametrize(
    ("offsets", "code", "affected", "unknown"),
    [((3,), 0, 0, 0), ((3, 4, 5, 6), 1, 2, 1), ((3, 6), 2, 0, 1), ((), 0, 0, 0)],
)
def test_match_says_what_is_affected(
    tmp_path: Path, offsets: tuple[int, ...], code: int, affected: int, unknown: int
) -> None:
    """From a receipt in a file; the affected lines can be written down to be published again."""
    where = on_disk(tmp_path, "east", receipt())
    acks = acks_file(tmp_path / "acks.jsonl", *offsets)
    out = tmp_path / "affected.jsonl"
    matched = run("match", str(where), str(acks), "--json", "--affected", str(out))
    found = json.loads(matched.stdout)
    assert matched.exit_code == code, matched.output
    assert (len(found["affected"]), len(found["unknown"])) == (affected, unknown)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [
        f"e{offset}" for offset in offsets if offset in (4, 5)
    ]


def test_damaged_acknowledgements_are_named(tmp_path: Path) -> None:
    """Unknown is never success: exit code 64 and the line."""
    where = on_disk(tmp_path, "east", receipt())
    (tmp_path / "acks.jsonl").write_text('{"source": 1}\n')
    refused = run("match", str(where), str(tmp_path / "acks.jsonl"))
    assert refused.exit_code == 64 and "line 1" in refused.stderr


async def chain() -> list[Entry]:
    """Three entries."""
    written = History(MemoryStore())
    for number in range(3):
        await written.append(at_ms=number, region="east", kind="pause", sentence=f"paused {number}", epoch=(0, 4))
    return await written.entries()


async def test_history_is_shown_and_verified(controller: Controller) -> None:
    """The chain is checked here, whatever the controller says of it."""
    entries = await chain()
    controller.answers["/v1/history"] = msgspec.json.encode(HistoryAnswer(entries=entries))
    shown = await to_thread_history("--url", controller.url)
    assert shown.exit_code == 0 and "paused 2" in shown.stdout and "0.4" in shown.stdout
    assert (await to_thread_history("--url", controller.url, "--verify")).stdout.strip() == (
        "the chain is whole, entries: 3"
    )
    falsified = [entries[0], msgspec.structs.replace(entries[1], sentence="nothing happened"), entries[2]]
    controller.answers["/v1/history"] = msgspec.json.encode(HistoryAnswer(entries=falsified))
    broken = await to_thread_history("--url", controller.url, "--verify")
    assert broken.exit_code == 1 and "entry 2 was changed" in broken.stderr
    as_json = await to_thread_history("--url", controller.url, "--json")
    assert as_json.exit_code == 1 and "entry 2" in json.loads(as_json.stdout)["broken"]


async def to_thread_history(*words: str) -> Result:
    """The verb has an event loop of its own."""
    import asyncio

    return await asyncio.to_thread(run_history, *words)
