"""The page says what the verdict and the history say, in words that all can read, and asks nobody for anything."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from region_sim.evidence import ReceiptSeen
from region_sim.history import Entry, Said
from region_sim.report import write_report
from region_sim.report.drawing import BANDS_MAX, bands
from region_sim.report.errors import NoVerdict
from region_sim.report.gather import gather
from services.ledger.acks import Ack
from tests.support.drilled_run import Drilled, drilled, plan, receipt, verdict, write_run
from tests.support.page_reader import Node, read, rows_of

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\'"&lt;\x00\x1b[31m\u202egnp.exe'


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The page of a run with everything in it."""
    return read(write_report(write_run(tmp_path_factory.mktemp("run"))).read_text())


def made(directory: Path, entries: list[Entry] | None = None, **changes: Any) -> Node:
    """The page of a run."""
    return read(write_report(write_run(directory, entries, **changes)).read_text())


def cards(page: Node) -> dict[str, list[str]]:
    """The figures of the first screen: label, value, target, meaning."""
    found = [[p.text for p in card.every("p")] for card in page.classed("card")]
    return {label: rest for label, *rest in found}


def test_the_page_is_well_formed_and_named(whole: Node) -> None:
    """One main heading, no level left out, unique ids, links that lead somewhere, tables and drawings with names."""
    headings = [node for node in whole.nodes if re.fullmatch(r"h[1-6]", node.name)]
    levels = [int(node.name[1]) for node in headings]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    ids = [node.attributes["id"] for node in whole.nodes if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert {link.attributes["href"] for link in whole.every("a")} <= {f"#{one}" for one in ids}
    for table in whole.every("table"):
        assert next(table.every("caption")).text
        assert all(th.attributes["scope"] in ("col", "row") for th in table.every("th"))
    drawings = whole.classed("drawing")
    assert drawings
    for drawing in drawings:
        assert drawing.attributes["role"] == "img"
        named = [whole.by_id(one) for one in drawing.attributes["aria-labelledby"].split()]
        assert [one.name for one in named] == ["title", "desc"]
        assert all(one.text for one in named)
    sections = list(whole.every("section"))
    assert len(sections) == 8
    assert all(whole.by_id(one.attributes["aria-labelledby"]).name == "h2" for one in sections)
    assert next(whole.every("html")).attributes["lang"] == "en"


def test_every_drawing_is_there_for_wide_and_narrow_pages(whole: Node) -> None:
    """What is only scaled down cannot be read on a telephone."""
    assert len(whole.classed("wide")) == len(whole.classed("narrow")) == 5


def test_nothing_is_asked_for_from_anywhere(tmp_path: Path) -> None:
    """One file: no address, no import, no font, and a policy that would refuse them."""
    text = write_report(write_run(tmp_path)).read_text()
    page = read(text)
    assert not re.search(r"(?i)https?:|@import|@font-face|//[a-z]", re.sub(r"// A page[^\n]*", "", text))
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", text))
    assert not [n for n in page.nodes if {"src", "srcset", "action", "data"} & n.attributes.keys() or n.name == "link"]
    policy = next(m for m in page.every("meta") if m.attributes.get("http-equiv"))
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_the_first_screen_agrees_with_the_verdict(whole: Node) -> None:
    """Verdict and sentence, RTO and RPO against target, losses, and which run it was."""
    assert next(whole.every("h1")).text == "valid"
    assert "✓" in whole.classed("sign")[0].text
    said = cards(whole)
    assert said["RTO"][:2] == ["4.00 s", "✓ within the target of 6.00 s"]
    assert said["RPO"][:2] == ["12 events", "✓ contact within the target of 1.00 s"]
    assert said["No answers"][:2] == ["4.02 s", "no target"]
    assert said["Lost, unlisted"] == ["0 events", "✓ target: none", "12 lost in all"]
    assert said["Answered"][0] == "85.4 %"
    facts = whole.classed("facts")[0].text
    assert all(part in facts for part in ("Seed7", "Backendprocess", "Began2027-01-15 08:00:00 UTC", "Faults3"))


def test_a_target_that_is_missed_is_said_in_words(tmp_path: Path) -> None:
    """Colour alone would not reach everybody."""
    page = made(tmp_path, verdict="invalid", sentence="the pass marks are met: too slow", rto_seconds=9.5)
    assert next(page.every("h1")).text == "invalid"
    assert page.classed("sentence")[0].text == "the pass marks are met: too slow"
    assert cards(page)["RTO"][:2] == ["9.50 s", "✗ beyond the target of 6.00 s"]


def test_what_was_not_measured_is_not_known(tmp_path: Path) -> None:
    """A figure that is missing is no zero and no success."""
    nothing = dict.fromkeys(("rto_seconds", "rpo_events", "lost", "lost_unlisted", "last_contact_before_fault_seconds"))
    page = made(tmp_path, **nothing, failovers=[], verdict="unknown", sentence="nothing is proven")
    said = cards(page)
    assert said["RTO"][:2] == ["not known", "target ≤ 6.00 s"]
    assert said["Lost, unlisted"][0] == "not known"
    assert said["RPO"][0] == "not known"
    ledger = {row[0].strip(): row[1] for row in rows_of(page, "Events, over all regions")}
    assert (ledger["Lost"], ledger["of these listed"]) == ("not known", "not known")
    assert "No takeover is known" in page.text


def test_the_ledger_agrees_with_the_verdict_and_the_history(tmp_path: Path) -> None:
    """Each number once, from where it is known; a verdict of another history is told apart."""
    events = sum(len(entry.acks) for entry in drilled())
    page = made(tmp_path, acknowledged=events, lost_unlisted=2)
    ledger = {row[0].strip(): row[1] for row in rows_of(page, "Events, over all regions")}
    assert ledger == {
        "Sent": str(events),
        "Acknowledged": str(events),
        "Refused": "0",
        "Left open": "0",
        "Lost": "12",
        "of these listed": "10",
        "of these in no receipt": "2",
        "Counted twice": "0",
        "Dead letters": "20",
    }
    by_region = rows_of(page, "Events by region, after the heal")
    assert by_region[0][:6] == ["east", "310", "110", "10", "299", "1"]
    assert "The verdict counts" not in page.text
    assert "The verdict counts 3 acknowledged" in made(tmp_path / "other", acknowledged=3).text


def test_the_ranking_is_told_before_during_and_after(tmp_path: Path) -> None:
    """Shares by rung, answered shares and latencies, and how good it was where an app knew."""
    run = write_run(tmp_path)
    assert "no app in this run knew" in read(write_report(run).read_text()).text
    figures = {"searches": 7, "mrr_at_5": 0.51234, "ndcg_at_10": 0.6, "first_place": 0.4, "recall_at_10": 0.9}
    (run / "replay.json").write_bytes(msgspec.json.encode({"judged": 7, "quality": {"query_table": figures}}))
    page = read(write_report(run).read_text())
    parts = {row[0]: row[1:5] for row in rows_of(page, "Searches by part of the drill")}
    assert parts == {
        "before": ["200", "100.0 %", "90.0 %", "10.0 %"],
        "during": ["552", "72.5 %", "61.6 %", "10.9 %"],
        "after": ["100", "100.0 %", "80.0 %", "20.0 %"],
    }
    assert rows_of(page, "Against the clicks that followed") == [["all of it", "query table", "7", "0.5123", "0.6000"]]


def test_ranks_that_an_app_could_judge_are_told_by_part(tmp_path: Path) -> None:
    """The mean of 1/rank, with nothing for a rank beyond the fifth or for none."""
    run = Drilled()
    run.add("info", "plan", "conductor", 0.0, evidence=plan())
    run.phase("steady", 1.0)
    run.load(1.0, 2.0, "east", (0, 1))
    for rank in (1, 2, 6, 0):
        run.add("info", "judged", "library-replay", 3.0, note=str(rank), rung="model")
    fault = run.fault("kill", "east", 4.0)
    run.add("info", "judged", "library-replay", 5.0, note="4", rung="counters")
    run.heal(fault, 6.0, 1.0)
    page = made(tmp_path, run.entries)
    assert rows_of(page, "Against the clicks that followed") == [
        ["before", "ours", "4", "0.3750", "·"],
        ["during", "ours", "1", "0.2500", "·"],
    ]


def test_each_takeover_is_held_against_the_formula(whole: Node) -> None:
    """Every part with its bound, the whole, and whether it was within."""
    first, second = rows_of(whole, "Takeovers: measured, and what the formula allows")
    assert first[:3] == ["1. east → west, epoch 0.9", "wipe of east", "3.00 s ≤ 3.70 s"]
    assert first[6:] == ["4.00 s ≤ 6.10 s", "not known", "✓ valid"]
    assert second[4] == "1.20 s ≤ 1.00 s"
    assert len(whole.classed("limit")) == 2 * 2 + 1  # both sizes, and the legend


def test_the_first_violation_stands_among_its_neighbours(tmp_path: Path) -> None:
    """The entry that breaks a promise, those around it, and the one that it completes."""
    entries = drilled()
    broken = next(e for e in entries if e.type == "ok" and e.op == "search" and e.index > 1000)
    check = {"check": "no stale epoch is accepted", "verdict": "invalid", "sentence": "1 is", "examples": ["so and so"]}
    page = made(tmp_path, entries, verdict="invalid", checks=[check | {"first_index": broken.index}])
    rows = rows_of(page, f"Entry {broken.index:,} of the history, and those around it")
    shown = [int(re.sub(r"\D", "", row[0])) for row in rows]
    assert set(range(broken.index - 5, broken.index + 6)) <= set(shown)
    assert broken.call in shown
    marked = [row for row in rows if "first violation" in row[0]]
    assert len(marked) == 1
    assert f"completes {broken.call:,}" in marked[0][7]
    assert "so and so" in page.text
    gone = made(tmp_path / "gone", entries, verdict="invalid", checks=[check | {"first_index": 10**9}])
    assert "is not there to be shown" in gone.text


def test_what_strangers_said_is_text_and_nothing_else(tmp_path: Path) -> None:
    """Ids, queries, errors, sentences and receipts are hostile: none becomes markup, and nothing hides."""
    run = Drilled()
    run.add("info", "plan", "conductor", 0.0, evidence=plan())
    run.phase(HOSTILE, 1.0)
    said = Said(source=HOSTILE, id=HOSTILE, time_ms=1, kind="click", query=HOSTILE, item=HOSTILE)
    call = run.add("invoke", "publish", HOSTILE, 2.0, said=[said]).index
    ack = Ack(source=HOSTILE, id=HOSTILE, time_ms=1, kind="click", log=HOSTILE, partition=0, offset=1)
    run.add("info", "publish", HOSTILE, 2.5, call=call, acks=[ack], unknown=[HOSTILE], error=HOSTILE, region=HOSTILE)
    asked = run.add("invoke", "search", HOSTILE, 2.6).index
    run.add("ok", "search", HOSTILE, 2.7, call=asked, region=HOSTILE, epoch=(0, 1), rung=HOSTILE)
    run.fault(HOSTILE, HOSTILE, 3.0, lost=True)
    run.collect(ReceiptSeen(seen_in="west", receipt=receipt(receipt_id=HOSTILE, reason=HOSTILE, region=HOSTILE)), 4.0)
    check = {
        "check": HOSTILE,
        "verdict": "invalid",
        "sentence": HOSTILE,
        "examples": [HOSTILE],
        "first_index": call + 1,
    }
    odd = {"check": "odd", "verdict": HOSTILE, "sentence": ""}
    failover = verdict()["failovers"][0] | {"cause": HOSTILE, "from_region": HOSTILE, "why": HOSTILE}
    parameters = {HOSTILE: {HOSTILE: HOSTILE}}
    changes = {"verdict": "invalid", "sentence": HOSTILE, "drill": HOSTILE, "replay": HOSTILE, "backend": HOSTILE}
    page = made(tmp_path, run.entries, checks=[check, odd], failovers=[failover], parameters=parameters, **changes)
    assert len(list(page.every("script"))) == 1
    assert not list(page.every("img"))
    assert not [node for node in page.nodes if any(name.startswith("on") for name in node.attributes)]
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page.text)
    assert page.text.count("</script><script>alert(1)") > 15
    assert r"\x00\x1b[31m\u202egnp.exe" in page.text


