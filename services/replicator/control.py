"""What happens to one copied partition next: pure decisions over what is known, for the shell to carry out.

The states are few. Where the copy stands is unknown, or known; a flow runs, has ended and still waits for delivery
reports, or there is none. Everything unexpected ends the flow. What comes then depends only on why it ended: the own
copy is walked again, or the source is looked at again, and when it keeps failing to show what it must, an alarm says so
and it is avoided for a while. Nothing is ever skipped to get further.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from services.replicator.flow import OWN_SIDE, Ended, Flow, Why
from services.replicator.positions import Bounds, CopyState, Place
from services.replicator.progress import LagSeconds
from services.replicator.settings import ReplicatorSettings
from services.replicator.sources import (
    Holder,
    OriginShown,
    choose,
    missing_alarm,
    recreated_alarm,
    replaced_alarm,
)
from streams.truncation import LogEnd

_STEP_BACK_FIRST = 1000
_FINAL = (Why.NOT_SHOWN, Why.REPLACED, Why.IS_COPY, Why.MALFORMED)
"""What another look can hardly change: another record in its place stays there. Two looks rule out a stale fetch."""


class Act(Enum):
    """What the shell is to do for a partition."""

    NOTHING = "nothing"
    WALK = "walk the own copy"
    ATTACH = "begin a flow from the chosen source"
    INSPECT = "ask the origin what it holds, and come back with `inspected`"


@dataclass(slots=True)
class Alarm:
    """Something that an operator must know."""

    text: str
    source: str = ""
    """The region that it is about, when it ends as soon as that one shows what it must."""
    until: float | None = None
    """When to take it down, for something that was repaired at once."""


class PartitionControl:
    """One partition of one copied log."""

    def __init__(self, place: Place, settings: ReplicatorSettings) -> None:
        self.place = place
        self.state: CopyState | None = None
        """As walked; None before the first walk. What `flow` delivers goes into it."""
        self.known: CopyState | None = None
        """Where the next walk may begin."""
        self.flow: Flow | None = None
        self.bounds = Bounds()
        self.topic_id = ""
        """Of the origin's topic, as it was when it was first copied from."""
        self.topic_id_now = ""
        self.alarms: dict[str, Alarm] = {}
        """By what they are about; one of each."""
        self.lag = LagSeconds()
        self.chosen: Holder | None = None
        self.step_back = 0
        self.walks = 0
        self._settings = settings
        self._needs_walk = True
        self._walk_reason = ""
        self._looks = 0
        self._retry_at = 0.0
        self._avoided: dict[str, float] = {}
        self._short_since: float | None = None
        self._to_inspect: Ended | None = None
        self._removed_below = -1
        self._end_shown: int | None = None
        self._doubted_epoch = -1
        """The leader epoch that ended the last flow: the next one settles that doubt, and does not have it again."""

    @property
    def held(self) -> int:
        """Everything of the origin below this is in the copy, contiguous and acknowledged."""
        return self.state.next_offset if self.state else 0

    @property
    def is_walked(self) -> bool:
        """Whether where the copy stands is known from the copy itself."""
        return self.state is not None and not self._needs_walk

    def alarm(self, now: float) -> str:
        """What is wrong; empty when nothing is."""
        if not self.alarms:
            return ""
        self.alarms = {key: found for key, found in self.alarms.items() if found.until is None or found.until > now}
        return "; ".join(found.text for found in self.alarms.values())

    @property
    def is_known(self) -> bool:
        """Whether `held` may be told to others: the copy showed it."""
        return self.state is not None

    @property
    def is_short(self) -> bool:
        """Whether the origin's log ended before where it was seen, or is held, when it was last looked at."""
        return self._short_since is not None

    @property
    def is_stopped(self) -> bool:
        """Whether an alarm keeps it from going on with the source that it is about."""
        return any(found.until is None for found in self.alarms.values())

    def saw_end(self, end: LogEnd, now: float) -> None:
        """The origin showed where the log ends. One that ends earlier than before is not read until that is clear."""
        self._end_shown = end.next_offset
        if end.next_offset < max(self.bounds.end, self.held) or end.leader_epoch < self.bounds.leader_epoch:
            if self._short_since is None:
                self._short_since = now
                if self.flow is not None and self.flow.from_origin:
                    self.flow.end(Why.DOUBT, f"the origin ends at {end.next_offset}, it reached {self.bounds.end}")
            return
        self._short_since = None
        self.bounds = self.bounds.saw(end.leader_epoch, end.next_offset).pruned(self.held)
        self.lag.saw(end.next_offset, now)

    def saw_no_topic(self, now: float) -> None:
        """The origin has no such partition: not yet, or not any more."""
        if self.bounds.end or self.held:
            self.saw_end(LogEnd(0, self.bounds.leader_epoch), now)

    def step(self, now: float, holders: Sequence[Holder], limit: int | None) -> Act:
        """Decide what to do now. `holders` are all that hold the partition, readable or not."""
        self._drop_settled(holders, limit)
        if self._is_flowing(now, holders, limit):
            return Act.NOTHING
        if self._to_inspect is not None:
            return Act.INSPECT
        if now < self._retry_at:
            return Act.NOTHING
        if self.state is None or self._needs_walk:
            return Act.WALK
        return Act.ATTACH if self._may_attach(now, holders, limit) else Act.NOTHING

    def _is_flowing(self, now: float, holders: Sequence[Holder], limit: int | None) -> bool:
        """Whether a flow runs, or has ended and still waits for reports; one that is over is settled."""
        flow = self.flow
        if flow is None:
            return False
        self._judge_running(flow, now, holders, limit)
        if flow.ended is None or flow.pending:
            return True
        self.flow = None
        self._settle(flow, flow.ended, now)
        return False

    def _may_attach(self, now: float, holders: Sequence[Holder], limit: int | None) -> bool:
        self.chosen = self._choose(self.held, now, holders, limit)
        if self.chosen is None or self._origin_is_short(self.chosen, now, limit):
            return False
        if self.chosen.is_origin and self._is_recreated():
            self._stop(self.chosen.region, recreated_alarm(self.place, self.chosen.region), now)
            return False
        return True

    def new_flow(self, contact: int, limit: int | None) -> Flow:
        """The flow from the chosen source."""
        assert self.chosen is not None
        assert self.state is not None
        assert self.flow is None
        if self.chosen.is_origin and self.topic_id_now:
            self.topic_id = self.topic_id_now
        self.flow = Flow(
            self.place,
            self.state,
            source=self.chosen.region,
            from_origin=self.chosen.is_origin,
            contact=contact,
            limit=limit if self.chosen.is_origin else None,
            bounds=self.bounds,
            step_back=self.step_back,
            # Retention may have removed the last record that is held: the topic's own identity is left to go by then.
            must_show=not (self.chosen.is_origin and self._removed_below == self.held),
            doubted_epoch=self._doubted_epoch,
        )
        return self.flow

    def walked(self, state: CopyState, lost: str, problem: str, now: float) -> None:
        """The own copy was walked."""
        self.state, self.known, self._needs_walk, self._walk_reason = state, None, False, ""
        self.walks += 1
        name = f"{self.place[0]}/{self.place[1]}"
        if lost:
            self._notice("lost", f"{name}: the copy lost records ({lost}); it is filled again from {self.held}", now)
        if problem:
            self.state = None
            self.alarms["copy"] = Alarm(f"{problem}. The partition is not copied any further.")
            self._walk_again(now, self._settings.alarm_retry_seconds)
        else:
            self.alarms.pop("copy", None)

    def own_end_differs(self, end: int, now: float) -> None:
        """The own copy ends elsewhere than what was written to it: walk it again."""
        assert self.state is not None
        why = Why.FOREIGN if end > self.state.copy_end else Why.LOST
        text = f"{self.place[0]}/{self.place[1]} ends at {end} instead of {self.state.copy_end}: {why.value}"
        if self.flow is not None:
            self.flow.end(why, text)
        else:
            self._copy_is_other(why, text, now)

    def inspected(self, shown: OriginShown | None, now: float) -> None:
        """The origin said what it holds (None: it did not answer): alarm, or go on without the record that is gone."""
        ended, self._to_inspect = self._to_inspect, None
        assert ended is not None
        assert self.chosen is not None
        source = self.chosen.region
        if shown is None:
            self._retry_at = now + self._settings.look_again_seconds
        elif ended.why is not Why.NOT_THERE:
            self._stop(source, replaced_alarm(ended.text), now)
        elif shown.low == self.held and shown.end >= max(self.held, self.bounds.end):
            self._removed_below = shown.low
            self._looks = 0
        else:
            self._stop(source, missing_alarm(self.place, source, self.held, self.bounds.end, shown), now)

    def hole_was_written(self, now: float) -> None:
        """An operator accepted a gap: read the copy again, and then the source, as if nothing had been wrong."""
        self.alarms.pop("source", None)
        self._avoided.clear()
        if self.flow is not None:
            self.flow.end(Why.MOVED)
        self._walk_again(now, 0)

    def _choose(self, wanted: int, now: float, holders: Iterable[Holder], limit: int | None) -> Holder | None:
        able = [
            replace(holder, blocker=holder.blocker or "it failed to show what it must")
            if self._avoided.get(holder.region, 0.0) > now
            else holder
            for holder in holders
        ]
        return choose(wanted, limit, able, self.chosen.region if self.chosen else "")

    def _judge_running(self, flow: Flow, now: float, holders: Sequence[Holder], limit: int | None) -> None:
        """End a flow whose source is not the right one any more; forget old troubles of one that proved itself."""
        if flow.ended is not None:
            return
        chosen = self._choose(flow.next_offset, now, holders, limit)
        if flow.from_origin and self._is_recreated():
            flow.end(Why.DOUBT, "the topic is another one")
        elif chosen is None or chosen.region != flow.source or (flow.from_origin and flow.limit != limit):
            flow.end(Why.MOVED)
        elif flow.proved and (self._looks or self.step_back or "source" in self.alarms):
            self._looks, self.step_back = 0, 0
            if self.alarms.get("source", Alarm("")).source == flow.source:
                del self.alarms["source"]

    def _settle(self, flow: Flow, ended: Ended, now: float) -> None:
        """A flow ended and everything that it sent was reported."""
        settings = self._settings
        self._doubted_epoch = ended.leader_epoch
        if ended.why is Why.UNDELIVERED:
            self._walk_again(now, settings.look_again_seconds)
        elif ended.why in OWN_SIDE:
            self._copy_is_other(ended.why, ended.text, now)
        elif ended.why in (Why.TOO_FAR, Why.NOT_THERE) and not flow.from_origin and flow.start_offset > 0:
            self.step_back = max(_STEP_BACK_FIRST, 8 * self.step_back)
        elif ended.why not in (Why.MOVED, Why.DOUBT):
            self._looks += 1
            looks_max = 2 if ended.why in _FINAL else settings.looks_before_alarm
            if self._looks < looks_max:
                self._retry_at = now + settings.look_again_seconds
            elif flow.from_origin:
                self._to_inspect = ended
            else:
                self._stop(flow.source, replaced_alarm(ended.text), now)

    def _origin_is_short(self, chosen: Holder, now: float, limit: int | None) -> bool:
        """Whether the origin ends before where it was seen; an alarm once that has lasted.

        Of a life that was sealed for it, what lies below the cut is genuine and still taken.
        """
        if not chosen.is_origin or limit is not None:
            return False
        if self._short_since is None:
            # Before its end was seen the topic may not exist yet: there is nothing to read, and nothing to alarm about.
            return self._end_shown is None
        if now - self._short_since >= self._settings.looks_before_alarm * self._settings.look_again_seconds:
            shown = OriginShown(0, self._end_shown or 0)
            self._stop(chosen.region, missing_alarm(self.place, chosen.region, self.held, self.bounds.end, shown), now)
        return True

    def _is_recreated(self) -> bool:
        return self.held > 0 and bool(self.topic_id) and self.topic_id_now not in {"", self.topic_id}

    def _drop_settled(self, holders: Iterable[Holder], limit: int | None) -> None:
        """An alarm about an origin ends when nothing more is wanted from it."""
        found = self.alarms.get("source")
        if found is None:
            return
        about = next((holder for holder in holders if holder.region == found.source), None)
        done = limit is not None and self.held >= limit
        if about is None or (about.is_origin and done):
            del self.alarms["source"]

    def _stop(self, source: str, text: str, now: float) -> None:
        self.alarms["source"] = Alarm(text, source)
        self._avoided[source] = now + self._settings.alarm_retry_seconds
        self._looks = 0

    def _copy_is_other(self, why: Why, text: str, now: float) -> None:
        """The copy is not as it was written: its position is found again, and what is missing is copied again."""
        self._notice(why.name.lower(), f"{text}; its position is found again from its own records", now)
        self._walk_again(now, 0)
        if why is Why.LOST:
            self.state = None

    def _notice(self, about: str, text: str, now: float) -> None:
        self.alarms[about] = Alarm(text, until=now + self._settings.alarm_shown_seconds)

    def _walk_again(self, now: float, wait_seconds: float) -> None:
        self.known = self.state or self.known
        self._needs_walk = True
        self._retry_at = now + wait_seconds
