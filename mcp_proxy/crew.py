"""All workers of one sidecar, seen from one of them: whoever is asked speaks for all."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from mcp_proxy.chorus import Chorus
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.place import Place
from mcp_proxy.edge.mail import Owing
from mcp_proxy.edge.neighbours import Answer, Neighbours
from mcp_proxy.moves import Moves
from mcp_proxy.signals import view as views
from mcp_proxy.signals.events import Events
from mcp_proxy.signals.prometheus import of_this_process
from mcp_proxy.signals.view import Answered, View
from mcp_proxy.upstream.sessions import Sessions

# Seconds between two reports that nobody asked for: what a worker counted since is lost if it is killed.
_PERIOD = 1.0


class Crew:
    """Know the other workers, and what those that have died had counted.

    Before a worker tells its counts to anybody it writes them down. So whoever speaks for it after its
    death tells no less than it did, and the worker that takes its place counts on from there: no
    counter ever goes backwards.
    """

    def __init__(
        self,
        place: Place,
        clock: Clock,
        spawn: Spawn,
        view: Callable[[], View],
    ) -> None:
        self._answers: dict[str, Answer] = {"report": self._report}
        self.neighbours = Neighbours(place, clock, spawn, self._answers)
        self._place = place
        self._clock = clock
        self._view = view
        self._base: dict[str, Any] | None = None  # what was counted here before
        self._turn = asyncio.Lock()

    def answer(self, answers: Mapping[str, Answer]) -> None:
        """Answer the others so, too, by what they ask for."""
        self._answers |= answers

    def chorus(self, events: Events) -> Chorus:
        """Return the events of all workers."""
        chorus = Chorus(events, self.neighbours, self._clock)
        self.answer(chorus.answers)
        return chorus

    def moves(self, sessions: Sessions) -> Moves:
        """Return what keeps the workers at one about sessions."""
        moves = Moves(sessions, self.neighbours, self._clock)
        self.answer(moves.answers)
        return moves

    async def home(self, said: str) -> str | None:
        """Return the target of a session or a legacy stream, if another worker knows it."""
        found = (await self.neighbours.ask("home", said)).values()
        return next((one for one in found if one is not None), None)

    async def posted(self, owing: Owing) -> None:
        """Let whoever has the stream know that it owes an answer, or does not any more."""
        await self.neighbours.ask("posted", tuple(owing))

    async def open(self) -> None:
        """Take over what was counted here before, and answer the others. Raises OSError."""
        self._base = await asyncio.to_thread(self._read, self._place.index)
        await self.neighbours.listen()

    async def run(self) -> None:
        """Write down the counts now and then, for ever."""
        while True:
            await self._clock.sleep(_PERIOD)
            await self._report(samples=False)

    async def whole(self, *, samples: bool) -> View:
        """Return what all workers know; `samples` are what percentiles are made of."""
        own, found = await asyncio.gather(
            self._report(samples=samples), self.neighbours.ask("report", samples)
        )
        silent = [index for index in self._place.others if index not in found]
        last = [await asyncio.to_thread(self._read, index) for index in silent]
        reports = [own, *found.values(), *[one for one in last if one is not None]]
        view = await views.together(reports, self._clock.sleep)
        return views.counting(view, Answered(self._place.workers, 1 + len(found)))

    async def _report(self, samples: bool) -> dict[str, Any]:  # noqa: FBT001 - a port
        async with self._turn:  # or an older one could be written over a newer one
            sleep = self._clock.sleep
            own = await views.report(self._view(), sleep, samples=samples)
            own["process"] = of_this_process()
            if self._base is not None:
                both = await views.together([own, self._base], sleep)
                own = await views.report(both, sleep, samples=samples)
            await asyncio.to_thread(self._write, orjson.dumps(views.past(own), option=_KEYS))
            return own

    def _path(self, index: int) -> Path:
        return Path(self._place.room) / f"{index}.counts"

    def _write(self, text: bytes) -> None:
        new = self._path(self._place.index).with_suffix(".new")
        with suppress(OSError):  # no room left: what was written before stands
            new.write_bytes(text)
            new.replace(self._path(self._place.index))

    def _read(self, index: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = orjson.loads(self._path(index).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    async def aclose(self) -> None:
        """Answer no more."""
        await self.neighbours.aclose()


_KEYS = orjson.OPT_NON_STR_KEYS
