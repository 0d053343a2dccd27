"""The map: settings -> stores -> layers in order -> app. The only file that knows everyone.

The road of one request: `Inbound` checks and reads it into a Call, its stack's layers decide
whether, when and how often to ask, `Outbound` asks the server, and the Reply walks back.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import attrgetter
from secrets import token_hex
from typing import Any

from mcp_proxy import behind, parts, storage
from mcp_proxy.core import scopes
from mcp_proxy.core.addresses import Address
from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Call, Headers, RawHeaders, Reply
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.gradient import Gradient
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.keys import credentials
from mcp_proxy.core.place import Place
from mcp_proxy.core.rules import Annotations
from mcp_proxy.core.traffic import Traffic
from mcp_proxy.crew import Crew
from mcp_proxy.edge.inbound import Door, Inbound, Roads
from mcp_proxy.edge.live import Live
from mcp_proxy.edge.mail import Owing
from mcp_proxy.edge.names import Names
from mcp_proxy.edge.ops import Ops
from mcp_proxy.edge.own import Own, Sources
from mcp_proxy.edge.pool import Pools, open_pools
from mcp_proxy.edge.serve import on_hangup
from mcp_proxy.effective import effective
from mcp_proxy.layers.admit import Admit
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.chain import Forward, Layer, join
from mcp_proxy.layers.clock import SystemClock, Tasks
from mcp_proxy.layers.coalesce import Coalesce
from mcp_proxy.layers.deadline import Deadline
from mcp_proxy.layers.failover import Failover, Way
from mcp_proxy.layers.hedge import Hedge
from mcp_proxy.layers.invalidate import Invalidate
from mcp_proxy.layers.observe import Observe
from mcp_proxy.layers.ratelimit import RateLimit, in_redis
from mcp_proxy.layers.recover import Recover
from mcp_proxy.layers.rescue import Rescue
from mcp_proxy.layers.retry import Retry
from mcp_proxy.layers.trace import Spans, TraceCall
from mcp_proxy.operations import Operations
from mcp_proxy.reload import Reload
from mcp_proxy.settings import Settings
from mcp_proxy.signals import schemas
from mcp_proxy.signals.bus import Bus
from mcp_proxy.signals.errors import Errors
from mcp_proxy.signals.events import Events
from mcp_proxy.signals.logs import Log, Renderer
from mcp_proxy.signals.metrics import Metrics
from mcp_proxy.signals.prometheus import Reached
from mcp_proxy.signals.view import View
from mcp_proxy.stores.redis import prefix
from mcp_proxy.target import Common, Target
from mcp_proxy.upstream.catalogue import OURSELVES, Catalogue
from mcp_proxy.upstream.fleet import Fleet
from mcp_proxy.upstream.homes import Homes
from mcp_proxy.upstream.presence import State
from mcp_proxy.upstream.sessions import Sessions

# Seconds for the answers of calls that outlast the grace.
_FAREWELL = 0.25
# Seconds for the spans that are not sent yet; more would outlast what the process has for its end.
_LAST_SPANS = 0.5


class Sidecar:
    """One sidecar: everything that lives as long as the process, joined."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        clock: Clock | None = None,
        spans: Spans | None = None,
        place: Place | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._spans = spans
        self._place = place  # among several workers
        self._clock = clock or SystemClock()
        self._began = self._clock.now()
        self._tasks = Tasks()
        # --- what is told
        signals = settings.signals
        renderer = Renderer()
        self.events = Events(signals.events_replay, signals.lowest_level, renderer.text)
        # --- the other workers, where there are some
        self.crew = Crew(place, self._clock, self._tasks, self._view) if place else None
        self.live = Live(self.crew.chorus(self.events) if self.crew else self.events, self._clock)
        self.errors = Errors(signals.events_window, self._clock, renderer.stamp)
        self.emit = self._emit = Bus(
            self._clock.epoch,
            log.take,
            self.events.take,
            self.errors.take,
            debug=signals.lowest_level == "debug",
        )
        self._addresses = behind.addresses(settings)
        # all workers have one, or a loop through two of them went unnoticed for a while
        self.pseudonym = f"mcp-sidecar-{place.name if place else token_hex(4)}"
        # --- what outlives a call
        self._server = storage.upstream_name(settings, self._addresses)
        self.fanout = storage.fanout(
            settings,
            self._server,
            self.pseudonym,
            clock=self._clock,
            emit=self.emit,
            events=self.events,
            renderer=renderer,
        )
        self.metrics = Metrics()
        self.shelf = storage.shelf(
            settings, self._server, place, clock=self._clock, emit=self._emit, spawn=self._tasks
        )
        # --- the server behind
        self.bridge = behind.bridge(settings, environ or {}, self._clock, self._emit, self._tasks)
        self.pools: Pools = open_pools(
            settings.upstream.connections,
            settings.upstream.streams_limit,
            Names(self._clock.now),
            self.bridge.socket if self.bridge else None,
        )
        self.catalogue = Catalogue()
        self.homes = Homes(self.crew.home if self.crew else None)
        self.targets = self._targets()
        self.fleet = Fleet({target.name: target.presence for target in self.targets})
        self._discovering = False
        # --- the layers that remember something; one that is off is absent
        self._trace = (
            TraceCall(spans, session_ids=settings.signals.traces_session_ids) if spans else None
        )
        # with several targets each call knows where it went
        upstream = self._addresses[0].name if len(self._addresses) == 1 else ""
        self._observe = Observe(
            self.metrics, self._clock, self._emit, upstream, parts.captured(settings)
        )
        self.deadline = Deadline(settings.server.request_timeout, self._clock, self._tasks)
        self._budget = Budget()
        self._hedge = self._hedging()
        self.admit = self._admit()
        self._counts = storage.counts(settings)
        self._limit = self._rate_limit()
        self._cache, self._coalesce = self._caching()
        self.sessions = Sessions(self._clock.now)
        self._recover = self._recovery()
        # --- the two ends, and the roads between them
        roads = attrgetter("guarded"), attrgetter("outbound"), attrgetter("tunnel")
        self._guarded, self._bare, self._tunnel = map(self._origin, roads)
        self._reload = Reload(lambda: self._settings, self._adopt, self.crew, self._emit)
        self.operations = Operations(
            self._view,
            self.shelf,
            [target.breaker for target in self.targets if target.breaker],
            self.crew,
            place,
            clock=self._clock,
            emit=self._emit,
            command=self.bridge.snapshot if self.bridge else None,
        )
        if self.crew is not None:
            self.crew.answer(
                {
                    "home": self._home,
                    "posted": self._posted,
                    "tools changed": self._tools_changed,
                    **self.operations.answers,
                    **self._reload.answers,
                }
            )
        self._own = self._endpoints()
        self.inbound = Inbound(
            *self._built(),
            self._own,
            clock=self._clock,
            spawn=self._tasks,
            elsewhere=self.crew.posted if self.crew else None,
        )
        # of whoever opens the ports
        self.connections: Callable[[], dict[str, int]] = dict
        self.ops = Ops(self.inbound) if settings.server.ops_port is not None else None

    # --- the road of one request; it holds no state, and is made anew when settings are read anew

    def _built(self) -> tuple[Door, Roads, Traffic]:
        rescue = Rescue(parts.style(self._settings), self._clock, self._emit)
        retry, invalidate = self._retry(), self._invalidate()
        outer = present(self._trace, self._observe, rescue)
        cache, limit = self._cache, self._limit
        stacks = self.stacks = {
            Stack.FULL: present(
                *(*outer, self.deadline, limit, cache, self._coalesce, self.admit, invalidate),
                *(retry, self._hedge, self._recover),
            ),
            Stack.PLAIN: present(
                *(*outer, self.deadline, limit, self.admit, invalidate),
                *(retry, self._hedge),
            ),
            Stack.SHORT: present(*outer, limit, invalidate, retry, self._recover),
        }
        self.traffic = parts.traffic(self._settings, self._annotated)
        roads = Roads(
            {
                Stack.FULL: join(stacks[Stack.FULL], self._guarded),
                Stack.PLAIN: join(stacks[Stack.PLAIN], self._guarded),
                Stack.SHORT: join(stacks[Stack.SHORT], self._bare),
            },
            websocket=join(stacks[Stack.SHORT], self._tunnel),
            refusal=lambda call, error: join(outer, raising(error))(call),
            # a road on which Redis is asked cannot be walked in one step
            known=cache.known if cache and not (limit and limit.waits) else None,
        )
        return parts.door(self._settings, self.pseudonym), roads, self.traffic

    def _adopt(self, settings: Settings) -> None:
        """Let settings take effect of which reload.LIVE ones may be others."""
        before, self._settings = self._settings, settings
        limit = self._rate_limit()
        if before.rate_limit != settings.rate_limit or (limit is None) != (self._limit is None):
            self._limit = limit  # which counts anew
        token = settings.server.admin_token
        self._own.token = token.get_secret_value() if token else None
        self.emit.debug = settings.signals.lowest_level == "debug"
        self._log.show_from(settings.signals.lowest_level)
        self.events.keep_from(settings.signals.lowest_level)
        for target in self.targets:
            target.adopt(settings)
        self.inbound.adopt(*self._built())

    def reload_soon(self) -> None:
        """Begin to read the settings anew."""
        self._tasks(self._reload.everywhere(), "reload")

    # --- parts

    def _targets(self) -> list[Target]:
        common = Common(
            self._settings,
            self.pools,
            self._clock,
            self._tasks,
            self._emit,
            self.pseudonym,
            listener=self,
            came=self._came,
            alone=len(self._addresses) == 1,
            spans=self._spans,
        )
        return [Target(one, common) for one in self._addresses]

    def _origin(self, road: Callable[[Target], Forward]) -> Forward:
        """Return where a stack ends: the road to the only target, or the choice among several."""
        ways = [Way(target, road(target)) for target in self.targets]
        return ways[0].forward if len(ways) == 1 else Failover(ways, self.homes, self._emit)

    def _admit(self) -> Admit:
        settings = self._settings
        bounds = parts.bounds(settings, self._place.workers if self._place else 1)
        return Admit(
            bounds,
            self._clock,
            self._emit,
            deadline=settings.server.request_timeout,
            gradient=Gradient(bounds.limit) if settings.concurrency.adaptive else None,
            restarting=lambda: self.fleet.restarting,
        )

    def _rate_limit(self) -> RateLimit | None:
        rates = parts.rates(self._settings)
        if rates is None:
            return None
        shared = in_redis(self._counts, prefix(self._server)) if self._counts else None
        return RateLimit(rates, self._clock, self._emit, shared=shared)

    def _hedging(self) -> Hedge | None:
        delay = self._settings.retry.hedge_delay
        if not delay:
            return None
        return Hedge(delay, self._budget, self._clock, self._tasks, self._emit)

    def _retry(self) -> Retry | None:
        retry = self._settings.retry
        if not retry.max_retries:
            return None
        return Retry(
            parts.backoff(self._settings),
            self._budget,
            self.fleet,
            self._clock,
            self._emit,
            rng=random.random,
            window=retry.window,
            attempt_timeout=retry.attempt_timeout,
        )

    def _recovery(self) -> Recover | None:
        settings = self._settings
        if not settings.upstream.session_recovery:
            return None
        return Recover(
            self.sessions,
            self,
            self._clock,
            self._tasks,
            self._emit,
            limit=settings.server.buffer_limit,
            others=self.crew.moves(self.sessions) if self.crew else None,
        )

    def _caching(self) -> tuple[Cache | None, Coalesce | None]:
        """Return the layers that share answers: both, or none when caching is off."""
        if self.shelf is None:
            return None, None
        server = self._settings.server
        keyring, limit = parts.keyring(self._settings, self._server), server.buffer_limit
        return (
            Cache(self.shelf, keyring, self._clock, self._tasks, limit),
            Coalesce(server.request_timeout, self._clock, self._tasks, limit),
        )

    def _invalidate(self) -> Invalidate | None:
        if self.shelf is None:
            return None
        quarantine = self._settings.cache.quarantine
        return Invalidate(self.shelf, quarantine, self._tasks, self._invalidated)

    def _endpoints(self) -> Own:
        operations = self.operations
        server = self._settings.server
        return Own(
            Sources(
                health=operations.health,
                metrics=operations.metrics if self._settings.signals.enable_metrics else None,
                prometheus=operations.prometheus(self._tasks).page,
                clear=operations.clear,
                reset=operations.reset,
                ready=lambda: not self.inbound.draining,
                live=self.live,
                config=lambda: effective(self._settings),
                reload=self._reload.everywhere,
                event_schema=schemas.all_of_them(),
            ),
            server.admin_token.get_secret_value() if server.admin_token else None,
            self._clock,
            moved=server.ops_port is not None,
        )

    # --- what rooms tell each other

    def _annotated(self, headers: Headers, raw: RawHeaders, tool: str) -> Annotations | None:
        if self.catalogue.empty:
            return None
        return self.catalogue.of(self.pools.callers.of(headers, raw), tool)

    async def tools_listed(self, call: Call, result: dict[str, Any]) -> None:
        """Learn from a list that passes through."""
        first = "cursor" not in call.message.params
        if self.catalogue.learn(credentials(call.headers), result, first_page=first):
            self.traffic.forget()

    async def answers_changed(self) -> None:
        """Drop all stored answers: something has happened that may have changed them."""
        if self.shelf is not None:
            await self.shelf.invalidate()
            self._emit("cache.invalidated", reason="the server spoke on a stream")

    def _invalidated(self, call: Call, entries: int, unknown: bool) -> None:  # noqa: FBT001 - a port
        message = call.message
        self.metrics.invalidated(message.service, message.named)
        self._emit(
            "cache.invalidated",
            "info" if entries or unknown else "debug",
            **call.ids,
            service=message.service,
            tool=message.named,
            reason="fate unknown" if unknown else "write",
            entries=entries,
        )

    @property
    def departures(self) -> int:
        """Return how often the server may have gone away: one that restarts fast refuses nobody."""
        commands = self.bridge.departures if self.bridge else 0
        return self.fleet.departures + self.pools.broken.number + commands

    def stranded(self, session_id: str) -> bool:
        """Tell whether the target on which a session lived is away, while another is there."""
        home = self.homes.of(session_id)
        away = home is not None and any(one.name == home and one.away for one in self.targets)
        return away and any(target.up for target in self.targets)

    def messages_at(self, path: str, server: Address) -> None:
        """Remember on which target a legacy session lives."""
        self.homes.keep(path, server.name)

    async def _home(self, said: Any) -> str | None:
        return self.homes.of(said)

    async def _posted(self, said: Any) -> None:
        address, request_id, owed = said
        self.inbound.owes(Owing(address, request_id, owed=owed))

    async def session_lost(self, call: Call) -> None:
        """Drop what a caller was told in a session that the server has forgotten."""
        if self.shelf is not None:
            await self.shelf.invalidate(scopes.of_caller(credentials(call.headers)))

    async def tools_changed(self) -> None:
        """Drop all stored answers, and what was known of the tools."""
        await self.answers_changed()
        if self.crew is not None:
            await self.crew.neighbours.ask("tools changed")
        await self._tools_changed()

    async def _tools_changed(self, _: Any = None) -> None:
        if not self._discovering:
            up = [target for target in self.targets if target.up]
            self._tasks(self._discover((up or self.targets)[0]), "discover tools")

    def _came(self, target: Target) -> None:
        self._tasks(self._discover(target), "discover tools")

    async def _discover(self, target: Target) -> None:
        self._discovering = True
        self.catalogue.forget()
        self.traffic.forget()
        try:
            found = await target.discovery.tools()
        finally:
            self._discovering = False
        if found is not None:
            self.catalogue.learn(OURSELVES, found)
            self.traffic.forget()

    def _view(self) -> View:
        """Return what this process knows."""
        now = self._clock.now()
        load: dict[str, Any] = self.admit.snapshot()
        breakers = [target.breaker for target in self.targets if target.breaker]
        return View(
            metrics=self.metrics,
            answered_at_once=self.inbound.express.answered,
            load=load,
            circuits={name: told for one in breakers for name, told in one.snapshot().items()},
            standings=[target.standing(now) for target in self.targets],
            reached=[self._reached(target, load["in_flight"]) for target in self.targets],
            cache=self.shelf.snapshot() if self.shelf is not None else None,
            kept=self.shelf.kept() if self.shelf is not None else {},
            sessions=len(self.sessions),
            connections=self.connections(),
            open_streams=self.pools.open_streams,
            tools=self.catalogue.size,
            errors=self.errors.top(),
            log_lines_dropped=self._log.dropped,
            began=self._clock.epoch() - (now - self._began),
            uptime=now - self._began,
        )

    def _reached(self, target: Target, admitted: int) -> Reached:
        # the calls of each target are counted only where there is a choice
        alone = len(self.targets) == 1
        return Reached(
            target.name,
            up=target.presence.state is State.PRESENT,
            healthy=target.monitor.healthy and not target.monitor.failures,
            calls=admitted if alone else target.calls.under_way,
            streams=self.pools.open_streams if alone else target.streams.under_way,
        )

    # --- life

    async def meet(self) -> None:
        """Let the other workers find this one, before anybody calls. Raises OSError."""
        if self.crew is not None:
            await self.crew.open()
        if self._place is None or not self._place.again:
            return
        if self.shelf is not None:
            # the one before may have died with a write under way, of which Redis has not heard
            await self.shelf.invalidate("", self._settings.cache.quarantine)
        await self._reload.catch_up()

    def start(self) -> None:
        """Begin to watch the server, or to run it, and to listen to SIGHUP."""
        if self.bridge is not None:
            self.bridge.start()
        for target in self.targets:
            self._tasks(target.monitor.run(), "health monitor")
        on_hangup(self.reload_soon)
        self._tasks(self.errors.run(self._emit), "count errors")
        if self.crew is not None:
            self._tasks(self.crew.run(), "write down the counts")
        if self.fanout is not None:
            self._tasks(self.fanout.send(), "send events")
            self._tasks(self.fanout.listen(), "hear events")

    async def drain(self) -> bool:
        """Refuse new calls and wait for those under way; False when the grace was too short."""
        self.inbound.draining = True
        self._emit("proxy.draining", in_flight=self.metrics.in_flight)
        if await self._quiet(self._settings.server.shutdown_grace):
            return True
        # their callers are told, which takes no longer than to say it
        self.deadline.end()
        self.inbound.end()
        await self._quiet(_FAREWELL)
        return False

    async def _quiet(self, seconds: float) -> bool:
        """Wait until no call is under way; False when that takes longer."""
        over = self._clock.now() + seconds
        while self.metrics.in_flight and self._clock.now() < over:
            await self._clock.sleep(0.05)
        return not self.metrics.in_flight

    async def aclose(self) -> None:
        """Let go of everything."""
        if self.crew is not None:
            await self.crew.aclose()
        if self.bridge is not None:
            await self.bridge.aclose()
        await self._tasks.end()
        await self.pools.aclose()
        if self.shelf is not None:
            await self.shelf.aclose()
        if self._counts is not None:
            await self._counts.aclose()
        if self.fanout is not None:
            await self.fanout.aclose()
        if self._spans is not None:
            with suppress(TimeoutError):
                async with self._clock.timeout(_LAST_SPANS):
                    await self._spans.aclose()


def present(*layers: Layer | None) -> list[Layer]:
    """Return the layers that are on."""
    return [layer for layer in layers if layer is not None]


def raising(error: ProxyError) -> Forward:
    """Return an origin that refuses every call."""

    async def origin(_: Call) -> Reply:
        raise error

    return origin
