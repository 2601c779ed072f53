"""What a replay found, as one value and as words."""

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from models.quality import QualityFigures
from services.replay.judge import QualityReport
from services.replay.latency import LatencyReport, quantile
from services.replay.latency import report as latency_report
from services.replay.player import Player
from services.replay.tally import PublishReport, Tally


class RankingReport(msgspec.Struct, frozen=True):
    """The rankings that were asked for. `stale`: answers without the user's last acknowledged event."""

    asked: int
    served: int
    failed: int
    stale: int
    rungs: dict[str, int]
    failures: dict[str, int]
    feature_age_p99_ms: float


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole replay. `latency` and `rankings` are absent when nothing was timed or ranked."""

    source: str
    catalogue_items: int
    searches: int
    seconds: float
    published: PublishReport
    bulk_events_per_second: float | None = None
    latency: LatencyReport | None = None
    rankings: RankingReport | None = None
    quality: QualityReport | None = None

    @property
    def complete(self) -> bool:
        """Every event was acknowledged."""
        return self.published.refused == 0 and self.published.unknown == 0


def ranking_report(player: Player) -> RankingReport | None:
    """Counts of rankings, or None when none was asked for."""
    if not player.searches:
        return None
    served = sum(player.rungs.values())
    ages = sorted(player.feature_ages_ms)
    return RankingReport(
        asked=player.searches,
        served=served,
        failed=sum(player.failures.values()),
        stale=player.stale,
        rungs=dict(sorted(player.rungs.items())),
        failures=dict(player.failures.most_common(5)),
        feature_age_p99_ms=quantile(ages, 0.99),
    )


def build(
    *,
    source: str,
    catalogue_items: int,
    searches: int,
    seconds: float,
    bulk_events_per_second: float | None,
    player: Player,
    tally: Tally,
    quality: QualityReport | None,
    open_loop: bool,
) -> ReplayReport:
    """The report at the end of a replay. Only an open loop has intended times, hence latencies."""
    return ReplayReport(
        source=source,
        catalogue_items=catalogue_items,
        searches=searches,
        seconds=seconds,
        published=tally.report(),
        bulk_events_per_second=bulk_events_per_second,
        latency=latency_report(player.attempts) if open_loop and player.attempts else None,
        rankings=ranking_report(player),
        quality=quality if quality is not None and quality.judged else None,
    )


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.1f} ms"


def rows(report: ReplayReport) -> Sequence[tuple[str, str]]:
    """Label and value of each line to print."""
    published = report.published
    found = [
        ("events acknowledged", f"{published.acknowledged:,}"),
        ("events refused", f"{published.refused:,}"),
        ("events with unknown outcome", f"{published.unknown:,}"),
    ]
    if report.bulk_events_per_second is not None:
        found.append(("bulk, events a second", f"{report.bulk_events_per_second:,.0f}"))
    if report.rankings is not None:
        rungs = ", ".join(f"{rung} {count:,}" for rung, count in report.rankings.rungs.items()) or "none"
        found += [
            ("rankings served", f"{report.rankings.served:,} ({rungs})"),
            ("rankings failed", f"{report.rankings.failed:,}"),
            ("answers without the user's last event", f"{report.rankings.stale:,}"),
        ]
    if report.latency is not None:
        latency = report.latency
        found += [
            ("latency from intended send, p50", _ms(latency.p50_ms)),
            ("latency from intended send, p99", _ms(latency.p99_ms)),
            ("longest outage", f"{latency.outage_seconds:.1f} s"),
        ]
    return found


def quality_tables(quality: QualityReport) -> Iterator[Table]:
    """MRR@5 and NDCG@10 of every method, overall and by quarter of the stream; ours by rung as well."""
    figures: tuple[tuple[str, Callable[[QualityFigures], float]], ...] = (
        ("MRR@5", lambda part: part.mrr_at_5),
        ("NDCG@10", lambda part: part.ndcg_at_10),
    )
    for name, read in figures:
        table = Table(title=f"{name} over {quality.judged:,} searches that led to a click")
        table.add_column("method")
        for column in ("all", "quarter 1", "2", "3", "4"):
            table.add_column(column, justify="right")
        for method, found in quality.methods.items():
            row = [read(found.overall), *map(read, found.quarters)]
            table.add_row(method.replace("_", " "), *(f"{value:.3f}" for value in row))
        for rung, part in quality.by_rung.items():
            table.add_row(f"ours, {rung} ({part.searches:,})", f"{read(part):.3f}", "", "", "", "")
        yield table


def show(report: ReplayReport, console: Console) -> None:
    """Print the report for people."""
    table = Table(title=f"Replay of {report.source}: {report.searches:,} searches in {report.seconds:,.1f} s")
    table.add_column("what")
    table.add_column("value", justify="right")
    for label, value in rows(report):
        table.add_row(label, value)
    console.print(table)
    if report.quality is not None:
        for quality in quality_tables(report.quality):
            console.print(quality)
        for name, gap in report.quality.gaps.items():
            console.print(
                f"MRR@5 of ours minus {name.replace('_', ' ')}: {gap.difference:+.3f} "
                f"(95 % interval {gap.low:+.3f} to {gap.high:+.3f})"
            )
    if report.rankings is not None:
        for reason, count in report.rankings.failures.items():
            console.print(f"failed {count:,} times: {reason}", markup=False)
    for example in report.published.examples:
        console.print(f"not accepted at first: {example}", markup=False)
