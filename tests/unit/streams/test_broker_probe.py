"""A client library whose knowledge of leaders is out of date is replaced: it would never ask for newer ones."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from services.replicator.errors import KafkaSilent
from services.replicator.kafka import KafkaSide
from streams import broker_probe
from streams.broker_probe import BrokerProbe
from streams.truncation import LogUnreachableError

PLACE = ("east-1.events", 0)


class Outdated:
    """An admin client that answers every question with one error, and counts how many of it were made."""

    made = 0
    code = 0

    def __init__(self, _settings: dict[str, Any]) -> None:
        type(self).made += 1

    def list_offsets(self, _asked: object, **_more: object) -> dict[Any, Any]:
        raise KafkaException(KafkaError(self.code))


@pytest.fixture
def outdated(monkeypatch: pytest.MonkeyPatch) -> type[Outdated]:
    """Every admin client is such a one."""
    Outdated.made = 0
    monkeypatch.setattr(broker_probe, "AdminClient", Outdated)
    monkeypatch.setattr("services.replicator.kafka.AdminClient", Outdated)
    return Outdated


@pytest.mark.parametrize(
    ("code", "made"),
    [(KafkaError.FENCED_LEADER_EPOCH, 3), (KafkaError._NOENT, 3), (KafkaError.REQUEST_TIMED_OUT, 1)],
)
def test_the_next_question_is_asked_by_a_new_client(outdated: type[Outdated], code: int, made: int) -> None:
    """After a broker was stopped for a while, "no leaders found" had lasted until the process was started again."""
    outdated.code = code
    probe = BrokerProbe("127.0.0.1:9", "group", 1.0)
    for _ in range(2):
        with pytest.raises(LogUnreachableError):
            probe.ends([PLACE])
    assert outdated.made == made


@pytest.mark.parametrize(("code", "made"), [(KafkaError._NOENT, 2), (KafkaError.REQUEST_TIMED_OUT, 1)])
def test_so_it_is_for_a_copier(outdated: type[Outdated], code: int, made: int) -> None:
    """It asks both Kafkas in the same way."""
    outdated.code = code
    side = KafkaSide("127.0.0.1:9", 1.0)
    for _ in range(2):
        with pytest.raises(KafkaSilent):
            side.ends([PLACE])
    assert outdated.made == made
