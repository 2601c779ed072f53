"""Asks, answers and ranking ids."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.asks import (
    Ask,
    Ranking,
    RankingId,
    decode_asks,
    decode_ranking,
    encode_asks,
    encode_ranking,
    model_tag,
    ranking_id,
)
from streams.kinds import Rung
from streams.position import Position

ASK = Ask(
    ask_id="a1",
    reply_to="g1",
    kind="search",
    deadline_unix_ms=5,
    at_ms=1_700_000_000_000,
    user=2**64 - 1,
    query="xbox",
    filter={"category": ["a", "b"], "price": {"max": 3.0}},
    candidates=["1", "2"],
    after=[Position("east-1.events", 3, 9)],
)


def test_asks_survive_their_header() -> None:
    """What the gateway asked is what the processor reads."""
    assert decode_asks(encode_asks([ASK, ASK])) == [ASK, ASK]


@pytest.mark.parametrize("raw", [b"", b"junk", msgspec.msgpack.encode([{"ask_id": 1}])])
def test_a_damaged_ask_header_is_an_error_of_decoding_and_nothing_else(raw: bytes) -> None:
    """The caller can drop such asks: the events of the frame do not depend on them."""
    with pytest.raises(msgspec.DecodeError):
        decode_asks(raw)


def test_an_answer_survives_the_rankings_log() -> None:
    """What the processor answered is what the gateway shows, with its epoch as a pair."""
    ranking = Ranking(
        ask_id="a1",
        reply_to="g1",
        ranking_id="00" * 16,
        items=["1"],
        scores=[0.5],
        rung="model",
        model_version="ranker/1",
        region="east",
        epoch=(0, 1),
        frontier=[("east-1.events", 0, 4)],
        feature_age_ms=3,
        valid_until_ms=9,
    )
    assert decode_ranking(encode_ranking(ranking)) == ranking


@given(
    st.integers(0, 2**48 - 1),
    st.integers(0, 255),
    st.sampled_from(Rung),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_a_ranking_id_says_where_a_click_on_it_counts(
    served_ms: int, arm: int, rung: Rung, tag: int, unique: int
) -> None:
    """Served time, arm, rung and model tag come back out of the 16 bytes."""
    made = RankingId(served_ms, arm, int(rung), tag, unique)
    assert RankingId.from_bytes(made.to_bytes()) == made


def test_the_ranking_id_of_an_answer_names_its_time_rung_and_model() -> None:
    """The id that an app sends back with a click leads to the bucket and the model that served it."""
    read = RankingId.from_bytes(bytes.fromhex(ranking_id(ASK, Rung.COUNTERS, "ranker/1")))
    assert (read.served_ms, read.rung, read.model_tag) == (ASK.at_ms, Rung.COUNTERS, model_tag("ranker/1"))


class AskOfBefore(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a reader knows that was built before traces."""

    ask_id: str
    reply_to: str
    kind: str
    deadline_unix_ms: int
    at_ms: int
    user: int = 0


def test_readers_of_before_pass_over_a_trace() -> None:
    """In a rolling upgrade a new gateway asks an old processor, and the other way round."""
    ask = Ask(ask_id="a", reply_to="g", kind="search", deadline_unix_ms=1, at_ms=2, user=7)
    traced = msgspec.structs.replace(ask, trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    (read,) = msgspec.msgpack.decode(encode_asks([traced]), type=list[AskOfBefore])
    assert (read.ask_id, read.user) == ("a", 7)
    before = msgspec.msgpack.encode([AskOfBefore(ask_id="a", reply_to="g", kind="search", deadline_unix_ms=1, at_ms=2)])
    assert decode_asks(before)[0].trace == ""
    assert encode_asks([ask]) == encode_asks([msgspec.structs.replace(ask, trace="")]), "no trace costs no byte"
