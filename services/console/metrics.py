"""What a console counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

VERBS = ("switchover", "failover", "pause", "resume")
OUTCOMES = ("taken", "refused", "unreachable")


class ConsoleMetrics:
    """One set over one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.watchers = Gauge("meridian_console_watchers", "Pages that are kept up to date.", registry=registry)
        self.watchers_refused = Counter(
            "meridian_console_watchers_refused", "Pages that were one too many.", registry=registry
        )
        self.pictures = Counter("meridian_console_pictures", "Times that what is shown changed.", registry=registry)
        self.controllers = Gauge(
            "meridian_console_controllers_answering", "Controllers that answer this console.", registry=registry
        )
        self.operations = Counter(
            "meridian_console_operations", "What operators asked for.", ["verb", "outcome"], registry=registry
        )
        for verb in VERBS:
            for outcome in OUTCOMES:
                self.operations.labels(verb, outcome)
