"""One server behind: the roads to it, and what is known of it."""

import base64
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mcp_proxy.core.addresses import Address
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.metadata import PublicUrl
from mcp_proxy.core.report import Standing
from mcp_proxy.core.spans import of_server
from mcp_proxy.edge.events import Listener
from mcp_proxy.edge.look import Look, fields_in
from mcp_proxy.edge.names import accepts_connections
from mcp_proxy.edge.outbound import Outbound, Wire
from mcp_proxy.edge.pool import Pools
from mcp_proxy.edge.tunnel import Tunnel
from mcp_proxy.layers.breaker import Breaker
from mcp_proxy.layers.chain import Forward, Layer, join
from mcp_proxy.layers.circuit import Limits
from mcp_proxy.layers.clock import Tasks
from mcp_proxy.layers.failover import Load
from mcp_proxy.layers.trace import Spans, TraceTry
from mcp_proxy.settings import Settings
from mcp_proxy.upstream.discovery import Answer, Discovery
from mcp_proxy.upstream.health import Monitor, Probe, Thresholds
from mcp_proxy.upstream.presence import Presence, State

# A target that has just returned gets this share of a full load at first: its caches are cold.
_LEAST_WEIGHT = 0.1


class Common(NamedTuple):
    """What all targets of a sidecar share."""

    settings: Settings
    pools: Pools
    clock: Clock
    tasks: Tasks
    emit: Emit
    pseudonym: str  # our name in Via
    listener: Listener
    came: Callable[["Target"], None]  # told when a target begins to accept connections
    alone: bool  # there is one target only
    spans: Spans | None = None  # where traces go, if they are wanted


