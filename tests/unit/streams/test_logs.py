"""Names of logs and the partitioner."""

from streams.logs import TOPIC_SETTINGS, partition_of, queues_of, record_checksum, topic_settings, topics_of


def test_the_partitioner_never_changes() -> None:
    """Two producers, or two releases, that disagree would put one user's events out of order."""
    assert [partition_of(key, 8) for key in (0, 1, 2, 12345, 2**64 - 1)] == [1, 6, 3, 1, 3]


def test_the_checksum_never_changes() -> None:
    """Checksums are kept in snapshots and compared after a restart, so they must not depend on the process."""
    assert record_checksum(b"meridian") == 1_397_849_882_477_819_397


def test_an_incarnation_owns_three_topics_under_its_own_name() -> None:
    """The name carries the incarnation, so it is never used again."""
    assert topics_of("east-2") == ("east-2.events", "east-2.rankings", "east-2.dead")


def test_an_inbox_is_a_queue_and_no_log() -> None:
    """It is not among the topics that other regions copy, and keeps nothing for ever."""
    inbox, receipts = queues_of("east-2")
    assert not {inbox, receipts} & {*topics_of("east-2")}
    assert all(0 < int(topic_settings(topic)["retention.ms"]) < 100 * 3_600_000 for topic in (inbox, receipts))
    assert all(topic_settings(topic) == TOPIC_SETTINGS for topic in topics_of("east-2"))
    assert topic_settings(inbox)["message.timestamp.type"] == "LogAppendTime"
