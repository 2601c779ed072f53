"""What people read of a drill: `report.html` and `junit.xml`, beside the history and the verdict."""

from __future__ import annotations

from region_sim.report.write import write_report

__all__ = ["write_report"]