class Target:
    """One server: asked through `guarded`, `outbound` or `tunnel`, and watched by `monitor`."""

    def __init__(self, address: Address, common: Common) -> None:
        settings, clock = common.settings, common.clock
        self.address = address
        self.name = address.name
        self.calls, self.streams = Load(), Load()
        self.said: Mapping[str, Any] = {}  # its last health fields
        self._common = common
        self.presence = Presence(
            self._connects,
            settings.upstream.restart_grace,
            clock,
            common.tasks,
            self._presence_changed,
        )
        self._look = Look(
            address.base,
            common.pools.streams,
            settings.upstream.health_interval,
            settings.upstream.own_host,
        )
        self.monitor = Monitor(
            self._probe,
            self.presence,
            clock,
            interval=settings.upstream.health_interval,
            thresholds=Thresholds(settings.upstream.health_fall, settings.upstream.health_rise),
            rng=random.random,
            told=self._health_changed,
        )
        self.discovery = Discovery(self._ask)
        self.breaker = self._breaker() if settings.breaker.enabled else None
        wire = self._wire()
        outbound = Outbound(wire, common.pools, clock, common.listener, self.presence)
        tunnel = Tunnel(wire, common.pools, clock, self.presence, common.listener.answers_changed)
        self._ends = (outbound, tunnel)
        innermost = self._traced()
        self.layers: list[Layer] = [*([self.breaker] if self.breaker else []), *innermost]
        self.guarded: Forward = join(self.layers, outbound)
        self.outbound: Forward = join(innermost, outbound)
        self.tunnel: Forward = join(innermost, tunnel)

    def adopt(self, settings: Settings) -> None:
        """Go on with settings of which reload.LIVE ones may be others."""
        self._common = self._common._replace(settings=settings)
        wire = self._wire()
        for end in self._ends:
            end.adopt(wire)

    # --- how it stands

    @property
    def away(self) -> bool:
        """Tell whether its connections are refused."""
        return self.presence.away

    @property
    def up(self) -> bool:
        """Tell whether it is to be asked: it is not known to be away or unhealthy."""
        return self.monitor.healthy and not self.away

    @property
    def lost(self) -> bool:
        """Tell whether it is away, and for longer than a restart takes."""
        return self.presence.state is State.LOST

    @property
    def weight(self) -> float:
        """Return its share of a full load: less for a while after it has returned."""
        slow_start = self._common.settings.upstream.slow_start
        back = max(self.monitor.recovered, self.presence.since if self.presence.departures else 0)
        if not back or not slow_start:
            return 1.0
        return min(1.0, max(_LEAST_WEIGHT, (self._common.clock.now() - back) / slow_start))

    def standing(self, now: float) -> Standing:
        """Return what the health report says of it."""
        last, wrong = self.monitor.last, self.monitor.last_error
        return Standing(
            target=self.name,
            state=self.presence.state.value,
            for_seconds=now - self.presence.since,
            healthy=self.monitor.healthy and not self.monitor.failures,
            said=self.said,
            probe={
                "healthy": self.monitor.healthy,
                "probe_status": last.status if last else None,
                "probe_error": last.trouble if last else None,
                "probe_age_seconds": round(now - self.monitor.probed, 3) if last else None,
                "failed_probes": self.monitor.failures,
                "next_probe_seconds": round(max(0.0, self.monitor.due - now), 3),
                "last_error": wrong[1] if wrong else None,
                "last_error_age_seconds": round(now - wrong[0], 3) if wrong else None,
                "calls": self.calls.under_way,
                "streams": self.streams.under_way,
            },
        )

    # --- parts, from settings

    def _breaker(self) -> Breaker:
        settings = self._common.settings
        breaker = settings.breaker
        limits = Limits(
            breaker.failure_threshold,
            breaker.recovery_timeout,
            breaker.failure_rate,
            breaker.min_volume,
            breaker.window,
            breaker.slow_call,
        )
        return Breaker(
            self.name,
            limits,
            self._common.clock,
            self._common.emit,
            opened=self._circuit_opened,
            rng=random.random,
            deadline=settings.server.request_timeout,
            among="" if self._common.alone else f" of {self.name}",
        )

    def _traced(self) -> list[Layer]:
        spans = self._common.spans
        if spans is None:
            return []
        circuits = self.breaker.state if self.breaker else None
        return [TraceTry(spans, of_server(self.address), circuits)]

    def _wire(self) -> Wire:
        settings = self._common.settings
        public = settings.server.public_url
        return Wire(
            self.address,
            settings.upstream.connect_timeout,
            settings.server.buffer_limit,
            settings.upstream.streams_limit,
            self._common.pseudonym,
            settings.failures.patterns,
            basic_authorization(self.address),
            settings.upstream.host_header,
            PublicUrl(public, self.address) if public else None,
        )

    # --- what its parts tell each other

    def _circuit_opened(self, own: bool) -> None:  # noqa: FBT001 - a port
        if own:
            self.presence.gone()  # so that its return is noticed, and closes the circuit
        else:
            self.monitor.nudge()  # it may be the server, and not the tool

    def _presence_changed(self, before: State, after: State) -> None:
        level = {State.LOST: "error", State.RESTARTING: "warning"}.get(after, "info")
        if before is State.UNKNOWN and after is State.RESTARTING:
            level = "info"  # both are starting up
        self._tell(level, before.value, after.value, **self._cause(after))
        if after is State.PRESENT:
            self._common.came(self)
        if self.breaker is not None and after is State.LOST:
            self.breaker.lost()
        elif self.breaker is not None and after is State.PRESENT:
            self.breaker.returned()
        if before is not State.UNKNOWN:
            self.monitor.nudge()

    def _health_changed(self, found: Probe) -> None:
        if found.alive:
            self._tell("info", "unhealthy", "healthy")
        else:
            self._tell(
                "error", "healthy", "unhealthy", reason=found.trouble or f"status {found.status}"
            )

    def _cause(self, after: State) -> dict[str, str]:
        """Return why it is lost, if a probe has found out."""
        last = self.monitor.last if after is State.LOST else None
        return {"reason": last.cause} if last is not None and last.cause else {}

    def _tell(self, level: str, before: str, after: str, **more: str) -> None:
        self._common.emit(
            "upstream.state_changed", level, target=self.name, before=before, after=after, **more
        )

    async def _connects(self) -> bool:
        host, _, port = self.address.origin.partition("//")[2].rpartition(":")
        return await accepts_connections(
            host.strip("[]"),
            int(port),
            self._common.settings.upstream.connect_timeout,
            self._common.pools.socket,
            tls=self.address.origin.startswith("https:"),
        )

    async def _probe(self) -> Probe:
        upstream = self._common.settings.upstream
        found = await self._look.ask(
            "GET", upstream.health_path, {}, connect=upstream.connect_timeout
        )
        if isinstance(found, str):
            return Probe(found != "upstream_unreachable", trouble=found, cause=found.said)
        status, _, body = found
        self.said = fields_in(body)
        return Probe(connected=True, status=status)

    async def _ask(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        path = self._common.settings.server.mcp_path
        found = await self._look.ask(method, path, headers, body)
        return None if isinstance(found, str) else Answer(*found)


def basic_authorization(target: Address) -> str | None:
    """Return the header for credentials that stand in the upstream URL."""
    if target.userinfo is None:
        return None
    return "Basic " + base64.b64encode(":".join(target.userinfo).encode()).decode()
