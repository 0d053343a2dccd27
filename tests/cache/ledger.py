"""What was finished, and on which replica it binds from when on: the oracle's memory.

A replica that invalidates sees it at once. Another hears of it within `lag` seconds after Redis was
told, and without Redis keeps silent: what was kept longer than `lag` ago is not told. Redis is not
told while it refuses, nor for a second after; then the replica owes everybody a new token, and pays
before it next reads an edition, or soon after Redis has relented, though nobody reads. One that has
just started, or was refused anything else, owes a token as well, and pays before it reads.
"""

from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from tests.cache.operations import CALLERS, THINGS
from tests.fakes import FakeClock

# For so long a Redis that refused something is not asked, nor told (stores/redis).
PAUSE = 1.0  # seconds
# What it has missed it is told once in so many seconds, if it is not let rest just then.
SOON = 2 * PAUSE


@dataclass(slots=True, eq=False)
class Finished:
    """A write, a clear or a refusal to serve, that somebody saw finished."""

    at: int  # which replica
    when: float
    heard: float  # when all replicas could hear of it
    who: set[str]
    what: set[str]
    version: int = 0  # what all answers must show
    since: float = 0.0  # the moment at which a stored one must have been given at the earliest
    late: int = 0  # what stored answers must show, as none may be stored in quarantine
    quarantine: bool = False


class Floors(NamedTuple):
    """What binds an answer, at the moment at which it is asked for."""

    seen: int
    kept: int  # for a stored one: the version
    since: float  # for a stored one: when it was given
    latest: int  # what it must see if no replica were ever behind
    silent: bool  # whether nothing that is kept may be told


class Ledger:
    """Remember what was finished, and what became of telling Redis."""

    def __init__(self, clock: FakeClock, lag: float) -> None:
        self._clock = clock
        self._lag = lag
        self._finished: list[Finished] = []
        self._met_trouble: dict[int, float] = {}  # when Redis last refused a replica something
        self._refusals: Counter[int] = Counter()
        self._owing: set[int] = set()
        self._paid: dict[int, int] = {}  # how much was finished when it last paid
        self._refused: dict[int, tuple[str, float]] = {}  # what, and since when

    # --- what is finished

    def finish(
        self, at: int, version: int = 0, who: set[str] | None = None, what: set[str] | None = None
    ) -> Finished:
        """Note what a replica's caller has just seen finished."""
        now = self._clock.now()
        made = Finished(
            at,
            now,
            inf if self._misses(at) else now,
            who or set(CALLERS),
            what or set(THINGS),
            version,
        )
        self._finished.append(made)
        return made

    def floors(self, who: str, what: str, at: int) -> Floors:
        """Return what binds an answer that is asked for now."""
        known = [one for one in self._finished if who in one.who and what in one.what]
        binding = [one for one in known if self._binds(one, at)]
        return Floors(
            max((one.version for one in binding), default=0),
            max((one.late for one in binding), default=0),
            max((one.since for one in binding), default=0.0),
            max((one.version for one in known), default=0),
            self._is("all", at) + self._lag <= self._clock.now(),
        )

    def _is(self, what: str, at: int) -> float:
        """Return since when this is refused a replica, and nothing else."""
        refused, since = self._refused.get(at, ("nothing", 0.0))
        return since if refused == what else inf

    def _binds(self, one: Finished, at: int) -> bool:
        if one.at == at or min(one.heard, self._told(one)) + self._lag <= self._clock.now():
            return True
        if one.quarantine:  # no other's token says so
            return False
        return at in self._owing or one in self._finished[: self._paid.get(at, 0)]

    def _told(self, one: Finished) -> float:
        """Return when Redis has been told, at the latest, of what it may have missed."""
        trouble = self._met_trouble.get(one.at, 0.0)
        return max(one.when, trouble, self._is("nothing", one.at)) + SOON

    # --- what becomes of telling Redis

    def start(self, at: int) -> None:
        """Note that a replica starts with Redis: it may have missed something."""
        self._owing.add(at)

    def refuse(self, at: int, what: str) -> None:
        """Note what Redis refuses a replica from now on."""
        if what != self._refused.get(at, ("nothing", 0.0))[0]:
            self._refused[at] = (what, self._clock.now())

    def refused(self, at: int) -> None:
        """Note that Redis has refused a replica something."""
        self._met_trouble[at] = self._clock.now()
        self._refusals[at] += 1
        self._owing.add(at)

    def _misses(self, at: int) -> bool:
        """Tell whether Redis may miss what this replica says."""
        return self._clock.now() < self._met_trouble.get(at, -inf) + PAUSE

    def pays(self, at: int) -> tuple[int, int]:
        """Return what is true when a replica begins to pay."""
        return len(self._finished), self._refusals[at]

    def paid(self, at: int, before: tuple[int, int]) -> None:
        """Note that Redis has the new token, which makes all void that was finished before."""
        finished, refusals = before
        if refusals == self._refusals[at] and at in self._owing:
            self._owing.discard(at)
            self._paid[at] = finished
            for one in self._finished[:finished]:
                if one.at == at or not one.quarantine:
                    one.heard = min(one.heard, self._clock.now())
