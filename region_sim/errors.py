"""What ends a drill before its verdict, sorted by who can mend it."""

from __future__ import annotations


class RegionSimError(Exception):
    """The root of what this package raises."""


class BadDrill(RegionSimError):
    """The drill, a setting or an option is wrong: exit code 254."""


class DrillBroken(RegionSimError):
    """The drill could not be carried out: a region did not start, or a fault did not take. Exit code 255."""


class HistoryDamaged(RegionSimError):
    """A history cannot be read: there is no verdict without one."""
