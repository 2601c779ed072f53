"""Meridian's client library for upstream apps: publish events, ask for rankings.

    async with MeridianClient(["http://127.0.0.1:8080"], source="/apps/shop") as client:
        answer = await client.search("ann", "usb cable")
        await client.publish([Click(user="ann", item=answer.items[0], ranking=answer.ranking_id, position=1)])
        again = await client.search("ann", "usb cable")  # knows the click

It needs aiohttp and msgspec, and nothing else of this project: every import inside is relative.
"""

from .answers import Accepted, Coordinates, Outcome, Ranking, Refused, Unknown
from .client import MeridianClient
from .clock import Clock, SystemClock
from .errors import (
    AnswerTooLate,
    BadAddress,
    BadAnswer,
    BadReceipt,
    Busy,
    CallerError,
    ClientClosed,
    GatewayUnavailable,
    IdReused,
    MeridianError,
    OutboxFull,
    Problem,
    RequestRefused,
    StaleAnswer,
    TryAgain,
)
from .events import Body, Cart, Click, Event, Feedback, Impression, Item, Purchase, Search, View
from .receipts import MissingRange, Receipt
from .retry import RetryPolicy
from .settings import ClientSettings

__all__ = [
    "Accepted",
    "AnswerTooLate",
    "BadAddress",
    "BadAnswer",
    "BadReceipt",
    "Body",
    "Busy",
    "CallerError",
    "Cart",
    "Click",
    "ClientClosed",
    "ClientSettings",
    "Clock",
    "Coordinates",
    "Event",
    "Feedback",
    "GatewayUnavailable",
    "IdReused",
    "Impression",
    "Item",
    "MeridianClient",
    "MeridianError",
    "MissingRange",
    "OutboxFull",
    "Outcome",
    "Problem",
    "Purchase",
    "Ranking",
    "Receipt",
    "Refused",
    "RequestRefused",
    "RetryPolicy",
    "Search",
    "StaleAnswer",
    "SystemClock",
    "TryAgain",
    "Unknown",
    "View",
]
