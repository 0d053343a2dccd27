"""The events of all workers as one stream, whichever of them is watched.

Nothing is sent while nobody watches. A watcher is shown, round by round, what all workers have told up
to one moment, in the order of time: they share a clock, and an event is in the ring of whoever tells it
in the step that says when. So an event's id says how far all of them were seen, and a stream that has
broken off is taken up at any worker without a gap, and without telling anything twice.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcp_proxy.core.clock import Clock
from mcp_proxy.core.watching import Seen, Wanted
from mcp_proxy.edge.neighbours import Neighbours
from mcp_proxy.signals.events import Events

# Seconds after which the others are asked, though nothing has happened here.
_ROUND = 0.25


class _Told(NamedTuple):
    """An event of some worker."""

    when: float
    worker: int
    number: int
    id: str
    name: str
    text: str


@dataclass(slots=True)
class Position:
    """How far a watcher has seen each worker."""

    last_event_id: str = ""
    replay: int = 0
    since: float | None = None  # where all begin; None: it has to be found
    seen: dict[int, tuple[str, int]] = field(default_factory=dict)  # by worker: run and number
    until: dict[int, float] = field(default_factory=dict)  # by worker: the moment of that
    own: int = 0  # number of this worker's last event by then
    full: bool = False  # there is more at once


class Chorus:
    """Show the events of all workers (edge/live)."""

    def __init__(self, events: Events, neighbours: Neighbours, clock: Clock) -> None:
        self._events = events
        self._neighbours = neighbours
        self._clock = clock

    def cursor(self, last_event_id: str, replay: int) -> Position:
        """Return where a watcher begins who has seen that event, or wants so many of the past."""
        begins_now = not last_event_id and not replay
        return Position(last_event_id, replay, self._clock.epoch() if begins_now else None)

    async def upcoming(self, cursor: Position, wanted: Wanted, most: int) -> Seen:
        """Return what all have told since; the same cursor goes on from there."""
        until = self._clock.epoch()
        if cursor.since is None:
            await self._begin(cursor, until)
        asked = {
            "until": until,
            "most": most,
            "wanted": (list(wanted.types), list(wanted.tools), wanted.lowest),
            "from": {
                index: (*cursor.seen.get(index, ("", 0)), cursor.until.get(index, cursor.since))
                for index in range(self._neighbours.place.workers)
            },
        }
        found = await self._all("events", asked)
        return self._merged(cursor, found, until)

    def _merged(self, cursor: Position, found: dict[int, Any], until: float) -> Seen:
        told, lost = [], 0
        for index, (run, number, missing, full, events) in found.items():
            rows = [
                _Told(when, index, n, f"{run}-{n}", name, text) for when, n, name, text in events
            ]
            if full:  # the others are shown as far only
                until = min(until, rows[-1].when)
            told += rows
            lost += missing
            cursor.seen[index] = (run, number)
        shown = sorted(one for one in told if one.when <= until)
        for late in sorted((one for one in told if one.when > until), reverse=True):
            cursor.seen[late.worker] = (cursor.seen[late.worker][0], late.number - 1)
        cursor.until |= dict.fromkeys(found, until)
        cursor.full = any(full for *_, full, _ in found.values())
        cursor.own = self._events.last
        return Seen([(one.id, one.name, one.text.encode()) for one in shown], lost, cursor)

    async def _begin(self, cursor: Position, until: float) -> None:
        """Find the moment at which to begin."""
        if cursor.last_event_id:
            asked = {"id": cursor.last_event_id}
            moments = [one for one in (await self._all("when", asked)).values() if one is not None]
            cursor.since = min(moments, default=0.0)
            if moments:  # of its own worker it is known exactly
                run, _, number = cursor.last_event_id.partition("-")
                for index, own in (await self._all("run", None)).items():
                    if own == run:
                        cursor.seen[index] = (run, int(number))
            return
        past = await self._all("past", {"most": cursor.replay, "until": until})
        moments = sorted((when for one in past.values() for when in one), reverse=True)
        kept = moments[: cursor.replay]
        cursor.since = kept[-1] if kept else until

    async def _all(self, what: str, said: Any) -> dict[int, Any]:
        own = self._neighbours.place.index
        found = await self._neighbours.ask(what, said)
        return {**found, own: await self.answers[what](said, own=True)}

    async def more(self, cursor: Position) -> None:
        """Wait until there may be something new."""
        if cursor.full:
            return
        with suppress(TimeoutError):
            async with self._clock.timeout(_ROUND):
                await self._events.more(cursor.own)

    # --- what the others ask

    @property
    def answers(self) -> dict[str, Any]:
        """Return what answers which question of a worker."""
        return {"events": self._excerpt, "when": self._when, "run": self._run, "past": self._past}

    async def _excerpt(self, said: Any, *, own: bool = False) -> Any:
        run, number, since = said["from"][str(self._here) if not own else self._here]
        types, tools, lowest = said["wanted"]
        wanted = Wanted(frozenset(types), frozenset(tools), lowest)
        events = self._events
        after = number if run == events.run else events.before(since)
        return events.excerpt(after, wanted, said["most"], said["until"], heard=own)

    async def _when(self, said: Any, *, own: bool = False) -> float | None:  # noqa: ARG002 - a port
        return self._events.when(said["id"])

    async def _run(self, said: Any, *, own: bool = False) -> str:  # noqa: ARG002 - a port
        return self._events.run

    async def _past(self, said: Any, *, own: bool = False) -> list[float]:
        return self._events.moments(said["most"], said["until"], heard=own)

    @property
    def _here(self) -> int:
        return self._neighbours.place.index