def test_the_same_run_makes_the_same_page(tmp_path: Path) -> None:
    """Nothing in it depends on when, where or how often it was made."""
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    pages = [write_report(one).read_bytes() for one in (first, second, first)]
    assert pages[0] == pages[1] == pages[2]
    assert len({(one / "junit.xml").read_bytes() for one in (first, second)}) == 1


def test_a_verdict_without_a_history_is_still_shown(tmp_path: Path) -> None:
    """The verdict stands; what only a history could say is not known."""
    run = write_run(tmp_path, [])
    (run / "history.jsonl").unlink()
    page = read(write_report(run).read_text())
    assert cards(page)["RTO"][0] == "4.00 s"
    assert "The history could not be read to its end" in page.text
    assert "Not known: there is no history to read." in page.text
    assert "Not known: no search was completed." in page.text


def test_a_damaged_history_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    """Half of the lines tell half of the story, and the page says where it breaks off."""
    run = write_run(tmp_path)
    lines = (run / "history.jsonl").read_bytes().splitlines(keepends=True)
    (run / "history.jsonl").write_bytes(b"".join(lines[:1500]) + lines[1500][:20])
    page = read(write_report(run).read_text())
    assert "line 1501" in page.classed("warning")[0].text
    assert "1,500 lines" in page.text
    assert rows_of(page, "Faults, as they were injected")[0][0] == "F1 wipe"


