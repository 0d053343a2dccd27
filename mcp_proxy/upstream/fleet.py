"""Is one of several servers there? Their presences, told as one."""

import asyncio
from collections.abc import Mapping

from mcp_proxy.upstream.presence import Presence, State


class Fleet:
    """The targets that stand for one server."""

    def __init__(self, presences: Mapping[str, Presence]) -> None:
        self._presences = presences  # by the target's name

    @property
    def departures(self) -> int:
        """Return how often any of them has gone away."""
        return sum(presence.departures for presence in self._presences.values())

    @property
    def restarting(self) -> bool:
        """Tell whether calls wait for one to return, and none is there."""
        states = {presence.state for presence in self._presences.values()}
        return State.RESTARTING in states and State.PRESENT not in states

    async def returned(self, target: str) -> bool:
        """Wait until a target accepts connections, or any where none is named; False if none will."""
        waited = [self._presences[target]] if target else list(self._presences.values())
        while not any(presence.state is State.PRESENT for presence in waited):
            bridges = [
                bridge
                for bridge in (presence.bridge for presence in waited)
                if isinstance(bridge, asyncio.Future) and not bridge.done()
            ]
            if not bridges:
                return False
            await asyncio.wait(bridges, return_when=asyncio.FIRST_COMPLETED)
        return True
