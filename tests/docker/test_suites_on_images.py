"""The suites of the gateway and of replay, word for word, on a broker from an image.

What is imported is collected here, with the broker of this folder's fixtures. The suite of leases has etcd from an
image as one of its drivers (tests/contract/test_lease_store.py).
"""

from __future__ import annotations

import pytest

from tests.integration.test_gateway import (
    test_a_batch_lands_in_frames_at_the_coordinates_that_were_given,
    test_bad_input_leaves_no_trace_and_the_good_beside_it_is_kept,
    test_it_waits_for_its_log_and_says_so,
    test_rankings_come_back_through_the_log,
    test_stopping_under_load_keeps_every_promise,
    test_the_same_event_through_a_restarted_gateway_is_the_same_event,
    test_two_apps_that_number_from_one_lose_nothing,
)
from tests.integration.test_replay import (
    test_a_hole_inside_the_log_is_a_gap,
    test_a_log_that_does_not_exist_is_named,
    test_a_log_that_ends_too_early_is_truncated,
    test_another_record_at_the_last_position_is_a_truncation,
    test_corrupt_frames_are_buried_and_stepped_over,
    test_records_removed_from_the_start_are_a_gap,
    test_replay_gives_the_state_of_the_definition,
    test_replay_of_nothing_new_takes_nothing,
    test_unknown_frame_version_stops,
)

pytestmark = pytest.mark.docker

__all__ = [
    "test_a_batch_lands_in_frames_at_the_coordinates_that_were_given",
    "test_a_hole_inside_the_log_is_a_gap",
    "test_a_log_that_does_not_exist_is_named",
    "test_a_log_that_ends_too_early_is_truncated",
    "test_another_record_at_the_last_position_is_a_truncation",
    "test_bad_input_leaves_no_trace_and_the_good_beside_it_is_kept",
    "test_corrupt_frames_are_buried_and_stepped_over",
    "test_it_waits_for_its_log_and_says_so",
    "test_rankings_come_back_through_the_log",
    "test_records_removed_from_the_start_are_a_gap",
    "test_replay_gives_the_state_of_the_definition",
    "test_replay_of_nothing_new_takes_nothing",
    "test_stopping_under_load_keeps_every_promise",
    "test_the_same_event_through_a_restarted_gateway_is_the_same_event",
    "test_two_apps_that_number_from_one_lose_nothing",
    "test_unknown_frame_version_stops",
]
