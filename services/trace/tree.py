"""From spans of several processes to one tree, and what to say about its times. Pure.

Times are shown as each process's own clock had them. Correcting them by a difference that was measured later, over
another connection, would look exact and be a guess; so the difference is said beside them where it matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.common.spans import Span
from services.trace.sources import Reply

SKEW_US_MIN: Final = 1_000
"""A smaller difference of clocks is not worth a word: steps are longer."""


@dataclass(slots=True)
class Node:
    """A span, where it was, and what it caused."""

    span: Span
    region: str
    service: str
    children: list[Node] = field(default_factory=list)

    @property
    def process(self) -> str:
        """As it is shown."""
        return f"{self.region} {self.service}"


@dataclass(frozen=True, slots=True)
class Tree:
    """One trace."""

    trace_id: str
    roots: list[Node]
    """In order of time. More than one where a parent is kept by nobody."""

    @property
    def began_us(self) -> int:
        """When its first span began."""
        return min(node.span.began_us for node, _ in self.walk())

    @property
    def ended_us(self) -> int:
        """When its last span was over."""
        return max(node.span.began_us + node.span.lasted_us for node, _ in self.walk())

    def walk(self) -> Iterable[tuple[Node, int]]:
        """Yield each node and its depth, parents first."""
        waiting = [(node, 0) for node in reversed(self.roots)]
        while waiting:
            node, depth = waiting.pop()
            yield node, depth
            waiting.extend((child, depth + 1) for child in reversed(node.children))


def trees(replies: Sequence[Reply], matched: frozenset[str] = frozenset()) -> list[Tree]:
    """Return the trees of all traces in the replies, the oldest first.

    With `matched`, only what hangs together with one of these spans: a trace may hold other requests of its caller.
    """
    nodes: dict[str, dict[str, Node]] = {}
    for reply in replies:
        if reply.answer is not None:
            for span in reply.answer.spans:
                known = nodes.setdefault(span.trace_id, {})
                known.setdefault(span.span_id, Node(span, reply.answer.region, reply.answer.service))
    found = [Tree(trace_id, _rooted(known)) for trace_id, known in nodes.items()]
    if matched:
        found = [Tree(tree.trace_id, [root for root in tree.roots if _holds(root, matched)]) for tree in found]
        found = [tree for tree in found if tree.roots]
    return sorted(found, key=lambda tree: tree.began_us)


def _holds(root: Node, matched: frozenset[str]) -> bool:
    return any(node.span.span_id in matched for node, _ in Tree("", [root]).walk())


def _rooted(nodes: dict[str, Node]) -> list[Node]:
    roots = []
    for node in sorted(nodes.values(), key=lambda node: (node.span.began_us, -node.span.lasted_us)):
        parent = nodes.get(node.span.parent_id)
        if parent is None or _is_above(node, parent, nodes):
            roots.append(node)
        else:
            parent.children.append(node)
    return roots


def _is_above(node: Node, parent: Node, nodes: dict[str, Node]) -> bool:
    """Whether `node` is among the parents of its parent: what others sent may go round in a circle."""
    seen: set[str] = set()
    above: Node | None = parent
    while above is not None and above.span.span_id not in seen:
        if above is node:
            return True
        seen.add(above.span.span_id)
        above = nodes.get(above.span.parent_id)
    return above is not None


def notes(replies: Sequence[Reply], found: Sequence[Tree]) -> list[str]:
    """Return what whoever reads the times must know."""
    said = [*_skews(replies, found)]
    for tree in found:
        early = sorted(
            {
                f"{child.process} before {node.process}"
                for node, _ in tree.walk()
                for child in node.children
                if child.process != node.process and child.span.began_us < node.span.began_us
            }
        )
        said += [
            f"{each}: an effect seems older than its cause, so their clocks differ by at least that" for each in early
        ]
        # The parent of what a gateway was asked is its caller's, who keeps it himself.
        missing = sum(1 for root in tree.roots if root.span.parent_id and root.span.kind != "server")
        if missing:
            said.append(f"spans whose parent nobody keeps (any more), and which therefore stand at the left: {missing}")
    said += [f"{reply.target.name} {reply.problem}: what it did is missing" for reply in replies if reply.problem]
    return said


def _skews(replies: Sequence[Reply], found: Sequence[Tree]) -> Iterable[str]:
    roots = [node.process for tree in found for node in tree.roots[:1]]
    ours = next((r for r in replies if r.answer is not None and _process(r) in roots), None)
    if ours is None:
        return
    for reply in replies:
        if reply.answer is None or not reply.answer.spans or reply is ours:
            continue
        ahead_us = reply.clock_ahead_us - ours.clock_ahead_us
        within_us = reply.clock_within_us + ours.clock_within_us
        if abs(ahead_us) > max(SKEW_US_MIN, within_us):
            way = "ahead of" if ahead_us > 0 else "behind"
            yield (
                f"the clock of {_process(reply)} is {abs(ahead_us) / 1000:.1f} ms (± {within_us / 1000:.1f}) "
                f"{way} that of {_process(ours)}: its lines are shifted by as much"
            )


def _process(reply: Reply) -> str:
    assert reply.answer is not None
    return f"{reply.answer.region} {reply.answer.service}"


def unknown(wanted: str, replies: Sequence[Reply], served_ms: int | None) -> list[str]:
    """Return why a request may not be known, for each process, and what to do. `served_ms`: as its ranking id says."""
    said = [f"no process knows {wanted!r} as the id of a ranking, a trace or an event, or as its place in the log"]
    for reply in replies:
        name, answer = reply.target.name, reply.answer
        if answer is None:
            said.append(f"{name} {reply.problem}; what it kept is gone if it was started again")
        elif answer.requests_max == 0:
            said.append(f"{name} keeps nothing: [tracing] ring_requests is 0")
        elif answer.record_share < 1.0:
            share = f"{answer.record_share:.0%}"
            said.append(f"{name} records {share} of the requests that bring no sampled traceparent (record_share)")
        elif served_ms is not None and served_ms * 1000 < max(answer.since_us, answer.forgotten_us):
            said.append(f"{name} {_forgot(answer.since_us, answer.forgotten_us, answer.requests_max, served_ms)}")
    if len(said) == 1:
        said.append(
            "all of them answer and record everything: is the id complete, of this deployment, and of a ranking or a "
            "sampled event? Spans of events are kept only when they come with a sampled traceparent"
        )
    return said


def _forgot(since_us: int, forgotten_us: int, requests_max: int, served_ms: int) -> str:
    if forgotten_us > since_us:
        ago_seconds = (forgotten_us // 1000 - served_ms) / 1000
        return (
            f"has forgotten it: it keeps {requests_max} requests, and this one is at least {ago_seconds:.0f} s older. "
            "Raise [tracing] ring_requests, or send a sampled traceparent: sampled ones are kept apart"
        )
    return "was started after that ranking: a process takes its spans with it"
