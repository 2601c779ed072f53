"""`meridian replay` as a command: files with a mapping, JSON on standard output, exit codes that mean something."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.fake_gateway import Behaviour, FakeGateway

CSV = "when,who,text,sku\n2024-01-01T10:00:00,ann,usb cable,c-1\n2024-01-01T10:00:05,bob,hub,h-1\n"


async def meridian(*words: str) -> tuple[int, str, str]:
    """Run the command; exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "replay", *words, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_csv_file_with_other_columns_is_published_and_reported(tmp_path: Path) -> None:
    """Two searches, two clicks and the clicked items; progress on standard error, the report on standard output."""
    log, acks = tmp_path / "clicks.csv", tmp_path / "acks.jsonl"
    log.write_text(CSV)
    async with FakeGateway() as gateway:
        code, out, err = await meridian(
            str(log), "--map", "time=when,user=who,query=text", "--map", "item=sku", "--gateway", gateway.url,
            "--acks", str(acks), "--json",
        )  # fmt: skip
        kinds = sorted(event["type"] for event in gateway.log)
    assert code == 0, err
    report = json.loads(out)
    assert report["published"]["acknowledged"] == 6
    assert len(acks.read_text().splitlines()) == 6
    assert kinds == [f"meridian.{kind}.v1" for kind in ("click", "click", "item", "item", "search", "search")]
    assert "6 of 6" not in out


async def test_ranking_the_last_searches_prints_the_figures(tmp_path: Path) -> None:
    """For people: a table with the three methods."""
    log = tmp_path / "clicks.csv"
    log.write_text(CSV.replace("when,who,text,sku", "time,user,query,item"))
    async with FakeGateway() as gateway:
        code, out, err = await meridian(str(log), "--rank", "1", "--rate", "20", "--gateway", gateway.url)
        assert [request["query"] for request in gateway.bodies("/v1/search")] == ["hub"]
    assert code == 0, err
    assert "query table" in out
    assert "popularity" in out


@pytest.mark.parametrize(
    ("words", "wanted", "reason"),
    [
        (["/nowhere.csv"], 2, "does not exist"),
        (["shop:one"], 64, "shop:SEED"),
        (["shop", "--as-fast", "--rate", "3"], 64, "contradict"),
        (["shop", "--rate", "-3"], 64, "--rate"),
        (["shop", "--gateway", "localhost:8080"], 64, "not a gateway URL"),
        (["shop", "--gateway", "ftp://x"], 64, "not a gateway URL"),
        (["shop", "--gateway", "http://x:port"], 64, "not a gateway URL"),
        (["clicks.csv", "--format", "shop"], 64, "would not read clicks.csv"),
        (["shop", "--gateway", "http://127.0.0.1:1"], 2, "no gateway can be reached"),
    ],
)
async def test_a_mistake_is_one_line_with_an_exit_code(words: list[str], wanted: int, reason: str) -> None:
    """No traceback; the line names what is wrong. 64: the options themselves; 2: what they name."""
    code, out, err = await meridian(*words)
    assert code == wanted
    assert len(err.splitlines()) == 1
    assert reason in err
    assert "Traceback" not in err + out


async def test_refused_events_are_exit_code_1(tmp_path: Path) -> None:
    """The log was published, but not all of it was taken."""
    log = tmp_path / "clicks.csv"
    log.write_text(CSV.replace("when,who,text,sku", "time,user,query,item"))
    async with FakeGateway() as gateway:
        gateway.script.extend([Behaviour(), Behaviour(refuse_ids=frozenset({"0-click"}))])
        code, out, _ = await meridian(str(log), "--gateway", gateway.url)
    assert code == 1
    assert "no such kind" in out
