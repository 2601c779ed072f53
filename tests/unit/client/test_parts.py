"""The small parts of the client: bounds, waiting, addresses, remembered users, and what it imports."""

import ast
from pathlib import Path

import pytest

import services.client
from services.client import ClientSettings, Coordinates, RetryPolicy
from services.client.events import rfc3339
from services.client.gateways import Gateways
from services.client.tokens import ReadTokens
from tests.support.manual_clock import SkippingClock


def test_the_package_imports_nothing_else_of_the_project() -> None:
    """It installs alone: relative imports inside, and only aiohttp and msgspec outside."""
    import sys

    allowed = {"aiohttp", "msgspec", *sys.stdlib_module_names}
    for path in Path(services.client.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert not (foreign := [n for n in names if n.split(".")[0] not in allowed]), (path.name, foreign)


def test_a_bad_setting_is_named() -> None:
    """Each bound must be possible."""
    with pytest.raises(ValueError, match="batch_events_max must be at least 1"):
        ClientSettings(batch_events_max=0)
    with pytest.raises(ValueError, match="publish_timeout_seconds"):
        ClientSettings(publish_timeout_seconds=0)
    assert ClientSettings(remember_users_max=0).remember_users_max == 0
    with pytest.raises(ValueError, match="retry policy"):
        RetryPolicy(first_delay_ms=0)


@pytest.mark.parametrize("urls", [[], ["127.0.0.1:8080"], ["ftp://host"], [""]])
def test_an_address_that_is_none_is_refused(urls: list[str]) -> None:
    """The message shows what one looks like."""
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8080"):
        Gateways(urls, SkippingClock())


def test_many_failures_at_once_move_on_once() -> None:
    """Five requests that fail at the same gateway do not skip the next one."""
    gateways = Gateways(["http://a/", "http://b", "http://c"], SkippingClock())
    for _ in range(5):
        gateways.leave("http://a")
    assert gateways.current == "http://b"


def test_waiting_doubles_to_a_bound_and_never_undercuts_the_gateway() -> None:
    """Full jitter under a ceiling; Retry-After is a floor, and thousands of tries do not overflow."""
    policy = RetryPolicy(first_delay_ms=100, delay_ms_max=1_000)
    assert [policy.delay_seconds(n, 1.0, None) for n in (1, 2, 3, 4, 5, 9_999)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.0,
        1.0,
    ]
    assert policy.delay_seconds(5, 0.0, None) == 0
    assert policy.delay_seconds(5, 0.0, 3.0) == 3.0
    assert 3.0 < policy.delay_seconds(5, 0.9, 3.0) < 4.5


def test_only_the_newest_users_are_remembered() -> None:
    """The bound holds, an older coordinate never replaces a newer one, and 0 remembers nobody."""
    tokens = ReadTokens(2)
    for user in ("ann", "bob", "ann", "carol"):
        tokens.remember(user, Coordinates("east-1.events", 0, 5, 1))
    tokens.remember("ann", Coordinates("east-1.events", 0, 4, 9))
    tokens.remember("ann", Coordinates("west-1.events", 0, 1, 0))
    assert tokens.of("bob") == ()
    assert [(c.log, c.offset) for c in tokens.of("ann")] == [("east-1.events", 5), ("west-1.events", 1)]
    nobody = ReadTokens(0)
    nobody.remember("ann", Coordinates("east-1.events", 0, 5, 1))
    assert nobody.of("ann") == () and nobody.of(None) == ()


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1313035144270, "2011-08-11T03:59:04.270Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_rfc_3339_with_milliseconds(time_ms: int, text: str) -> None:
    """Not a millisecond is lost, also before 1970."""
    assert rfc3339(time_ms) == text
