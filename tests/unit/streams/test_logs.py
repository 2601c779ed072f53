"""Names of logs and the partitioner."""

from streams.logs import partition_of, record_checksum, topics_of


def test_the_partitioner_never_changes() -> None:
    """Two producers, or two releases, that disagree would put one user's events out of order."""
    assert [partition_of(key, 8) for key in (0, 1, 2, 12345, 2**64 - 1)] == [1, 6, 3, 1, 3]


def test_the_checksum_never_changes() -> None:
    """Checksums are kept in snapshots and compared after a restart, so they must not depend on the process."""
    assert record_checksum(b"meridian") == 1_397_849_882_477_819_397


def test_an_incarnation_owns_three_topics_under_its_own_name() -> None:
    """The name carries the incarnation, so it is never used again."""
    assert topics_of("east-2") == ("east-2.events", "east-2.rankings", "east-2.dead")
