"""What the gateway says about regions and acknowledgements is what the client reads; neither imports the other."""

import msgspec

from services.client.answers import Coordinates, decode_results
from services.client.discovery import _decode
from services.client.publisher import HEADER_ACK
from services.gateway import acks, wire

WHERE = wire.Coordinates(log="east-1.events", partition=3, offset=9, index=1)


def test_the_answer_about_regions() -> None:
    """Every gateway's address, and the largest epoch."""
    said = wire.RegionsAnswer(
        region="east",
        active="west",
        epoch=(0, 9),
        view_age_ms=12,
        regions=[
            wire.RegionGateways(region="east", gateways=["http://e:8080"], active=False),
            wire.RegionGateways(region="west", gateways=["http://w:8080", "http://w:9080"], active=True),
        ],
    )
    read = _decode(msgspec.json.encode(said))
    assert read.epoch == (0, 9) and read.active == "west"
    assert [url for region in read.regions for url in region.gateways] == [
        "http://e:8080",
        "http://w:8080",
        "http://w:9080",
    ]
    nobody = wire.RegionsAnswer(region="east", active=None, epoch=(-1, -1), view_age_ms=None, regions=[])
    assert _decode(msgspec.json.encode(nobody)).active is None


def test_the_results_of_events_that_were_to_be_held_elsewhere() -> None:
    """Accepted says where it is stored; unknown says where it lies all the same."""
    problem = wire.ProblemDocument(title="not remote", status=504, detail="no peer confirmed it", type="urn:x")
    said = wire.EventsAnswer(
        results=[
            wire.Accepted(id="a", coordinates=WHERE, stored="remote"),
            wire.Accepted(id="b", coordinates=WHERE),
            wire.Unknown(id="c", problem=problem, stored="local", coordinates=WHERE),
            wire.Refused(id=None, problem=problem),
        ]
    )
    remote, local, unknown, refused = decode_results(msgspec.json.encode(said)).results
    assert (remote.status, remote.stored, local.stored) == ("accepted", "remote", "")
    assert (unknown.status, unknown.stored, unknown.coordinates) == (
        "unknown",
        "local",
        Coordinates("east-1.events", 3, 9, 1),
    )
    assert refused.status == "refused" and refused.problem is not None and refused.problem.status == 504


def test_both_mean_the_same_header() -> None:
    """A header under another name would be ignored, and every event acknowledged too early."""
    assert HEADER_ACK == acks.HEADER_ACK
