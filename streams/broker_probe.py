"""Asking a real broker where its logs end and what they show."""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.locate import locate
from streams.logs import consumer_settings
from streams.truncation import LogEnd, LogUnreachableError, Place

_CLIENT_OUTDATED: Final = (
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError._NOENT,  # noqa: SLF001 - "no leaders found": its public name
)
"""The client keeps asking under the leaders that it saw first (or saw none of), and never looks for newer ones."""


class BrokerProbe:
    """A `LogProbe` that asks a real broker. `timeout_seconds` bounds each question."""

    def __init__(self, bootstrap: str, group: str, timeout_seconds: float) -> None:
        self._settings = {**consumer_settings(bootstrap, group), "enable.partition.eof": True, "log_level": 2}
        self._timeout_seconds = timeout_seconds
        self._admin_settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.max.ms": 500,
            "log_level": 2,
        }
        self._admin = AdminClient(self._admin_settings)

    def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """The end of each partition that the broker knows."""
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}  # type: ignore[no-untyped-call]
        found: dict[Place, LogEnd] = {}
        try:
            answers = self._admin.list_offsets(asked, request_timeout=self._timeout_seconds)
            for tp, answer in answers.items():
                end = _known(answer)
                if end is not None:
                    found[tp.topic, tp.partition] = end
        except KafkaException as error:
            if error.args[0].code() in _CLIENT_OUTDATED:
                self._admin = AdminClient(self._admin_settings)
            raise LogUnreachableError(f"the broker does not say where its logs end: {error}") from error
        return found

    def checksum_at(self, place: Place, offset: int) -> int | None:
        """Checksum of the record that stands for `offset` of the origin log, None when the log does not hold it."""
        consumer = Consumer(self._settings)
        try:
            found = locate(consumer, place, offset, self._timeout_seconds)
        finally:
            consumer.close()
        return None if found is None else found.checksum


def _known(answer: Future[Any]) -> LogEnd | None:
    """The end that was answered; None for a log that the broker does not know. Raises KafkaException."""
    try:
        end = answer.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    return LogEnd(int(end.offset), int(end.leader_epoch))
