"""Stop asking what keeps failing."""

from collections import OrderedDict
from collections.abc import Callable
from math import inf

from mcp_proxy.core.call import Call, Delivery, Reply
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.errors import (
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.circuit import Circuit, Limits, Ticket

# Seconds until it is worth to ask again while the target is away: the monitor looks for it every
# second and closes its circuit, so that nobody need wait until the circuit is probed.
_AWAY = 5.0
# Tool names come from callers. The least recently used circuits are forgotten beyond this.
_CIRCUITS_LIMIT = 1000


class Breaker:
    """Guard the target's connections and each tool's answers with circuits of their own.

    A dead tool does not trouble its neighbours, and a server that cannot be reached is no fault
    of a tool. Failures of the connect phase count for the target; failures after sending count
    for the tool, or the JSON-RPC method that is no tool call. Departures, 4xx, 429 and failed
    tools are neutral, except that any answer to a probe proves life.
    """

    def __init__(
        self,
        target: str,
        limits: Limits,
        clock: Clock,
        emit: Emit,
        *,
        opened: Callable[[bool], None],
        rng: Callable[[], float],
        deadline: float,
        among: str = "",
    ) -> None:
        self._limits = limits
        self._opened = opened  # told of each opening: is it the target's own circuit?
        self._clock = clock
        self._emit = emit
        self._rng = rng
        self._deadline = deadline  # seconds; see _departed
        self._among = among  # what tells the tools of one target from those of another
        self._target = self._new(f"target {target}", _AWAY)
        self._circuits: OrderedDict[str, Circuit] = OrderedDict()

    def _new(self, name: str, patience: float = inf) -> Circuit:
        return Circuit(name, self._limits, self._clock, self._rng, self._changed, patience=patience)

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on if the circuits allow it, and tell them what came of it."""
        target, tool = self._target, self._of(call)
        to_target = target.enter()
        try:
            to_tool = tool.enter() if tool else None
            try:
                return await self._tried(call, forward, to_target, tool, to_tool)
            finally:
                if tool and to_tool:
                    tool.leave(to_tool)
        finally:
            target.leave(to_target)

    async def _tried(
        self,
        call: Call,
        forward: Forward,
        to_target: Ticket,
        tool: Circuit | None,
        to_tool: Ticket | None,
    ) -> Reply:
        failed: bool | None = None  # None is neutral
        broken = False
        began = self._clock.now()
        try:
            reply = await forward(call)
        except UpstreamUnreachableError as error:
            self._unreached(to_target, error)
            raise
        except (UpstreamTimeoutError, UpstreamBrokenError) as error:
            failed = True if error.delivered is Delivery.UNKNOWN else None
            broken = isinstance(error, UpstreamBrokenError)
            self._target.record(to_target, failed=False)
            raise
        except ProxyError:
            raise
        except BaseException:
            failed = self._departed(call)
            raise
        else:
            failed = counted(reply.verdict, probe=bool(to_tool and to_tool.probe))
            if failed is False and 0 < self._limits.slow < self._clock.now() - began:
                failed = True  # it works, and so slowly that its callers are better off without it
            self._target.record(to_target, failed=False)
            return reply
        finally:
            if failed is not None and tool and to_tool:
                tool.record(to_tool, failed=failed, broken=broken)

    def _unreached(self, ticket: Ticket, error: UpstreamUnreachableError) -> None:
        if not error.bridged:
            self._target.record(ticket, failed=True)

    def _departed(self, call: Call) -> bool | None:
        """Tell a caller that left (neutral) from a server that outlasted the caller's deadline."""
        return True if self._clock.now() >= call.arrived + self._deadline else None

    def _of(self, call: Call) -> Circuit | None:
        message = call.message
        if message.tool:
            name = (
                f"tool {message.service}/{message.tool}"
                if message.service
                else (f"tool {message.tool}")
            )
        elif message.method:
            name = f"method {message.method}"
        else:
            return None
        name += self._among
        circuit = self._circuits.get(name)
        if circuit is None:
            if len(self._circuits) >= _CIRCUITS_LIMIT:
                self._circuits.popitem(last=False)
            circuit = self._circuits[name] = self._new(name)
        else:
            self._circuits.move_to_end(name)
        return circuit

    def _changed(self, name: str, before: str, after: str) -> None:
        level = "error" if after == "open" else "info"
        self._emit("circuit.state_changed", level, circuit=name, before=before, after=after)
        if after == "open":
            self._opened(name == self._target.name)

    def state(self, call: Call) -> str:
        """Return how the circuits of a call stand: its tool's, unless only the target's is not closed."""
        tool = self._of(call)
        return self._target.state if tool is None or tool.state == "closed" else tool.state

    def lost(self) -> None:
        """Open the target's circuit: its restart took longer than the grace."""
        self._target.trip()

    def returned(self) -> None:
        """Close the target's circuit, and let each open tool prove itself with the next call."""
        self._target.reset()
        for circuit in self._circuits.values():
            circuit.allow_probe()

    def reset(self, name: str | None = None) -> list[str]:
        """Close the circuit of that name, or all; return those that were not closed before.

        Raises KeyError when there is none of that name.
        """
        known = {one.name: one for one in (self._target, *self._circuits.values())}
        meant = list(known.values()) if name is None else [known[name]]
        closed = [one.name for one in meant if one.state != "closed"]
        for one in meant:
            one.reset()
        return closed

    def snapshot(self) -> dict[str, dict[str, object]]:
        """Return the state of each circuit by name."""
        return {
            circuit.name: {
                "state": circuit.state,
                "failures": circuit.failures,
                "opened": circuit.opened,
                "retry_after_s": round(circuit.time_left(), 3) if circuit.state == "open" else None,
            }
            for circuit in (self._target, *self._circuits.values())
        }


def counted(verdict: Verdict, *, probe: bool) -> bool | None:
    """Return whether a verdict is a failure to the circuit; None when it says nothing."""
    if verdict is Verdict.UPSTREAM_FAILED:
        return True
    if verdict is Verdict.OK:
        return False
    # A tool that always answers `isError` would otherwise stay half-open for ever.
    return False if probe and verdict is not Verdict.BUSY else None
