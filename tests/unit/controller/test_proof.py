"""Nobody is asked to stand still for a comparison that cannot succeed yet."""

from services.controller.proof import records_behind


def test_what_the_own_state_lacks_is_counted_over_all_logs() -> None:
    """What it has beyond the peer's makes up for nothing."""
    own = [("east-1.events", 0, 5), ("west-1.events", 0, 100)]
    peer = [("east-1.events", 0, 9), ("east-1.events", 1, 3), ("west-1.events", 0, 90)]
    assert records_behind(own, peer) == 7
    assert records_behind(peer, own) == 10
    assert records_behind(own, own) == 0