def test_a_verdict_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Old runs have no failovers and no checkers of today; their one takeover stands among the figures."""
    run = write_run(tmp_path)
    old = verdict()
    del old["failovers"]
    old["checks"] = [{"check": "x", "verdict": "valid", "sentence": "y", "examples": []}]
    (run / "verdict.json").write_bytes(msgspec.json.encode(old))
    page = read(write_report(run).read_text())
    (row,) = rows_of(page, "Takeovers: measured, and what the formula allows")
    parts = ["3.00 s", "0.200 s", "0.700 s", "0.100 s", "4.00 s"]
    assert row == ["1. the takeover", "not known", *parts, "not known", "? unknown"]


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"verdict": "fine"}', b'{"verdict": 3}'])
def test_without_a_verdict_there_is_no_report(tmp_path: Path, content: bytes | None) -> None:
    """The error says what is missing and what to do."""
    run = write_run(tmp_path)
    (run / "verdict.json").unlink()
    if content is not None:
        (run / "verdict.json").write_bytes(content)
    with pytest.raises(NoVerdict, match=r"judge DIRECTORY|is no verdict"):
        write_report(run)


def test_a_verdict_of_another_run_is_told_apart(tmp_path: Path) -> None:
    """Two files that do not belong together prove nothing together."""
    assert "one of them is of another run" in made(tmp_path, seed=8).text


def test_a_page_stays_small_however_much_happened(tmp_path: Path) -> None:
    """Thousands of faults, examples and remarks: what is not drawn is said, and lies in the history."""
    run = Drilled()
    run.add("info", "plan", "conductor", 0.0, evidence=plan())
    run.phase("steady", 0.5)
    for number in range(2_500):
        fault = run.fault("pause", "east", 1.0 + number, lost=True)
        run.heal(fault, 1.5 + number, 0.2)
        run.add("fail", "takeover", "nemesis", 1.8 + number, error="x" * 300)
    checks = [
        {"check": f"c{n}", "verdict": "invalid", "sentence": "s" * 9_000, "examples": ["e" * 999] * 99}
        for n in range(30)
    ]
    failovers = verdict()["failovers"] * 400
    path = write_report(write_run(tmp_path, run.entries, checks=checks, verdict="invalid", failovers=failovers))
    assert path.stat().st_size < 2_000_000
    page = read(path.read_text())
    assert "more are in the history" in page.text
    assert "are not drawn" in page.text
    assert len(bands(gather(run.entries), 9_999.0)) == BANDS_MAX


def test_paper_is_light(tmp_path: Path) -> None:
    """The dark palette is for screens: white letters on a dark ground would drink all ink, or print as nothing."""
    style = write_report(write_run(tmp_path)).read_text()
    assert re.findall(r"@media ([^{]*prefers-color-scheme: dark[^{]*)\{", style) == [
        "screen and (prefers-color-scheme: dark) "
    ]
