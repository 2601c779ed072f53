"""Which logs are read is what stands in Kafka, of the regions that exist."""

from services.processor.logs import Logs, lives_among


def test_every_life_with_both_logs_is_found_by_region_and_number() -> None:
    """Other regions' topics, half-made lives and Kafka's own are left out; ten comes after two."""
    topics = [
        *("east-1.events", "east-1.rankings", "east-10.events", "east-10.rankings", "east-2.events", "east-2.rankings"),
        *("west-1.events", "west-1.rankings", "west-2.events", "north-1.events", "north-1.rankings"),
        *("__consumer_offsets", "east-1.dead", "east-01.events", "east-01.rankings"),
    ]
    assert lives_among(topics, {"east", "west"}) == ["east-1", "east-2", "east-10", "west-1"]


def test_only_the_own_life_is_written_here() -> None:
    """An earlier life of the same region is a copy like any other."""
    logs = Logs("east-2", ("east-1", "east-2", "west-1"), 2)
    assert [log for log in logs.events if logs.is_copy(log)] == ["east-1.events", "west-1.events"]
    assert not logs.is_copy("east-2.rankings")
    assert logs.places[:3] == [("east-1.events", 0), ("east-1.events", 1), ("east-2.events", 0)]
    assert ("west-1.rankings", 1) in logs.rankings_places
