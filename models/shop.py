"""A made-up shop: a catalogue and a log of searches and clicks, drawn from one seed.

It stands in where no real log may be used (training the shipped model, demos, tests), so it has the traits that make
ranking hard in real logs: Zipf popularity that drifts because items are launched and fade, queries that several
items share (a series and its editions), words that users say and titles do not, typos, cut-off words, clicks drawn
to what the shop showed first, users with tastes, sessions in which one search leads to the next.

Everything comes from `numpy.random.Generator(PCG64(seed))` in a fixed order: the same settings give the same shop on
every machine. The words are built from syllables and mean nothing.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.records import ItemRecord, OutcomeKind, SearchRecord, Source
from models.typos import mistyped

DAY_MS: Final = 86_400_000
STEP_MS: Final = DAY_MS // 4
_ONSETS: Final = [
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "v",
]
_VOWELS: Final = ["a", "e", "i", "o", "u", "ai", "ea", "oo"]
_CODAS: Final = ["", "", "l", "n", "r", "s", "t", "ck", "nd"]
_EDITIONS: Final = ["Limited Edition", "Collector's Edition", "Gold", "Bundle", "Pro", "Mini", "with Case"]
_PLATFORMS: Final = ["Alpha 360", "Nova 3", "Piko", "Desktop"]


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of shop to make."""

    seed: int
    items: int = 500
    searches: int = 20_000
    users: int = 15_000
    days: int = 60
    start_ms: int = 1_735_689_600_000
    """2025-01-01."""
    zipf_exponent: float = 1.0
    launches_share: float = 0.4
    """Share of the items that come out while the log runs."""
    focus: float = 0.75
    """How often a user clicks what they came for rather than what they were shown."""
    stray_share: float = 0.05
    """How often a click has nothing to do with the query: something popular that was seen on the way."""
    typo_share: float = 0.07
    follow_up_share: float = 0.2
    """How often a search is followed by another one of the same session."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """One item and how people ask for it."""

    record: ItemRecord
    series: int
    queries: tuple[str, ...]
    query_weights: npt.NDArray[np.float64]
    launch_ms: float
    fade_days: float


class _Words:
    """Words from syllables, each made once."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._seen: set[str] = set()

    def word(self, syllables: int = 0) -> str:
        """A word that was not made before; a longer one than asked for once the short ones are used up."""
        for attempt in itertools.count():
            count = (syllables or int(self._rng.integers(1, 4))) + attempt // 8
            word = "".join(
                self.pick(_ONSETS) + self.pick(_VOWELS) + (self.pick(_CODAS) if n == count - 1 else "")
                for n in range(count)
            )
            if len(word) >= 3 and word not in self._seen:
                self._seen.add(word)
                return word
        raise AssertionError("unreachable: words only get longer")

    def pick(self, choices: Sequence[str]) -> str:
        """One of the choices, evenly."""
        return choices[int(self._rng.integers(len(choices)))]


