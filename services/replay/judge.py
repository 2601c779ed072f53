"""Judging rankings by the click that really followed, beside two baselines on the same stream.

Every ranked search is judged once, for all methods together, when its answer is known: a search that got no
answer is left out for all of them and counted as failed, so no method is compared on easier searches than
another. Baselines are asked at the place in the stream where the search stands, before its click is told to
anybody."""

from collections.abc import Sequence

import msgspec

from models.baselines import Baseline, baselines
from models.quality import Comparison, Quality, QualityFigures, rank_of
from models.records import SearchRecord

RANKING_SIZE = 10


class Expected(msgspec.Struct, frozen=True):
    """The rank that each baseline gave to the clicked item, asked at the search's place in the stream."""

    clicked: str
    baseline_ranks: tuple[int, ...]


class MethodFigures(msgspec.Struct, frozen=True):
    """One method over all judged searches and over quarters of them."""

    overall: QualityFigures
    quarters: list[QualityFigures]


class QualityReport(msgspec.Struct, frozen=True):
    """Figures by method; `gaps` are ours minus each baseline's MRR@5 with a 95 % interval over pairs."""

    judged: int
    methods: dict[str, MethodFigures]
    by_rung: dict[str, QualityFigures]
    gaps: dict[str, Comparison]


class Judge:
    """Collects ranks in the order of the stream."""

    def __init__(self) -> None:
        self._baselines: tuple[Baseline, ...] = baselines()
        self._ours: list[tuple[int, int, str]] = []
        self._theirs: dict[int, tuple[int, ...]] = {}

    def learn(self, query: str, item: str) -> None:
        """A click happened: the baselines count it."""
        for baseline in self._baselines:
            baseline.update(query, item)

    def expect(self, search: SearchRecord) -> Expected:
        """Ask the baselines about a search, now."""
        ranks = tuple(
            rank_of(baseline.rank(search.query, RANKING_SIZE), search.clicked) for baseline in self._baselines
        )
        return Expected(search.clicked, ranks)

    def take(self, place: int, expected: Expected, items: Sequence[str], rung: str) -> None:
        """An answer came for the search at `place` in the stream; searches without a click judge nothing."""
        if not expected.clicked:
            return
        self._ours.append((place, rank_of(items, expected.clicked), rung))
        self._theirs[place] = expected.baseline_ranks

    def report(self) -> QualityReport:
        """The figures so far, in the order of the stream."""
        self._ours.sort()
        ours = Quality()
        theirs = {baseline.name: Quality() for baseline in self._baselines}
        by_rung: dict[str, Quality] = {}
        for place, rank, rung in self._ours:
            ours.add_rank(rank)
            by_rung.setdefault(rung, Quality()).add_rank(rank)
            for quality, baseline_rank in zip(theirs.values(), self._theirs[place], strict=True):
                quality.add_rank(baseline_rank)
        methods = {"ours": ours, **theirs}
        return QualityReport(
            judged=len(ours),
            methods={name: MethodFigures(q.figures(), q.parts(4)) for name, q in methods.items()},
            by_rung={rung: quality.figures() for rung, quality in sorted(by_rung.items())},
            gaps={name: ours.compare(quality) for name, quality in theirs.items()},
        )
