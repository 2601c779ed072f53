"""A right history stays right however concurrent calls are told; one thing that is wrong is found wherever it lies."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from region_sim.evidence import Epoch, Row
from region_sim.history import Entry
from region_sim.verdict import judge
from tests.support.planted_history import (
    FIRST,
    LOG,
    SECOND,
    WEST_LOG,
    Planted,
    history,
    predictions,
    range_of,
    receipt,
    state,
    term,
    transition,
)

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
KINDS = ("kill", "wipe", "cut", "partition")
Violation = Callable[[random.Random], list[Entry]]
"""Makes a history that is right but for one thing."""


def anything(chance: random.Random) -> Callable[[Planted], None]:
    """Calls of several clients, before the fault."""

    def plant(planted: Planted) -> None:
        at = 9.5
        for _ in range(chance.randrange(12)):
            at += 0.02
            if chance.random() < 0.5:
                planted.search(chance.choice(["library-east", "library-west", "bare-east"]), at, "east", FIRST)
            elif chance.random() < 0.5:
                planted.event(at)
            else:
                planted.event(at, log=WEST_LOG, process="bare-west")

    return plant


def drill(chance: random.Random, **planted: object) -> list[Entry]:
    """A random history in which all is well but for what is planted."""
    return history(chance.choice(KINDS), **{"before": anything(chance), **planted})  # type: ignore[arg-type]


def told_otherwise(entries: list[Entry], chance: random.Random, swaps: int) -> list[Entry]:
    """The same calls, told in another order that they may as well have had.

    What was concurrent may be told either way; and of two calls that followed each other, the second may be told to
    have begun before the first was over: that promises less. A call never completes before it began, and never the
    other way round: what followed would then have been promised.
    """
    told = list(entries)
    for _ in range(swaps):
        place = chance.randrange(len(told) - 1)
        one, other = told[place], told[place + 1]
        if not {one.op, other.op} <= {"search", "publish"} or one.process == other.process:
            continue
        if one.type == "invoke" and other.type != "invoke":
            continue
        if one.epoch is not None and other.epoch is not None and one.epoch != other.epoch:
            continue
        told[place], told[place + 1] = _at(other, one), _at(one, other)
        names = {one.index: place + 1, other.index: place}
        told = [msgspec.structs.replace(e, call=names[e.call]) if e.call in names else e for e in told]
    return told


def _at(entry: Entry, where: Entry) -> Entry:
    """An entry in the place, and at the time, of another one."""
    moved = {"index": where.index, "monotonic_seconds": where.monotonic_seconds, "unix_ms": where.unix_ms}
    return msgspec.structs.replace(entry, **moved)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_right_history_is_valid_and_stays_so_when_concurrent_calls_are_told_otherwise(seed: int) -> None:
    """A checker that complains of what is right is worse than none."""
    chance = random.Random(seed)
    entries = drill(chance)
    for told in (entries, told_otherwise(entries, chance, 80)):
        verdict = judge(told)
        assert verdict.verdict == "valid", [found for found in verdict.checks if found.verdict != "valid"]


def a_row(chance: random.Random, change: Callable[[random.Random, Row], Row | None]) -> Violation:
    """One row of one region is another one, or gone."""

    def make(_: random.Random) -> list[Entry]:
        def end(planted: Planted) -> None:
            rows = planted.rows[chance.choice(["east", "west"])]
            place = chance.randrange(len(rows))
            changed = change(chance, rows.pop(place))
            if changed is not None:
                rows.insert(place, changed)

        return drill(chance, end=end)

    return make


def garbled(chance: random.Random, row: Row) -> Row:
    """One column says something else."""
    other: list[dict[str, object]] = [
        {"item": "other"},
        {"query": "other"},
        {"user": row.user + 1},
        {"session": row.session + 1},
        {"time_ms": row.time_ms + 1},
        {"position": row.position + 1},
        {"identity": "00" * 16},
        {"kind": "view"},
    ]
    return msgspec.structs.replace(row, **chance.choice(other))


def at_end(change: Callable[[random.Random, Planted], None]) -> Violation:
    """What regions say in the end is wrong."""
    return lambda chance: drill(chance, end=lambda planted: change(chance, planted))


def counted(chance: random.Random, planted: Planted) -> None:
    """One region counted some more, or fewer."""
    region = chance.choice(["east", "west"])
    wrong = chance.choice([-2, -1, 1, 5])
    planted.states[region] = msgspec.structs.replace(
        planted.states[region], events=planted.states[region].events + wrong
    )


def digested(chance: random.Random, planted: Planted) -> None:
    """One region has another state."""
    region = chance.choice(["east", "west"])
    planted.states[region] = state(region, planted.states[region].events, digest=f"d{chance.randrange(2, 99)}")


def held_twice(chance: random.Random, planted: Planted) -> None:
    """Somebody else held one of the epochs, too."""
    epoch, other = chance.choice([(FIRST, "west"), (SECOND, "east")])
    if chance.random() < 0.5:
        planted.terms.append(term(other, epoch, 0.0 if epoch == FIRST else 12.1, 12.0 if epoch == FIRST else 0.0))
    else:
        planted.transitions.append(transition(9, 1.0, other, "acquired", epoch))


def predicted(chance: random.Random, planted: Planted) -> None:
    """One region gives one item of one question another score."""
    place = chance.randrange(2)
    seen = planted.predictions[place]
    asked = list(seen.predictions)
    number = chance.randrange(len(asked))
    scores = list(asked[number].scores)
    scores[chance.randrange(len(scores))] += chance.choice([-0.01, 0.002, 1.0])
    asked[number] = msgspec.structs.replace(asked[number], scores=scores)
    planted.predictions[place] = predictions(seen.region, "after", predictions=asked)


def receipted(chance: random.Random, planted: Planted) -> None:
    """The receipt is missing, open, or lists what a survivor held."""
    start = chance.randrange(1, 900)
    held = range_of(start, start + chance.randrange(1, 9), None)
    state_of = planted.receipts[0].state
    wrong = [
        [],
        [receipt(state="open")],
        [receipt(state=state_of, ranges=[held], remaining=[held])],
        [receipt(state="healed", remaining=[held])],
    ]
    planted.receipts = chance.choice(wrong)


def stale(chance: random.Random) -> list[Entry]:
    """Somebody who knows better, or should, takes an answer of before."""
    process = chance.choice(["library-east", "library-west", "bare-east", "bare-west"])

    def after(planted: Planted) -> None:
        planted.search(process, 15.2 + chance.random() / 2, "east", FIRST)

    return drill(chance, after=after)


def disordered(chance: random.Random) -> list[Entry]:
    """Two events of one app lie in the wrong order: their places were exchanged, and acknowledged so."""
    entries = drill(chance)
    log = chance.choice([LOG, WEST_LOG])
    acked = [e for e in entries if e.acks and e.acks[0].log == log]
    one, other = chance.sample(acked, 2)
    places = {one.acks[0].id: other.acks[0].offset, other.acks[0].id: one.acks[0].offset}
    items = {one.acks[0].item: other.acks[0].offset, other.acks[0].item: one.acks[0].offset}

    def moved(entry: Entry) -> Entry:
        if entry.acks and entry.acks[0].id in places:
            ack = msgspec.structs.replace(entry.acks[0], offset=places[entry.acks[0].id])
            return msgspec.structs.replace(entry, acks=[ack])
        rows = getattr(entry.evidence, "rows", None)
        if rows is None or entry.evidence is None:
            return entry
        changed = [msgspec.structs.replace(r, offset=items.get(r.item, r.offset)) for r in rows]
        return msgspec.structs.replace(entry, evidence=msgspec.structs.replace(entry.evidence, rows=changed))

    return [moved(entry) for entry in entries]


def paused(chance: random.Random) -> list[Entry]:
    """A term begins, or somebody resigns, while an operator has paused."""
    third: Epoch = (0, 30)

    def after(planted: Planted) -> None:
        for op, at in (("pause", 15.1), ("resume", 30.0)):
            call = planted.add("invoke", op, "operators", at).index
            planted.add("ok", op, "operators", at, call=call)

    def end(planted: Planted) -> None:
        at = chance.uniform(18.5, 29.5)
        if chance.random() < 0.5:
            planted.terms.append(term("west", third, at))
        else:
            planted.transitions.append(transition(9, at, "west", chance.choice(["resigned", "switchover"]), None))

    return drill(chance, after=after, end=end)


VIOLATIONS: dict[str, tuple[str, Callable[[random.Random], Violation]]] = {
    "a row is gone": ("nothing-acknowledged-lost", lambda chance: a_row(chance, lambda _, row: None)),
    "a row is garbled": ("applied-was-sent", lambda chance: a_row(chance, garbled)),
    "a count": ("counted-once", lambda _: at_end(counted)),
    "a digest": ("same-digest", lambda _: at_end(digested)),
    "a holder": ("one-holder-an-epoch", lambda _: at_end(held_twice)),
    "a prediction": ("same-predictions", lambda _: at_end(predicted)),
    "a receipt": ("honest-receipt", lambda _: at_end(receipted)),
    "a stale answer": ("no-stale-epoch", lambda _: stale),
    "an order": ("user-order", lambda _: disordered),
    "a move during a pause": ("paused-means-paused", lambda _: paused),
}


@pytest.mark.parametrize("name", VIOLATIONS)
@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_one_thing_that_is_wrong_is_found_wherever_it_lies(name: str, seed: int) -> None:
    """By the checker whose matter it is."""
    chance = random.Random(seed)
    checker, kind = VIOLATIONS[name]
    entries = kind(chance)(chance)
    verdict = judge(entries)
    assert verdict.checkers[checker].verdict == "invalid", [c for c in verdict.checks if c.verdict != "valid"]
    assert verdict.verdict == "invalid"
    for found in verdict.checks:
        assert found.first_index is None or 0 <= found.first_index < len(entries)
