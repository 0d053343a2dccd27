"""The last events, for all who watch them live (DESIGN section 6)."""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from secrets import token_hex

import orjson

from mcp_proxy.core.watching import LEVELS, Seen, Wanted
from mcp_proxy.signals.said import Said


class _Kept:
    __slots__ = ("heard", "said", "text")

    def __init__(self, said: Said) -> None:
        self.said = said
        self.heard = "replica" in said.fields  # another sidecar has told it
        self.text: bytes | None = None  # rendered when somebody watches, once for all


class Events:
    """A ring of the last events, which each watcher reads at its own pace.

    There is no queue for anybody: who is slower than the ring is long has lost what fell out, is told
    how much, and holds up neither a call nor another watcher.
    """

    def __init__(self, size: int, lowest: str, render: Callable[[Said], bytes]) -> None:
        self._ring: deque[_Kept] = deque(maxlen=size)
        self._lowest = LEVELS[lowest]
        self._render = render
        self._waiting: list[asyncio.Future[None]] = []
        self.run = token_hex(4)  # tells this process's numbers from those of another
        self.last = 0  # number of the latest event

    def keep_from(self, level: str) -> None:
        """Keep events of this level and above from now on."""
        self._lowest = LEVELS[level]

    def take(self, said: Said) -> None:
        """Take an event in (a sink of the bus)."""
        if LEVELS[said.level] < self._lowest:
            return
        self.last += 1
        self._ring.append(_Kept(said))
        if self._waiting:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()

    def hear(self, text: bytes) -> None:
        """Take in the JSON text of another sidecar's event; what is none is passed over."""
        try:
            event = orjson.loads(text)
            name, level, when = event.pop("event"), event.pop("level"), event.pop("timestamp")
            said = Said(datetime.fromisoformat(when).timestamp(), level, name, event)
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        if isinstance(name, str) and isinstance(level, str) and level in LEVELS:
            self.take(said)

    def cursor(self, last_event_id: str, replay: int) -> int:
        """Return where a watcher begins who has seen that event, or wants so many of the past.

        An id of another process says that all here is new.
        """
        run, _, number = last_event_id.partition("-")
        if last_event_id:
            known = run == self.run and number.isdecimal() and len(number) <= 18
            return min(int(number), self.last) if known else self.last - len(self._ring)
        return self.last - min(replay, len(self._ring))

    def read(self, cursor: int, wanted: Wanted, most: int) -> Seen:
        """Return what is new after a cursor, at most so many events."""
        oldest = self.last - len(self._ring)  # number of the last one that is gone
        lost = max(0, oldest - cursor)
        cursor = max(cursor, oldest)
        found: list[tuple[str, str, bytes]] = []
        while cursor < self.last and len(found) < most:
            kept = self._ring[cursor - oldest]
            cursor += 1
            said = kept.said
            if wanted.has(said.event, said.level, said.fields.get("tool")):
                number = f"{self.run}-{cursor}"
                found.append((number, said.event, self._text(kept, cursor)))
        return Seen(found, lost, cursor)

    async def upcoming(self, cursor: int, wanted: Wanted, most: int) -> Seen:
        """Return what is new after a cursor (edge/live)."""
        return self.read(cursor, wanted, most)

    # --- for another worker (chorus.py)

    def before(self, moment: float) -> int:
        """Return the number of the last event before the first that we told at a moment or later."""
        oldest = self.last - len(self._ring)
        for place, kept in enumerate(self._ring):
            if not kept.heard and kept.said.when >= moment:
                return oldest + place
        return self.last

    def when(self, event_id: str) -> float | None:
        """Return the moment of one of our events; None where it is none, or gone."""
        run, _, number = event_id.partition("-")
        oldest = self.last - len(self._ring)
        if run != self.run or not number.isdecimal() or len(number) > 18:
            return None
        place = int(number) - oldest - 1
        return self._ring[place].said.when if 0 <= place < len(self._ring) else None

    def moments(self, most: int, until: float, *, heard: bool) -> list[float]:
        """Return when the last events were told, at most so many."""
        told = [
            min(kept.said.when, until)
            for kept in self._ring
            if (heard if kept.heard else kept.said.when <= until)
        ]
        return told[-most:] if most else []

    def excerpt(
        self, cursor: int, wanted: Wanted, most: int, until: float, *, heard: bool
    ) -> tuple[str, int, int, bool, list[tuple[float, int, str, str]]]:
        """Return our run, where to go on, what was lost, whether there is more, and the events.

        Those of other sidecars are heard by each worker; only one of them tells them. Their machines
        have clocks of their own, so they stand at the moment of what we told before them.
        """
        oldest = self.last - len(self._ring)
        lost = max(0, oldest - cursor)
        cursor = max(cursor, oldest)
        found: list[tuple[float, int, str, str]] = []
        moment = 0.0  # of what we told last
        while cursor < self.last and len(found) < most:
            kept = self._ring[cursor - oldest]
            said = kept.said
            if said.when > until and not kept.heard:
                break
            cursor += 1
            moment = moment if kept.heard else said.when
            known = heard or not kept.heard
            if known and wanted.has(said.event, said.level, said.fields.get("tool")):
                found.append((moment, cursor, said.event, self._text(kept, cursor).decode()))
        return self.run, cursor, lost, len(found) == most, found

    def _text(self, kept: _Kept, number: int) -> bytes:
        if kept.text is None:
            name = f"{self.run}-{number}".encode()
            kept.text = b'{"id":"%s",' % name + self._render(kept.said)[1:]
        return kept.text

    async def more(self, cursor: int) -> None:
        """Wait until there is something new after a cursor."""
        if self.last > cursor:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