class _Maker:
    """Draws the catalogue."""

    def __init__(self, settings: ShopSettings, rng: np.random.Generator) -> None:
        self._settings = settings
        self._rng = rng
        self._words = _Words(rng)
        self._categories = [self._words.word(2) for _ in range(max(3, settings.items // 60))]
        self._common = [self._words.word(2) for _ in range(40)]

    def things(self) -> list[_Thing]:
        made: list[_Thing] = []
        series = 0
        while len(made) < self._settings.items:
            made += self._series(series, len(made))
            series += 1
        return made[: self._settings.items]

    def _series(self, series: int, first: int) -> list[_Thing]:
        """A name and its parts: sequels, subtitles, editions."""
        rng, words = self._rng, self._words
        name = [words.word() if rng.random() < 0.7 else words.pick(self._common) for _ in range(rng.integers(1, 4))]
        category = words.pick(self._categories)
        nickname = words.word(1) if rng.random() < 0.3 else "".join(word[0] for word in name)
        size = 1 + min(int(rng.geometric(0.35)), 8) - (rng.random() < 0.4)
        return [self._thing(series, first + n, n, name, nickname, category) for n in range(max(size, 1))]

    def _thing(self, series: int, number: int, part: int, name: list[str], nickname: str, category: str) -> _Thing:
        rng, words = self._rng, self._words
        settings = self._settings
        digit = str(part + 1) if part and rng.random() < 0.6 else ""
        subtitle = [words.word() for _ in range(rng.integers(1, 3))] if rng.random() < 0.4 else []
        edition = words.pick(_EDITIONS) if part and rng.random() < 0.4 else ""
        head = " ".join(name + ([digit] if digit else []))
        title = (
            head.title() + (": " + " ".join(subtitle).title() if subtitle else "") + (f" {edition}" if edition else "")
        )
        launched = rng.random() < settings.launches_share
        launch_day = rng.uniform(0, settings.days) if launched else -rng.exponential(40)
        launch_ms = settings.start_ms + launch_day * DAY_MS
        short = nickname + digit
        queries = [" ".join(name), head, short, f"{head} {' '.join(subtitle)}".strip(), title.lower(), category]
        queries += [" ".join(subtitle) or name[0], f"{' '.join(name)} {words.pick(_PLATFORMS).lower()}", name[-1]]
        weights = rng.dirichlet(np.array([3.0, 2.5, 1.2, 1.2, 0.4, 0.3, 0.8, 0.3, 0.4]))
        record = ItemRecord(
            time_ms=int(max(settings.start_ms, launch_ms - 14 * DAY_MS)),
            item=f"{1_000_000 + number * 7919 % 9_000_000}",
            title=title,
            category=category,
            price=round(float(np.exp(rng.normal(3.2, 0.8))), 2),
            attributes={"brand": name[0], "platform": words.pick(_PLATFORMS)},
            stock=int(rng.integers(5, 200)),
        )
        return _Thing(record, series, tuple(queries), weights / weights.sum(), launch_ms, float(rng.uniform(4, 25)))


class _Crowd:
    """Draws who searches for what, and what they click."""

    def __init__(self, settings: ShopSettings, rng: np.random.Generator, things: list[_Thing]) -> None:
        self._settings = settings
        self._rng = rng
        self._things = things
        order = rng.permutation(len(things)) + 1.0
        self._base = order**-settings.zipf_exponent
        self._launch = np.array([thing.launch_ms for thing in things])
        self._fade = np.array([thing.fade_days for thing in things]) * DAY_MS
        self._visible = np.array([thing.record.time_ms for thing in things], np.float64)
        self._series = np.array([thing.series for thing in things])
        self._partner = rng.permutation(int(self._series.max()) + 1)
        categories = sorted({thing.record.category for thing in things})
        self._category = np.array([categories.index(thing.record.category) for thing in things])
        self._step = -1
        self._popularity = np.zeros(0)
        self._cumulated = np.zeros(0)

    def _now(self, time_ms: int) -> None:
        """Popularity of the moment: a ramp before an item's launch, a peak, then fading to its long tail."""
        step = time_ms // STEP_MS
        if step == self._step:
            return
        self._step = step
        age = float(time_ms) - self._launch
        rising = np.exp(np.minimum(age, 0) / (4 * DAY_MS))
        fading = 0.15 + 0.85 * 0.5 ** (np.maximum(age, 0) / self._fade)
        self._popularity = self._base * rising * fading * (self._visible <= time_ms)
        self._cumulated = np.cumsum(self._popularity)

    def _draw(self, user_number: int) -> int:
        """An item that this user comes for: what is popular, more often from the user's favourite category."""
        total = self._cumulated[-1]
        favourite = user_number % (int(self._category.max()) + 1)
        for _ in range(3):
            drawn = int(np.searchsorted(self._cumulated, self._rng.random() * total, side="right"))
            drawn = min(drawn, len(self._things) - 1)
            if self._category[drawn] == favourite or self._rng.random() < 0.5:
                break
        return drawn

    def _related(self, wanted: int) -> int:
        """An item of the series that people of this one look at next, or of the same series."""
        series = self._series[wanted] if self._rng.random() < 0.4 else self._partner[self._series[wanted]]
        return self._weighted(np.flatnonzero(self._series == series), 0.0, wanted)

    def _weighted(self, members: npt.NDArray[np.int64], bias: float, fallback: int) -> int:
        """One of `members` by popularity; with a bias, the more often the higher the shop shows it."""
        weight = self._popularity[members]
        if bias:
            weight = weight * (1.0 + np.argsort(np.argsort(-weight))) ** -bias
        total = weight.sum()
        if total <= 0:
            return fallback
        return int(members[min(np.searchsorted(np.cumsum(weight), self._rng.random() * total), len(members) - 1)])

    def _query(self, wanted: int) -> str:
        thing = self._things[wanted]
        query = thing.queries[int(np.searchsorted(np.cumsum(thing.query_weights[:-1]), self._rng.random()))]
        chance = self._rng.random()
        if chance < self._settings.typo_share:
            query = mistyped(query, self._rng)
        elif chance < self._settings.typo_share + 0.04 and len(query) > 6:
            query = query[: int(self._rng.integers(4, len(query)))].strip()
        elif chance < 0.3:
            query = query.title()
        return query

    def _clicked(self, wanted: int) -> tuple[int, int]:
        """What is clicked, and at which place the shop had shown it."""
        mates = np.flatnonzero((self._series == self._series[wanted]) & (self._popularity > 0))
        chance = self._rng.random()
        if chance < self._settings.stray_share:
            clicked = self._draw(wanted)
        elif chance >= self._settings.focus:
            clicked = self._weighted(mates, 0.7, wanted)
        else:
            clicked = wanted
        shown = mates[np.argsort(-self._popularity[mates], kind="stable")]
        place = np.flatnonzero(shown == clicked)
        return clicked, int(place[0]) + 1 if len(place) else 1

    def searches(self) -> list[SearchRecord]:
        settings, rng = self._settings, self._rng
        made: list[SearchRecord] = []
        for session, start_ms in enumerate(self._times()):
            user_number = int(settings.users * rng.random() ** 1.6)
            time_ms, wanted = start_ms, -1
            while len(made) < settings.searches:
                self._now(time_ms)
                wanted = self._draw(user_number) if wanted < 0 else self._related(wanted)
                clicked, place = self._clicked(wanted)
                chance = rng.random()
                outcome: OutcomeKind = "purchase" if chance < 0.05 else "cart" if chance < 0.15 else "click"
                made.append(
                    SearchRecord(
                        index=0,
                        time_ms=time_ms,
                        user=f"user-{user_number}",
                        query=self._query(wanted),
                        session=f"session-{session}",
                        clicked=self._things[clicked].record.item,
                        click_time_ms=time_ms + int(rng.exponential(25_000)) + 2_000,
                        position=place,
                        outcome=outcome,
                    )
                )
                if rng.random() >= settings.follow_up_share:
                    break
                time_ms += int(rng.exponential(60_000)) + 5_000
        made.sort(key=lambda search: search.time_ms)
        return [msgspec.structs.replace(search, index=place) for place, search in enumerate(made)]

    def _times(self) -> list[int]:
        """Session starts: as many as searches are wanted (follow-ups make it fewer), fewer of them at night."""
        settings, rng = self._settings, self._rng
        wanted = int(settings.searches * (1 - settings.follow_up_share)) + 16
        day = rng.random(wanted) * settings.days
        hour = (np.floor(day) + np.clip(rng.normal(0.6, 0.22, wanted), 0, 0.999)) % settings.days
        return [settings.start_ms + int(moment * DAY_MS) for moment in np.sort(hour)]


def _changes(settings: ShopSettings, rng: np.random.Generator, things: list[_Thing]) -> list[ItemRecord]:
    """Later versions of some entries: a lower price, or sold out and restocked."""
    changes: list[ItemRecord] = []
    end_ms = settings.start_ms + settings.days * DAY_MS
    for thing in things:
        record = thing.record
        when_ms = int(rng.uniform(record.time_ms, end_ms))
        chance = rng.random()
        if chance < 0.1 and record.price is not None:
            changes.append(msgspec.structs.replace(record, time_ms=when_ms, price=round(record.price * 0.8, 2)))
        elif chance < 0.15:
            changes.append(msgspec.structs.replace(record, time_ms=when_ms, stock=0))
            changes.append(msgspec.structs.replace(record, time_ms=when_ms + DAY_MS))
    return changes


def generate(settings: ShopSettings) -> Source:
    """Make a shop: its catalogue (with later changes) and its searches, in order of time."""
    rng = np.random.Generator(np.random.PCG64(settings.seed))
    things = _Maker(settings, rng).things()
    items = [thing.record for thing in things] + _changes(settings, rng, things)
    items.sort(key=lambda entry: (entry.time_ms, entry.item))
    return Source(name=f"shop-{settings.seed}", items=items, searches=_Crowd(settings, rng, things).searches())
