"""The map: settings -> stores -> layers in order -> app. The only file that knows everyone.

The road of one request: `Inbound` checks and reads it into a Call, its stack's layers decide
whether, when and how often to ask, `Outbound` asks the server, and the Reply walks back.
"""

import base64
import random
import socket
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from mcp_proxy import __version__
from mcp_proxy.core import report, scopes
from mcp_proxy.core.addresses import Address, address
from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Call, Headers, RawHeaders, Reply
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.gradient import Gradient
from mcp_proxy.core.intent import Decisions, Policy, Stack
from mcp_proxy.core.keys import Callers, Keyring, credentials
from mcp_proxy.core.metadata import PublicUrl
from mcp_proxy.core.origins import Admission
from mcp_proxy.core.peers import Proxies
from mcp_proxy.core.rules import Annotations, Rule, Rules
from mcp_proxy.core.shelf import Shelf
from mcp_proxy.core.traffic import Paths, Traffic
from mcp_proxy.edge.inbound import Door, Inbound, Roads
from mcp_proxy.edge.look import Look, fields_in
from mcp_proxy.edge.outbound import Outbound, Wire
from mcp_proxy.edge.own import Own, Sources
from mcp_proxy.edge.pool import Pools, accepts_connections, open_pools
from mcp_proxy.edge.tunnel import Tunnel
from mcp_proxy.layers.admit import Admit, Bounds
from mcp_proxy.layers.breaker import Breaker
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.chain import Forward, Layer, join
from mcp_proxy.layers.circuit import Limits
from mcp_proxy.layers.clock import SystemClock, Tasks
from mcp_proxy.layers.coalesce import Coalesce
from mcp_proxy.layers.deadline import Deadline
from mcp_proxy.layers.hedge import Hedge
from mcp_proxy.layers.invalidate import Invalidate
from mcp_proxy.layers.observe import Observe
from mcp_proxy.layers.ratelimit import RateLimit, Rates, in_redis
from mcp_proxy.layers.recover import Recover
from mcp_proxy.layers.rescue import Rescue, Style
from mcp_proxy.layers.retry import Backoff, Retry
from mcp_proxy.settings import Settings
from mcp_proxy.signals.logs import Log
from mcp_proxy.signals.metrics import Metrics
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf, connections, prefix
from mcp_proxy.stores.tiered import TieredShelf
from mcp_proxy.upstream.catalogue import OURSELVES, Catalogue
from mcp_proxy.upstream.discovery import Answer, Discovery
from mcp_proxy.upstream.health import Monitor, Probe
from mcp_proxy.upstream.presence import Presence, State
from mcp_proxy.upstream.sessions import Sessions


