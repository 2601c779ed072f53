"""Where logs end, asked of a broker that has only just come back: not led yet is no reason to give up a whole step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.region import broker
from services.region.broker import BrokerSilent, log_ends

PLACE = ("east-1.events", 3)
END = 284


class _Broker:
    """A consumer whose broker answers with these errors first."""

    def __init__(self, errors: list[int]) -> None:
        self._errors = errors

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        """Raises KafkaException as long as there are errors left."""
        assert (place.topic, place.partition) == PLACE
        assert timeout > 0
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        return 0, END

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(name="answering")
def _answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], dict[str, dict[int, int]]]:
    def ask(errors: list[int]) -> dict[str, dict[int, int]]:
        monkeypatch.setattr(broker, "Consumer", lambda _: _Broker(errors))
        monkeypatch.setattr(broker, "POLL_SECONDS", 0.0)
        return log_ends("127.0.0.1:1", [PLACE])

    return ask


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH])
def test_a_partition_that_is_not_led_yet_is_asked_again(
    answering: Callable[[list[int]], dict[str, dict[int, int]]], code: int
) -> None:
    """The broker has only just come back."""
    assert answering([code, code]) == {PLACE[0]: {PLACE[1]: END}}


def test_a_log_that_is_not_there_ends_at_nought(answering: Callable[[list[int]], dict[str, dict[int, int]]]) -> None:
    """Who asks knows whether it should be there, and asks again."""
    assert answering([KafkaError.UNKNOWN_TOPIC_OR_PART]) == {PLACE[0]: {PLACE[1]: 0}}


def test_any_other_answer_and_too_long_a_wait_are_silence(
    answering: Callable[[list[int]], dict[str, dict[int, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step fails with the reason, and is tried again as a whole."""
    with pytest.raises(BrokerSilent, match=r"does not say where east-1\.events/3 ends"):
        answering([KafkaError.TOPIC_AUTHORIZATION_FAILED])
    monkeypatch.setattr(broker, "ANSWER_TIMEOUT_SECONDS", 1e-9)
    with pytest.raises(BrokerSilent, match="Not leader"):
        answering([KafkaError.NOT_LEADER_FOR_PARTITION] * 1000)
