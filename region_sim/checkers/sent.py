"""What was applied was sent: every event in any log was said by a client, in the same words.

The identity is computed again from the source and id with which a client said it and from the columns beside it; so an
event that nobody said, or whose content was changed on its way, has no client. What was shown (`served`) is written by
the gateways themselves. A deployment may hold events from before the drill: they are older than it. A world in memory
begins empty: there nothing is.
"""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.checkers.loss import missing_promises, recomputed
from region_sim.checkers.recorded import FirstSaid, Recorded
from region_sim.evidence import LogRead, LogRows, Row

CHECK = "what was applied was sent"
SERVED = "served"
EXAMPLES_MAX = 10
Content = tuple[str, int, str, str]
"""Kind, time, query, item."""


class _Speakers:
    """Who said what, by content; and the pseudonyms under which users came to stand in the logs."""

    def __init__(self, recorded: Recorded) -> None:
        missing_promises(recorded)  # computes most identities again
        self._recomputed = recorded.recomputed
        self._said = recorded.said
        self._by_content: dict[Content, list[FirstSaid]] = {}
        for said in recorded.said.values():
            one = said.said
            self._by_content.setdefault((one.kind, one.time_ms, one.query, one.item), []).append(said)

    def of(self, row: Row) -> FirstSaid | None:
        """Who said exactly this; None: nobody."""
        content = (row.kind, row.time_ms, row.query, row.item)
        known, *key = self._recomputed.get(row.identity, (None, "", ""))
        if known == row:
            said = self._said.get((key[0], key[1]))
            one = None if said is None else said.said
            if one is not None and (one.kind, one.time_ms, one.query, one.item) == content:
                return said
        candidates = self._by_content.get(content, ())
        return next((s for s in candidates if recomputed(s.said.source, s.said.id, row) == row.identity), None)

    def said_this_content(self, row: Row) -> bool:
        """Whether somebody said this, under another identity."""
        return (row.kind, row.time_ms, row.query, row.item) in self._by_content


def check(recorded: Recorded) -> Finding:
    """See the module."""
    read = recorded.evidence(LogRead)
    unread = sorted(set(recorded.plan.regions) - {piece.region for piece in read})
    if unread:
        return Finding(check=CHECK, verdict="unknown", sentence=f"nothing is proven: no log of {unread[0]} was read")
    if not recorded.said:
        return Finding(check=CHECK, verdict="unknown", sentence="nothing is proven: nobody said anything")
    speakers = _Speakers(recorded)
    known: dict[str, Row] = {}
    """By identity: the first row that was looked at."""
    pseudonyms: dict[int, str] = {}
    users: dict[str, int] = {}
    problems: list[str] = []
    first_index: int | None = None
    older = rows = 0
    places: dict[str, set[tuple[str, int, int, int]]] = {}
    began_ms = recorded.entries[0].unix_ms
    for entry, piece in recorded.evidenced(LogRows):
        for row in piece.rows:
            if row.kind == SERVED:
                continue
            rows += 1
            before = known.get(row.identity)
            if before is None:
                speaker = speakers.of(row)
                if speaker is None and row.time_ms < began_ms and recorded.plan.backend != "memory":
                    older += 1
                    continue
                problem = _unsaid(speakers, row) if speaker is None else _confused(speaker, row, pseudonyms, users)
                known[row.identity] = row
            else:
                problem = None if _same(before, row) else f"two events under identity {row.identity}"
            places.setdefault(row.identity, set()).add((piece.log, piece.partition, row.offset, row.index))
            if problem is not None:
                at = f"{piece.log}/{piece.partition}/{row.offset}[{row.index}] of {piece.region}"
                problems.append(f"{at}: {problem}")
                first_index = entry.index if first_index is None else first_index
    return _concluded(recorded, problems, first_index, rows, older, places)


def _concluded(
    recorded: Recorded,
    problems: list[str],
    first_index: int | None,
    rows: int,
    older: int,
    places: dict[str, set[tuple[str, int, int, int]]],
) -> Finding:
    figures = Figures(
        events_said=len(recorded.said),
        events_in_logs=len(places),
        duplicates_in_logs=sum(len(found) - 1 for found in places.values()),
    )
    if problems:
        return Finding(
            check=CHECK,
            verdict="invalid",
            sentence=f"{len(problems)} of {rows} events in the logs were not said like that: {problems[0]}",
            examples=problems[:EXAMPLES_MAX],
            figures=figures,
            first_index=first_index,
        )
    if not places:
        return Finding(check=CHECK, verdict="unknown", sentence="nothing is proven: no event of this drill is in a log")
    sentence = f"all {len(places)} events in the logs were said by clients"
    if older:
        sentence += f"; {older} rows are older than this drill"
    return Finding(check=CHECK, verdict="valid", sentence=sentence, figures=figures)


def _unsaid(speakers: _Speakers, row: Row) -> str:
    if speakers.said_this_content(row):
        return f"a {row.kind} that was said, under another identity ({row.identity})"
    return f"nobody said this {row.kind}: {row.query!r} {row.item!r} at {row.time_ms}"


def _confused(speaker: FirstSaid, row: Row, pseudonyms: dict[int, str], users: dict[str, int]) -> str | None:
    """Why this user's pseudonym is not always the same, or is another one's; None when it is in order."""
    user = speaker.said.user
    if not user:
        return None
    if pseudonyms.setdefault(row.user, user) != user:
        return f"{user} has the pseudonym of {pseudonyms[row.user]}"
    if users.setdefault(user, row.user) != row.user:
        return f"{user} has two pseudonyms"
    return None


def _same(one: Row, other: Row) -> bool:
    """Whether two rows hold the same event, wherever they lie."""
    return (
        one.kind == other.kind
        and one.time_ms == other.time_ms
        and one.user == other.user
        and one.session == other.session
        and one.query == other.query
        and one.item == other.item
        and one.position == other.position
        and one.ranking == other.ranking
        and one.body == other.body
    )
