"""From what processes answer to a tree, and to the sentences that say how far its times can be believed."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from services.common.spans import Span, SpansAnswer
from services.trace.sources import Reply, Target
from services.trace.tree import Tree, notes, trees, unknown
from services.trace.view import BAR_CELLS, bar, show

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BEGAN_US = 1_800_000_000_000_000


def span(name: str, span_id: str, parent_id: str, start_us: int, lasted_us: int, **fields: Any) -> Span:
    """One of the trace."""
    return Span(TRACE, span_id, parent_id, name, BEGAN_US + start_us, lasted_us, **fields)


def reply(
    region: str, service: str, *spans: Span, ahead_us: int = 0, within_us: int = 200, problem: str = "", **answer: Any
) -> Reply:
    """What a process says."""
    fields: dict[str, Any] = {"since_us": BEGAN_US - 10_000_000, "forgotten_us": 0, "requests_kept": 1}
    fields |= {"requests_max": 4_000, "record_share": 1.0, "incarnation": f"{region}-1", "now_us": BEGAN_US, **answer}
    target = Target(region, service, f"http://{region}:1")
    if problem:
        return Reply(target, None, problem)
    return Reply(target, SpansAnswer(service=service, region=region, spans=[*spans], **fields), "", ahead_us, within_us)


def search() -> list[Reply]:
    """A search in east, folded in west too."""
    return [
        reply(
            "east",
            "processor",
            span("rank", "p1", "g1", 3_000, 2_000, kind="consumer", attributes={"rung": "model", "reason": ""}),
            span("features", "p2", "p1", 3_100, 500),
            span("log.read", "p3", "g2", 2_000, 500, kind="consumer"),
        ),
        reply(
            "east",
            "gateway",
            span("frame", "g2", "g1", 1_000, 1_500, kind="producer"),
            span(
                "POST /v1/search",
                "g1",
                "caller",
                0,
                6_000,
                kind="server",
                attributes={"ranking_id": "ab", "http.response.status_code": 200},
            ),
        ),
        reply("west", "processor", span("log.read", "w1", "g2", 9_000, 100, kind="consumer")),
        reply("west", "gateway"),
    ]


def shape(tree: Tree) -> list[tuple[str, int, str]]:
    """Name, depth and process of each line."""
    return [(node.span.name, depth, node.process) for node, depth in tree.walk()]


def test_one_tree_from_many_processes() -> None:
    """Parents lead across processes and regions, children stand in the order of time."""
    (tree,) = trees(search())
    assert shape(tree) == [
        ("POST /v1/search", 0, "east gateway"),
        ("frame", 1, "east gateway"),
        ("log.read", 2, "east processor"),
        ("log.read", 2, "west processor"),
        ("rank", 1, "east processor"),
        ("features", 2, "east processor"),
    ]
    assert (tree.began_us, tree.ended_us) == (BEGAN_US, BEGAN_US + 9_100)
    assert notes(search(), [tree]) == []


def test_only_the_wanted_request_of_a_trace_is_shown() -> None:
    """The caller's trace may hold many searches."""
    replies = [*search(), reply("east", "gateway", span("POST /v1/search", "x1", "caller", 50_000, 10, kind="server"))]
    assert [len(tree.roots) for tree in trees(replies)] == [2]
    (tree,) = trees(replies, frozenset({"p1"}))
    assert [root.span.span_id for root in tree.roots] == ["g1"]


def test_a_parent_that_nobody_keeps_is_said() -> None:
    """The gateway was started again: what others did stands alone."""
    replies = [search()[0]]
    (tree,) = trees(replies)
    assert [name for name, depth, _ in shape(tree) if depth == 0] == ["log.read", "rank"]
    (said,) = notes(replies, [tree])
    assert "parent nobody keeps" in said
    assert said.endswith(": 2")


def test_spans_that_go_round_in_a_circle_end() -> None:
    """What others send is not believed to be a tree."""
    (tree,) = trees([reply("east", "gateway", span("a", "1", "2", 0, 1), span("b", "2", "1", 0, 1))])
    assert sorted(name for name, _, _ in shape(tree)) == ["a", "b"]
    assert trees([reply("east", "gateway", span("a", "1", "1", 0, 1))])[0].roots


