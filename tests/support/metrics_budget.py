"""What a process may show at `/metrics`: so many series, and no label that holds a user, a query or an item.

A label with an identifier grows with the traffic: it makes a scrape slow, a Prometheus full, and puts what people
searched for where nobody expects it. So names of labels are held against a list, values against what was really sent,
and any value that is not listed as an identifier of ours against the look of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

SERIES_MAX: Final = {"gateway": 400, "processor": 700, "inference": 450, "replicator": 300, "controller": 200}
"""By process; together they stay below the 2,000 of a region."""
REGION_SERIES_MAX: Final = 2_000
FORBIDDEN_LABELS: Final = re.compile(r"(^|_)(user|session|query|text|item|items|candidate|event_id|ranking|trace)(_|$)")
OWN_IDENTIFIERS: Final = frozenset({"digest", "sha256", "instance", "version", "incarnation", "consumergroup"})
"""Labels whose values look like identifiers and are few: one for a life, a start or a version."""
IDENTIFIER: Final = re.compile(r"^[0-9a-f]{12,}$|^\d{6,}$|^[0-9a-f]{8}-[0-9a-f]{4}-|@|\s.*\s.*\s")
"""A pseudonym or hash, a number of a user or item, a UUID, an address, a sentence."""
VALUE_CHARACTERS_MAX: Final = 100


def over_budget(process: str, metrics: str, sent: Collection[str] = ()) -> list[str]:
    """Return what is wrong with a page; `sent`: users, queries and items that were put into the process before."""
    found: list[str] = []
    samples = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]
    if len(samples) > SERIES_MAX[process]:
        found.append(f"{process} shows {len(samples)} series, at most {SERIES_MAX[process]}")
    for sample in samples:
        for label, value in sample.labels.items():
            where = f'{sample.name}{{{label}="{value[:40]}"}} of {process}'
            if FORBIDDEN_LABELS.search(label):
                found.append(f"{where}: no label may be of a user, query or item")
            elif value in sent:
                found.append(f"{where}: that was sent by an app")
            elif len(value) > VALUE_CHARACTERS_MAX:
                found.append(f"{where}: the value has {len(value)} characters")
            elif label not in OWN_IDENTIFIERS and IDENTIFIER.search(value):
                found.append(f"{where}: the value looks like an identifier or like words of a person")
    return found


def series_of(metrics: str) -> int:
    """How many series a page has."""
    return sum(len(family.samples) for family in text_string_to_metric_families(metrics))
