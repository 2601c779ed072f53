"""What the processes of a running region show at `/metrics` stays within its budget, after real traffic."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from services.demo.region import DemoRegion
from tests.support.metrics_budget import REGION_SERIES_MAX, over_budget, series_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
USER, QUERY, ITEM = "budget-person-4711", "azure budget kettle", "budget-kettle-1"


def test_metrics_have_few_series_and_no_users_queries_or_items(region: DemoRegion) -> None:
    """A search and its events pass first, so that what labels they would leave are there."""
    gateway = region.addresses["gateway"]
    body = f'{{"query": "{QUERY}", "user": "{USER}", "session": "{USER}-s", "candidates": ["{ITEM}"]}}'.encode()
    request = urllib.request.Request(f"{gateway}/v1/search", data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()
    problems: list[str] = []
    series = 0
    for process, url in ((name, region.addresses[name]) for name in ("gateway", "processor", "inference")):
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        problems += over_budget(process, page, sent={USER, f"{USER}-s", QUERY, ITEM})
        series += series_of(page)
    assert problems == []
    assert 100 < series < REGION_SERIES_MAX