class Sidecar:
    """One sidecar: everything that lives as long as the process, joined."""

    def __init__(self, settings: Settings, log: Log, clock: Clock | None = None) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock or SystemClock()
        self._began = self._clock.now()
        self._tasks = Tasks()
        named = settings.upstream.host_header
        host = None if named in {"upstream", "client"} else named
        self.address = address(settings.upstream.url.get_secret_value(), settings.server.mcp_path)
        if host is not None:
            self.address = self.address.also(host)
        self.pseudonym = f"mcp-sidecar-{token_hex(4)}"
        # --- what outlives a call, and what is told
        self.metrics = Metrics()
        self.shelf: Shelf | None = self._open_shelf() if settings.cache.on else None
        # --- the server behind
        self.pools: Pools = open_pools(
            settings.upstream.connections, settings.upstream.streams_limit
        )
        self.catalogue = Catalogue()
        self._callers = Callers()
        self.presence = Presence(
            self._connects,
            settings.upstream.restart_grace,
            self._clock,
            self._tasks,
            self._presence_changed,
        )
        look = Look(
            self.address.origin + self.address.prefix,
            self.pools.streams,
            settings.upstream.health_interval,
            host,
        )
        self.monitor = Monitor(
            lambda: self._probe(look),
            self.presence,
            self._clock,
            interval=settings.upstream.health_interval,
            rng=random.random,
        )
        self._discovery = Discovery(lambda *asked: self._ask(look, *asked))
        self._discovering = False
        self._said: Mapping[str, Any] = {}  # the server's last health fields
        # --- the layers, outermost first; one that is off is absent
        observe = Observe(self.metrics, self._clock, log)
        rescue = Rescue(self._style(), self._clock, log)
        deadline = Deadline(settings.server.request_timeout, self._clock)
        self.breaker = self._breaker()
        budget = Budget()
        retry, hedge = self._retry(budget), self._hedge(budget)
        self.admit = self._admit()
        redis_url = settings.cache.redis_url
        self._counts = connections(redis_url.get_secret_value()) if redis_url else None
        limit = self._rate_limit()
        cache, coalesce, invalidate = self._caching(self.shelf)
        self.sessions = Sessions(self._clock.now)
        recover = self._recovery()
        self.stacks: dict[Stack, list[Layer]] = {
            Stack.FULL: present(
                *(observe, rescue, deadline, limit, cache, coalesce, self.admit, invalidate),
                *(retry, hedge, recover, self.breaker),
            ),
            Stack.PLAIN: present(
                *(observe, rescue, deadline, limit, self.admit, invalidate),
                *(retry, hedge, self.breaker),
            ),
            Stack.SHORT: present(observe, rescue, limit, invalidate, recover),
        }
        # --- the two ends
        wire = self._wire()
        self.outbound = Outbound(wire, self.pools, self._clock, self)
        tunnel = Tunnel(wire, self.pools, self.answers_changed)
        roads = Roads(
            {stack: join(layers, self.outbound) for stack, layers in self.stacks.items()},
            websocket=join(self.stacks[Stack.SHORT], tunnel),
            refusal=lambda call, error: join([observe, rescue], raising(error))(call),
            # a road on which Redis is asked cannot be walked in one step
            known=cache.known if cache and not (limit and limit.waits) else None,
        )
        self.traffic = self._traffic()
        self.inbound = Inbound(
            self._door(),
            roads,
            self.traffic,
            self._own(),
            clock=self._clock,
            spawn=self._tasks,
        )

    # --- parts, from settings

    def _open_shelf(self) -> Shelf:
        cache = self._settings.cache
        clock = self._clock
        memory = MemoryShelf(cache.max_entries, cache.max_bytes, clock.now, clock.epoch)
        if cache.redis_url is None:
            return memory
        redis = RedisShelf(
            cache.redis_url.get_secret_value(),
            self.upstream_name,
            clock.now,
            self._log,
            self._tasks,
            epoch=clock.epoch,
            sleep=clock.sleep,
        )
        return TieredShelf(
            memory,
            redis,
            clock.now,
            self._tasks,
            self._log,
            epoch=clock.epoch,
            strategy=cache.strategy,
        )

    @property
    def upstream_name(self) -> str:
        """Return the server's name in cache keys (DESIGN section 4, Key).

        A loopback address or a single label means another server on each machine, so the
        machine's name goes with it: unrelated sidecars on one Redis never share.
        """
        named = self._settings.upstream.name
        if named:
            return named
        host = self.address.origin.partition("//")[2].rpartition(":")[0]
        local = "." not in host or host.startswith("127.") or host == "[::1]"
        base = self.address.origin + self.address.prefix
        return f"{base}@{socket.gethostname()}" if local else base

    def _style(self) -> Style:
        server = self._settings.server
        return Style(
            tool_result=server.tool_error_style == "result",
            always_200=server.error_status == "compat",
        )

    def _breaker(self) -> Breaker | None:
        breaker = self._settings.breaker
        if not breaker.enabled:
            return None
        limits = Limits(
            breaker.failure_threshold,
            breaker.recovery_timeout,
            breaker.failure_rate,
            breaker.min_volume,
            breaker.window,
            breaker.slow_call,
        )
        return Breaker(
            self.address.origin,
            limits,
            self.presence,
            self._clock,
            self._log,
            rng=random.random,
            deadline=self._settings.server.request_timeout,
        )

    def _admit(self) -> Admit:
        concurrency = self._settings.concurrency
        return Admit(
            Bounds(concurrency.limit, concurrency.per_tool, concurrency.queue),
            self._clock,
            self._log,
            deadline=self._settings.server.request_timeout,
            gradient=Gradient(concurrency.limit) if concurrency.adaptive else None,
        )

    def _rate_limit(self) -> RateLimit | None:
        rates = Rates(**self._settings.rate_limit.model_dump())
        ruled = any(rule.rate_limit for rule in self._settings.tools.values())
        if rates == Rates() and not ruled:
            return None
        shared = in_redis(self._counts, prefix(self.upstream_name)) if self._counts else None
        return RateLimit(rates, self._clock, self._log, shared=shared)

    def _hedge(self, budget: Budget) -> Hedge | None:
        delay = self._settings.retry.hedge_delay
        return Hedge(delay, budget, self._clock, self._tasks, self._log) if delay else None

    def _retry(self, budget: Budget) -> Retry | None:
        retry = self._settings.retry
        if not retry.max_retries:
            return None
        policy = Backoff(
            retry.max_retries, retry.backoff_base, retry.backoff_factor, retry.backoff_max
        )
        return Retry(
            policy,
            budget,
            self.presence,
            self._clock,
            self._log,
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
            self._log,
            limit=settings.server.buffer_limit,
        )

    def _caching(
        self, shelf: Shelf | None
    ) -> tuple[Cache | None, Coalesce | None, Invalidate | None]:
        """Return the layers that share answers: all three, or none when caching is off."""
        if shelf is None:
            return None, None, None
        settings = self._settings
        keyring = Keyring(
            self.upstream_name,
            ignored=settings.cache.ignore_headers,
            share_sessions=settings.cache.share_sessions,
            share_public=settings.cache.share_public,
            host_matters=True,  # it goes upstream as X-Forwarded-Host, and a server may build links of it
        )
        limit = settings.server.buffer_limit
        return (
            Cache(shelf, keyring, self._clock, self._tasks, limit),
            Coalesce(settings.server.request_timeout, self._clock, self._tasks, limit),
            Invalidate(shelf, settings.cache.quarantine, self._tasks, self._invalidated),
        )

    def _wire(self) -> Wire:
        settings = self._settings
        public = settings.server.public_url
        return Wire(
            self.address,
            settings.upstream.connect_timeout,
            settings.server.buffer_limit,
            settings.upstream.streams_limit,
            self.pseudonym,
            settings.failures.patterns,
            basic_authorization(self.address),
            settings.upstream.host_header,
            PublicUrl(public, self.address) if public else None,
        )

    def _door(self) -> Door:
        server = self._settings.server
        return Door(
            Admission(server.host, server.allowed_hosts, server.allowed_origins),
            Proxies(server.trusted_proxies),
            self.pseudonym,
            server.buffer_limit,
            server.max_body_bytes,
            server.enrich_responses,
            server.sse_keepalive,
        )

    def _traffic(self) -> Traffic:
        settings = self._settings
        server = settings.server
        rules = Rules(
            Rule(pattern, **rule.model_dump()) for pattern, rule in settings.tools.items()
        )
        policy = Policy(
            settings.cache.ttl,
            settings.cache.annotated_ttl,
            settings.cache.stale_while_revalidate,
            settings.cache.stale_if_error,
            settings.upstream.trust_annotations,
            rules,
        )
        paths = Paths(server.mcp_path, server.sse_path, server.messages_path, server.tool_routes)
        return Traffic(paths, Decisions(policy), self._annotated)

    def _own(self) -> Own:
        token = self._settings.server.admin_token
        return Own(
            Sources(
                health=self.health,
                metrics=self._metrics if self._settings.signals.enable_metrics else None,
                clear=self._clear,
                ready=lambda: not self.inbound.draining,
            ),
            token.get_secret_value() if token else None,
        )

    # --- what rooms tell each other

    def _annotated(self, headers: Headers, raw: RawHeaders, tool: str) -> Annotations | None:
        if self.catalogue.empty:
            return None
        return self.catalogue.of(self._callers.of(headers, raw), tool)

    async def tools_listed(self, call: Call, result: dict[str, Any]) -> None:
        """Learn from a list that passes through."""
        first = "cursor" not in call.message.params
        if self.catalogue.learn(credentials(call.headers), result, first_page=first):
            self.traffic.forget()

    async def answers_changed(self) -> None:
        """Drop all stored answers: something has happened that may have changed them."""
        if self.shelf is not None:
            await self.shelf.invalidate()
            self._log("cache.invalidated", reason="the server spoke on a stream")

    def _invalidated(self, call: Call, entries: int, unknown: bool) -> None:  # noqa: FBT001 - a port
        message = call.message
        self.metrics.invalidated(message.service, message.named)
        self._log(
            "cache.invalidated",
            "info" if entries or unknown else "debug",
            request_id=call.request_id,
            service=message.service,
            tool=message.named,
            reason="fate unknown" if unknown else "write",
            entries=entries,
        )

    @property
    def departures(self) -> int:
        """Return how often the server has gone away."""
        return self.presence.departures

    async def session_lost(self, call: Call) -> None:
        """Drop what a caller was told in a session that the server has forgotten."""
        if self.shelf is not None:
            await self.shelf.invalidate(scopes.of_caller(credentials(call.headers)))

    async def tools_changed(self) -> None:
        """Drop all stored answers, and what was known of the tools."""
        await self.answers_changed()
        if not self._discovering:
            self._tasks(self._discover(), "discover tools")

    def _presence_changed(self, before: State, after: State) -> None:
        level = {State.LOST: "error", State.RESTARTING: "warning"}.get(after, "info")
        if before is State.UNKNOWN and after is State.RESTARTING:
            level = "info"  # both are starting up
        self._log(
            "upstream.state_changed",
            level,
            target=self.address.origin,
            before=before.value,
            after=after.value,
        )
        if after is State.PRESENT:
            self._tasks(self._discover(), "discover tools")
        if self.breaker is not None and after is State.LOST:
            self.breaker.lost()
        elif self.breaker is not None and after is State.PRESENT:
            self.breaker.returned()
        if before is not State.UNKNOWN:
            self.monitor.nudge()

    async def _discover(self) -> None:
        self._discovering = True
        self.catalogue.forget()
        self.traffic.forget()
        try:
            found = await self._discovery.tools()
        finally:
            self._discovering = False
        if found is not None:
            self.catalogue.learn(OURSELVES, found)
            self.traffic.forget()

    async def _connects(self) -> bool:
        host, _, port = self.address.origin.partition("//")[2].rpartition(":")
        return await accepts_connections(
            host.strip("[]"), int(port), self._settings.upstream.connect_timeout
        )

    async def _probe(self, look: Look) -> Probe:
        found = await look.ask("GET", self._settings.upstream.health_path, {})
        if isinstance(found, str):
            return Probe(connected=found != "upstream_unreachable", trouble=found)
        status, _, body = found
        self._said = fields_in(body)
        return Probe(connected=True, status=status)

    async def _ask(
        self, look: Look, method: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | None:
        found = await look.ask(method, self._settings.server.mcp_path, headers, body)
        return None if isinstance(found, str) else Answer(*found)

    # --- what the own endpoints show

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return status code and body of `/api/health`."""
        last, wrong = self.monitor.last, self.monitor.last_error
        now = self._clock.now()
        return report.health(
            report.Facts(
                target=self.address.origin,
                presence=self.presence.state.value,
                presence_for=now - self.presence.since,
                alive=last is not None and last.alive,
                said=self._said,
                probe={
                    "probe_status": last.status if last else None,
                    "probe_error": last.trouble if last else None,
                    "probe_age_seconds": round(now - self.monitor.probed, 3) if last else None,
                    "failed_probes": self.monitor.failures,
                    "next_probe_seconds": round(max(0.0, self.monitor.due - now), 3),
                    "last_error": wrong[1] if wrong else None,
                    "last_error_age_seconds": round(now - wrong[0], 3) if wrong else None,
                },
                circuits=self.breaker.snapshot() if self.breaker else {},
                cache=self._cache_facts(),
                failures=self.metrics.outcomes,
                tools=self.catalogue.size,
                uptime=now - self._began,
                version=__version__,
            )
        )

    def _cache_facts(self) -> dict[str, object] | None:
        if self.shelf is None:
            return None
        return {**self.shelf.snapshot(), **self.metrics.cache(self.shelf.kept())}

    def _metrics(self) -> dict[str, Any]:
        return {
            **self.metrics.snapshot(self.shelf.kept() if self.shelf is not None else {}),
            "circuits": self.breaker.snapshot() if self.breaker else {},
            "cache": self.shelf.snapshot() if self.shelf is not None else None,
            "open_streams": self.outbound.open_streams,
            "answered_at_once": self.inbound.express.answered if self.inbound.express else 0,
            "sessions": len(self.sessions),
            "concurrency": self.admit.snapshot(),
            "log_lines_dropped": self._log.dropped,
            "uptime_seconds": round(self._clock.now() - self._began, 3),
        }

    async def _clear(self, narrowed: Mapping[str, str]) -> dict[str, Any]:
        cleared: int | None = 0
        age = float(narrowed.get("older_than", 0.0))
        if self.shelf is not None and age > 0:
            cleared = await self.shelf.expire(self._clock.epoch() - age)
        elif self.shelf is not None:
            key = narrowed.get("key")
            scope = scopes.narrowed(narrowed.get("service"), narrowed.get("tool"))
            cleared = await self.shelf.invalidate(scopes.of_key(key) if key else scope)
        said = " ".join(f"{name}={value}" for name, value in narrowed.items())
        self._log("cache.cleared", scope=said or "all", entries=cleared)
        return {"cleared": dict(narrowed) or "all", "entries": cleared}

    # --- life

    def start(self) -> None:
        """Begin to watch the server."""
        self._tasks(self.monitor.run(), "health monitor")

    async def drain(self) -> bool:
        """Refuse new calls and wait for those under way; False when the grace was too short."""
        self.inbound.draining = True
        self._log("proxy.draining", in_flight=self.metrics.in_flight)
        over = self._clock.now() + self._settings.server.shutdown_grace
        while self.metrics.in_flight and self._clock.now() < over:
            await self._clock.sleep(0.05)
        return not self.metrics.in_flight

    async def aclose(self) -> None:
        """Let go of everything."""
        await self._tasks.end()
        await self.pools.aclose()
        if self.shelf is not None:
            await self.shelf.aclose()
        if self._counts is not None:
            await self._counts.aclose()


def present(*layers: Layer | None) -> list[Layer]:
    """Return the layers that are on."""
    return [layer for layer in layers if layer is not None]


def raising(error: ProxyError) -> Forward:
    """Return an origin that refuses every call."""

    async def origin(_: Call) -> Reply:
        raise error

    return origin


def basic_authorization(target: Address) -> str | None:
    """Return the header for credentials that stand in the upstream URL."""
    if target.userinfo is None:
        return None
    return "Basic " + base64.b64encode(":".join(target.userinfo).encode()).decode()
