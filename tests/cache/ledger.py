"""What was finished, and on which replica it binds from when on: the oracle's memory.

A replica that invalidates sees it at once. Another hears of it within `lag` seconds after Redis was
told, and without Redis keeps silent: what was kept longer than `lag` ago is not told. Redis is not
told while it refuses, nor for a second after; then the replica owes everybody a new token, and pays
before it next names an edition. So does one that has just started, or missed any other answer.
"""

from collections import Counter
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from tests.cache.operations import CALLERS, THINGS
from tests.fakes import FakeClock

# For so long a Redis that refused something is not asked, nor told (stores/redis).
PAUSE = 1.0  # seconds


@dataclass(slots=True, eq=False)
class Finished:
    """A write, a clear or a refusal to serve, that somebody saw finished."""

    at: int  # which replica
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
        self._cut_off: dict[int, float] = {}  # since when it is refused all

    # --- what is finished

    def finish(
        self, at: int, version: int = 0, who: set[str] | None = None, what: set[str] | None = None
    ) -> Finished:
        """Note what a replica's caller has just seen finished."""
        heard = inf if self.misses(at) else self._clock.now()
        made = Finished(at, heard, who or set(CALLERS), what or set(THINGS), version)
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
            self._cut_off.get(at, inf) + self._lag <= self._clock.now(),
        )

    def _binds(self, one: Finished, at: int) -> bool:
        if one.at == at or one.heard + self._lag <= self._clock.now():
            return True
        if one.quarantine:  # no other's token says so
            return False
        return at in self._owing or one in self._finished[: self._paid.get(at, 0)]

    # --- what becomes of telling Redis

    def start(self, at: int) -> None:
        """Note that a replica starts with Redis: it may have missed something."""
        self._owing.add(at)

    def cut_off(self, at: int, *, yes: bool) -> None:
        """Note that from now on Redis refuses a replica all, or not all."""
        if yes:
            self._cut_off.setdefault(at, self._clock.now())
        else:
            self._cut_off.pop(at, None)

    def refuse(self, at: int) -> None:
        """Note that Redis has refused a replica something."""
        self._met_trouble[at] = self._clock.now()
        self._refusals[at] += 1
        self._owing.add(at)

    def misses(self, at: int) -> bool:
        """Tell whether Redis may miss what this replica says."""
        return self._clock.now() < self._met_trouble.get(at, -inf) + PAUSE

    def asks(self, at: int) -> tuple[int, int]:
        """Return what is true when a replica asks Redis for the edition."""
        return len(self._finished), self._refusals[at]

    def named(self, at: int, before: tuple[int, int]) -> None:
        """Note that Redis has named the edition: if a token was owed, it has the new one."""
        finished, refusals = before
        if refusals == self._refusals[at] and at in self._owing:
            self._owing.discard(at)
            self._paid[at] = finished
            for one in self._finished[:finished]:
                if one.at == at or not one.quarantine:
                    one.heard = min(one.heard, self._clock.now())
