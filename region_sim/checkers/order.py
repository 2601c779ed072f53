"""The order of one user's events is kept: what an app said after something was acknowledged lies behind it in the log.

A log is append-only, and a user's events go to one partition of it. So of two events that one app sent to one partition
of one log, the second said after the first was acknowledged, the second has the later position. Only events that lie
where they were said to lie are compared: what a cut took away has its offsets used again. Nothing is promised between
logs.
"""

from __future__ import annotations

from region_sim.checkers.base import Finding, VerdictWord
from region_sim.checkers.loss import kept_somewhere
from region_sim.checkers.recorded import Promise, Recorded

CHECK = "the order of a user's events is kept"
EXAMPLES_MAX = 10
Key = tuple[str, str, int]
"""Source, log and partition."""


def check(recorded: Recorded) -> Finding:
    """See the module."""
    if not recorded.promises:
        return _finding("unknown", "nothing is proven: no event was acknowledged")
    if not any(recorded.rows_of(region) for region in recorded.plan.regions):
        return _finding("unknown", "nothing is proven: no log was read")
    kept = kept_somewhere(recorded)
    scattered = _scattered(kept)
    by_key: dict[Key, list[tuple[int, Promise]]] = {}
    for promise in kept:
        ack = promise.ack
        said = recorded.said.get((ack.source, ack.id))
        if said is not None:
            by_key.setdefault((ack.source, ack.log, ack.partition), []).append((said.index, promise))
    compared, turned = 0, []
    for promises in by_key.values():
        pairs, wrong = _turned(promises)
        compared += pairs
        turned += wrong
    turned.sort(key=lambda pair: pair[1].index)
    examples = [*scattered, *(_describe(*pair) for pair in turned)]
    if examples:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=f"{len(turned)} events lie before others that had been acknowledged when they were said"
            if turned
            else scattered[0],
            examples=examples[:EXAMPLES_MAX],
            first_index=turned[0][1].index if turned else None,
        )
    if not compared:
        return _finding("unknown", "nothing is proven: no app said one thing after another into one partition")
    return _finding("valid", f"{compared} events lie behind all that their apps had been promised before")


def _turned(promises: list[tuple[int, Promise]]) -> tuple[int, list[tuple[Promise, Promise]]]:
    """How many events had a predecessor, and those (with it) that lie before it."""
    said = sorted(promises, key=lambda pair: pair[0])
    acked = sorted((promise for _, promise in promises), key=lambda promise: promise.index)
    compared, wrong = 0, []
    newest: Promise | None = None
    """Of those acknowledged by now, the one with the largest position."""
    at = 0
    for invoked, promise in said:
        while at < len(acked) and acked[at].index < invoked:
            if newest is None or acked[at].place > newest.place:
                newest = acked[at]
            at += 1
        if newest is not None:
            compared += 1
            if promise.place <= newest.place:
                wrong.append((newest, promise))
    return compared, wrong


def _scattered(kept: list[Promise]) -> list[str]:
    """Users whose events of one log lie in several partitions: then nothing orders them."""
    partitions: dict[tuple[str, str], int] = {}
    found = []
    for promise in kept:
        ack = promise.ack
        if ack.user and partitions.setdefault((ack.log, ack.user), ack.partition) != ack.partition:
            first = partitions[ack.log, ack.user]
            found.append(f"events of {ack.user} lie in partitions {first} and {ack.partition} of {ack.log}")
    return found


def _describe(earlier: Promise, later: Promise) -> str:
    one, other = earlier.ack, later.ack
    return (
        f"{other.id!r} at {other.log}/{other.partition}/{other.offset}[{other.index}] was said after {one.id!r} at "
        f"{one.offset}[{one.index}] had been acknowledged"
    )


def _finding(verdict: VerdictWord, sentence: str) -> Finding:
    return Finding(check=CHECK, verdict=verdict, sentence=sentence)
