"""Why there is no report. A drill's verdict stands without one."""

from __future__ import annotations

from region_sim.errors import BadDrill, RegionSimError


class ReportFailed(RegionSimError):
    """There is nothing to report, or the report cannot be written."""


class NoVerdict(BadDrill):
    """A place that was named holds no verdict: exit code 254."""
