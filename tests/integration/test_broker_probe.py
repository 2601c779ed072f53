"""The probe that asks where logs end outlives its broker: a restart brings a newer leader epoch."""

from __future__ import annotations

import pytest

from infra.runtime.kafka import KafkaBroker
from streams.broker_probe import BrokerProbe
from streams.truncation import LogUnreachableError
from tests.support.frames import FrameWriter, event_rows, make_topics
from tests.support.poll import wait_until

pytestmark = pytest.mark.integration


def test_a_restarted_broker_is_understood_again(fresh_broker: KafkaBroker) -> None:
    """Asked all the while that it comes back, the probe gives its ends once it is there."""
    make_topics(fresh_broker.bootstrap, "probe-1")
    writer = FrameWriter(fresh_broker.bootstrap, "probe-1.events")
    writer.spread(event_rows(50, seed=1))
    writer.flush()
    probe = BrokerProbe(fresh_broker.bootstrap, "probe", 5.0)
    places = [("probe-1.events", partition) for partition in range(4)]
    before = probe.ends(places)
    fresh_broker.kill()
    fresh_broker.start(wait=False)

    def same_ends() -> bool:
        try:
            after = probe.ends(places)
        except LogUnreachableError:
            return False
        assert {place: end.next_offset for place, end in after.items()} == {
            place: end.next_offset for place, end in before.items()
        }
        return True

    wait_until(same_ends, 30, "the ends of the log after the restart")
