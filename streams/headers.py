"""Headers of Kafka records, whichever client library delivered them. Apart from frames: a copier needs no Arrow."""

from collections.abc import Mapping, Sequence

Headers = Sequence[tuple[str, bytes]] | Mapping[str, bytes] | None


def header(headers: Headers, name: str) -> bytes | None:
    """The value of a Kafka header; None when it is absent."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return next((bytes(value) for key, value in pairs if key == name and value is not None), None)
