"""What operators see and do, of one process or of all workers: health, counts, clear, reset."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcp_proxy import shown
from mcp_proxy.core import scopes
from mcp_proxy.core.clock import Clock, Emit, Spawn
from mcp_proxy.core.place import Place
from mcp_proxy.core.shelf import Shelf
from mcp_proxy.crew import Crew
from mcp_proxy.edge.neighbours import Answer
from mcp_proxy.layers.breaker import Breaker
from mcp_proxy.signals.prometheus import FRESH, Prometheus, Seen
from mcp_proxy.signals.view import Answered, View
from mcp_proxy.stores.board import BoardShelf, Notice


class Operations:
    """Answer operators; with several workers, whoever is asked asks the others too."""

    def __init__(
        self,
        view: Callable[[], View],
        shelf: Shelf | None,
        breakers: Sequence[Breaker],
        crew: Crew | None,
        place: Place | None,
        *,
        clock: Clock,
        emit: Emit,
        command: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """`view` tells what this process knows; `command`, of the server that is one."""
        self._view = view
        self._shelf = shelf
        self._breakers = breakers
        self._crew = crew
        self._place = place
        self._clock = clock
        self._emit = emit
        self._command = command

    # --- what they see

    async def health(self) -> tuple[int, dict[str, Any]]:
        """Return status code and body of `/api/health`."""
        return shown.health(await self._whole(samples=False))

    async def metrics(self) -> dict[str, Any]:
        """Return the body of `/api/metrics`."""
        told = await shown.metrics(await self._whole(samples=True), self._clock.sleep)
        return {**told, "command": self._command()} if self._command else told

    def prometheus(self, spawn: Spawn) -> Prometheus:
        """Return what renders `/metrics`."""
        fresh = FRESH if self._crew is None else 0.0
        return Prometheus(self._seen, self._clock.now, spawn, fresh=fresh)

    async def _seen(self) -> Seen:
        return shown.seen(await self._whole(samples=False))

    async def _whole(self, *, samples: bool) -> View:
        return self._view() if self._crew is None else await self._crew.whole(samples=samples)

    # --- what they do

    async def reset(self, name: str | None) -> list[str]:
        """Close circuits, all by default; raises KeyError when there is none of that name."""
        found = await self._crew.neighbours.ask("reset", name) if self._crew else {}
        closed = [await self._reset_here(name), *found.values()]
        if all(one is None for one in closed):
            raise KeyError(name)
        return sorted({circuit for one in closed for circuit in one or ()})

    async def clear(self, narrowed: Mapping[str, str]) -> dict[str, Any]:
        """Drop stored answers, all by default; return what was dropped."""
        age = float(narrowed.get("older_than", 0.0))
        before = self._clock.epoch() - age if age > 0 else 0.0
        key = narrowed.get("key")
        scope = scopes.narrowed(narrowed.get("service"), narrowed.get("tool"))
        scope = scopes.of_key(key) if key else scope
        # the others count and drop; then they are told for good, with those that did not answer
        found = await self._crew.neighbours.ask("drop", (scope, before)) if self._crew else {}
        cleared: int | None = 0
        if self._shelf is not None:
            work = self._shelf.expire(before) if before else self._shelf.invalidate(scope)
            cleared = await work
        cleared = None if cleared is None else cleared + sum(found.values())
        said = " ".join(f"{name}={value}" for name, value in narrowed.items())
        self._emit("cache.cleared", scope=said or "all", entries=cleared)
        answer = {"cleared": dict(narrowed) or "all", "entries": cleared}
        if self._place is not None:
            answer["workers"] = Answered(self._place.workers, 1 + len(found))._asdict()
        return answer

    # --- what other workers ask for

    @property
    def answers(self) -> dict[str, Answer]:
        """Return what this worker does when another one was asked."""
        return {"drop": self._drop, "reset": self._reset_here}

    async def _reset_here(self, name: str | None) -> list[str] | None:
        """Close circuits of this process; return None when there is none of that name."""
        breakers = self._breakers
        if name is not None:
            breakers = [one for one in breakers if name in one.snapshot()]
            if not breakers:
                return None
        return [closed for one in breakers for closed in one.reset(name)]

    async def _drop(self, said: Any) -> int:
        """Drop what another worker clears; return how many."""
        scope, before = said
        shelf = self._shelf
        notice = Notice(scope, before=before, told=True)  # one that says whether Redis is follows
        return shelf.hear(notice) if isinstance(shelf, BoardShelf) else 0