def test_clocks_that_differ_are_said_and_not_hidden() -> None:
    """Beyond what the measurement itself can be off, and only for processes that have lines."""
    replies = search()
    replies[2] = reply("west", "processor", *replies[2].answer.spans, ahead_us=-12_300, within_us=400)  # type: ignore[union-attr]
    replies[3] = reply("west", "gateway", ahead_us=-50_000)
    (said,) = notes(replies, trees(replies))
    assert said == (
        "the clock of west processor is 12.3 ms (± 0.6) behind that of east gateway: its lines are shifted by as much"
    )
    replies[2] = reply("west", "processor", *replies[2].answer.spans, ahead_us=-12_300, within_us=20_000)  # type: ignore[union-attr]
    assert notes(replies, trees(replies)) == []


def test_an_effect_before_its_cause_is_said() -> None:
    """Nothing that was measured is needed to know that these clocks differ."""
    replies = [
        reply("east", "gateway", span("frame", "g", "", 0, 5)),
        reply("west", "processor", span("log.read", "w", "g", -900, 5)),
    ]
    (said,) = notes(replies, trees(replies))
    assert said.startswith("west processor before east gateway")


def test_who_does_not_answer_is_named() -> None:
    """A region that is dead has a line that says so."""
    replies = [*search(), reply("west", "inference", problem="cannot be reached: refused")]
    assert notes(replies, trees(replies)) == ["west inference cannot be reached: refused: what it did is missing"]


def test_an_unknown_id_says_what_to_do() -> None:
    """For each process the reason that fits it."""
    served_ms = BEGAN_US // 1000
    hour_us = 3_600_000_000
    said = unknown(
        "feed",
        [
            reply("east", "gateway", forgotten_us=BEGAN_US + hour_us),
            reply("east", "processor", since_us=BEGAN_US + hour_us),
            reply("east", "inference", record_share=0.1),
            reply("west", "gateway", requests_max=0),
            reply("west", "processor", problem="cannot be reached: refused"),
            reply("west", "inference"),
        ],
        served_ms,
    )
    assert said[0].startswith("no process knows 'feed'")
    assert [line.split(" ", 2)[2] for line in said[1:]] == [
        (
            "has forgotten it: it keeps 4000 requests, and this one is at least 3600 s older. Raise [tracing] "
            "ring_requests, or send a sampled traceparent: sampled ones are kept apart"
        ),
        "was started after that ranking: a process takes its spans with it",
        "records 10% of the requests that bring no sampled traceparent (record_share)",
        "keeps nothing: [tracing] ring_requests is 0",
        "cannot be reached: refused; what it kept is gone if it was started again",
    ]
    assert "is the id complete" in unknown("feed", [reply("east", "gateway")], None)[1]


def test_a_waterfall_is_drawn_and_facts_are_named() -> None:
    """One line a span, in plain text where nobody looks at a screen."""
    output = io.StringIO()
    show(trees(search()), ["clocks differ"], Console(file=output, width=160))
    lines = output.getvalue().splitlines()
    assert lines[0] == f"ranking ab, trace {TRACE}: 9.1 ms in 3 processes"
    assert "status code 200" in lines[2]
    assert lines[2].split()[:2] == ["+0.000", "6.000"]
    assert "    read by the processor" in lines[4]
    assert "rung model" in lines[6]
    assert lines[-1] == "note: clocks differ"
    assert "\x1b" not in output.getvalue()


def test_bars_stay_inside() -> None:
    """However short, late or long."""
    for start_us, lasted_us in ((0, 0), (0, 1000), (999, 1), (1000, 0), (500, 900)):
        drawn = bar(start_us, lasted_us, 1000)
        assert len(drawn) == BAR_CELLS
        assert "█" in drawn
    assert bar(0, 1000, 1000) == "█" * BAR_CELLS
