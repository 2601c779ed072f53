"""When nothing of a region can act any more although its lease has not ended: before that, letting go is not safe.

A lease that is let go is taken within milliseconds, but the region's processes hold promises that were given before.
So the holder first stops promising, and lets go when its processor has *said*, asked after that, that its gate is
shut, plus the time that an effect under way may take. When the processor does not say so, when the last promise ends.
"""

from __future__ import annotations

from services.controller.model import Limits, Now, OwnTerm, View


def nothing_acts(view: View, term: OwnTerm, limits: Limits, now: Now) -> str | None:
    """Return what is being waited for, or None when nothing of this region can act."""
    if term.shut is None:
        return "its gate is told to shut"
    if now.boottime >= term.promised_until:
        return None
    gate = view.data.gate
    said_shut = [asked for asked in gate.shut_asks if asked > term.shut.since] if gate is not None else []
    if not said_shut:
        return f"its gate is shut, at the latest in {term.promised_until - now.boottime:.1f} s"
    if now.boottime < said_shut[0] + limits.quiesce_seconds:
        return "effects under way have ended"
    return None
