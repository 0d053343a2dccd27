"""The settings: one frozen model, the only place that knows a default.

`sources` reads them, and is the only place that reads the environment.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mcp_proxy.values import (
    Bytes,
    CommandLine,
    Count,
    CountOrNone,
    Delay,
    HeaderNames,
    HostHeader,
    Hosts,
    Networks,
    Origins,
    Paths,
    PublicUrl,
    RateText,
    RedisUrl,
    Scopes,
    Seconds,
    SecondsOrNone,
    Share,
    Target,
    Token,
    UrlPath,
    Urls,
)


class Section(BaseModel):
    """One table of the file; each field names its variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is(default: Any, variable: str, text: str) -> Any:
    return Field(default, description=text, json_schema_extra={"variable": variable})


class Upstream(Section):
    """The server behind."""

    url: Urls | None = _is(
        None,
        "MCP_UPSTREAM_URL",
        "where the server is (it or MCP_UPSTREAM_COMMAND is required); a path is put before each target. "
        "Several replicas are separated by commas",
    )
    command: CommandLine | None = _is(
        None,
        "MCP_UPSTREAM_COMMAND",
        "the server itself, if it speaks over stdin and stdout; run without a shell (docs/stdio.md)",
    )
    command_cwd: str | None = _is(
        None, "MCP_UPSTREAM_COMMAND_CWD", "the directory that the command runs in"
    )
    command_sessions: Annotated[int, Field(ge=1, le=1000)] = _is(
        16,
        "MCP_UPSTREAM_COMMAND_SESSIONS",
        "sessions of clients at once; the command runs once for each",
    )
    name: str | None = _is(
        None,
        "MCP_UPSTREAM_NAME",
        "its name in shared cache keys; replicas on several machines set it",
    )
    host_header: HostHeader = _is(
        "upstream",
        "MCP_UPSTREAM_HOST_HEADER",
        "the Host that the server sees: upstream (its own), client (what was dialled), or a name",
    )
    connect_timeout: Seconds = _is(3.0, "MCP_CONNECT_TIMEOUT", "seconds to connect in")
    connections: Count = _is(1024, "MCP_UPSTREAM_CONNECTIONS", "connections open for calls at once")
    streams_limit: Count = _is(
        20_000, "MCP_STREAMS_LIMIT", "event streams and WebSockets open at once"
    )
    restart_grace: SecondsOrNone = _is(
        3.0,
        "MCP_RESTART_GRACE",
        "seconds in which calls wait for a server that refuses connections",
    )
    health_interval: Seconds = _is(5.0, "MCP_HEALTH_INTERVAL", "seconds between health probes")
    health_path: Target = _is(
        "/api/health", "MCP_HEALTH_PATH", "what the probe asks for; any status below 500 is alive"
    )
    health_fall: Count = _is(
        3, "MCP_HEALTH_FALL", "failed probes in a row until a server that is there is unhealthy"
    )
    health_rise: Count = _is(2, "MCP_HEALTH_RISE", "good probes in a row until it is healthy again")
    slow_start: SecondsOrNone = _is(
        10.0,
        "MCP_SLOW_START",
        "seconds in which a replica that has returned gets a growing share of the calls",
    )
    trust_annotations: bool = _is(
        True, "MCP_TRUST_ANNOTATIONS", "believe the server's own readOnlyHint and idempotentHint"
    )
    session_recovery: bool = _is(
        True,
        "MCP_SESSION_RECOVERY",
        "open a client's session again when a restarted server has forgotten it",
    )

    @model_validator(mode="after")
    def _one_server(self) -> "Upstream":
        if self.url is None and self.command is None:
            raise PydanticCustomError("no_server", "a server")
        if self.url is not None and self.command is not None:
            raise PydanticCustomError("two_servers", "one server")
        return self

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the words of the command; none where the server has a URL."""
        return tuple(shlex.split(self.command.get_secret_value())) if self.command else ()

    @property
    def own_host(self) -> str | None:
        """Return the Host that the server is to see whoever asks; None where that depends."""
        return None if self.host_header in {"upstream", "client"} else self.host_header


class Server(Section):
    """Our own port."""

    host: str = _is("localhost", "MCP_HOST", "address or name to listen on")
    port: Annotated[int, Field(ge=0, le=65_535)] = _is(
        8000, "MCP_PORT", "port to listen on; 0 takes a free one"
    )
    workers: Annotated[int, Field(ge=1, le=64)] = _is(
        1, "MCP_WORKERS", "processes that serve the port together (docs/workers.md)"
    )
    ops_port: Annotated[int, Field(ge=0, le=65_535)] | None = _is(
        None,
        "MCP_OPS_PORT",
        "port of its own for our endpoints; only /api/health, /api/metrics and the cache clear "
        "then stay on the main one, too",
    )
    connections_limit: Count = _is(
        25_000,
        "MCP_CONNECTIONS_LIMIT",
        "connections of clients at once, as far as descriptors (ulimit -n) reach; one more gets a 503",
    )
    head_timeout: Seconds = _is(
        10.0, "MCP_HEAD_TIMEOUT", "seconds in which a request's head must have come once it begins"
    )
    body_timeout: Seconds = _is(
        60.0,
        "MCP_BODY_TIMEOUT",
        "seconds of silence after which a request whose body is still to come is given up",
    )
    mcp_path: UrlPath = _is("/mcp", "MCP_PATH", "where Streamable HTTP is spoken")
    sse_path: UrlPath = _is("/sse", "MCP_SSE_PATH", "where legacy HTTP+SSE streams begin")
    messages_path: UrlPath = _is(
        "/messages", "MCP_MESSAGES_PATH", "where legacy HTTP+SSE messages are posted"
    )
    tool_routes: Paths = _is(("/api/call-tool",), "MCP_TOOL_ROUTES", "paths of the REST tool API")
    allowed_hosts: Hosts = _is(
        (), "MCP_ALLOWED_HOSTS", "further Host names that are served; * is any"
    )
    allowed_origins: Origins = _is(
        (), "MCP_ALLOWED_ORIGINS", "further Origins of pages that may ask; * is any"
    )
    trusted_proxies: Networks = _is(
        (),
        "MCP_TRUSTED_PROXIES",
        "addresses whose X-Forwarded-* headers are believed, such as 10.0.0.0/8",
    )
    public_url: PublicUrl | None = _is(
        None,
        "MCP_PUBLIC_URL",
        "our URL for clients; rewrites OAuth resource metadata (docs/wire.md has the limits)",
    )
    admin_token: Token | None = _is(
        None, "MCP_ADMIN_TOKEN", "guards the endpoints that change or reveal"
    )
    buffer_limit: Bytes = _is(
        1_048_576, "MCP_BUFFER_LIMIT", "bytes; larger bodies are opaque and streamed"
    )
    max_body_bytes: Bytes = _is(0, "MCP_MAX_BODY_BYTES", "bytes; 413 beyond it; 0 is no limit")
    held_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = _is(
        536_870_912,
        "MCP_HELD_BYTES",
        "bytes of request bodies in memory at once, of all clients; what is more gets a 503",
    )
    request_timeout: Seconds = _is(
        300.0, "MCP_REQUEST_TIMEOUT", "seconds that a call may take in all"
    )
    sse_keepalive: SecondsOrNone = _is(
        20.0,
        "MCP_SSE_KEEPALIVE",
        "seconds of silence after which an event stream gets a comment; 0 is never",
    )
    shutdown_grace: SecondsOrNone = _is(
        8.0, "MCP_SHUTDOWN_GRACE", "seconds for calls to finish after SIGTERM"
    )
    enrich_responses: bool = _is(
        True,
        "MCP_ENRICH_RESPONSES",
        "add execution_time_ms, cache_hit, attempts, request_id to REST answers",
    )
    error_status: Literal["real", "compat"] = _is(
        "real",
        "MCP_ERROR_STATUS",
        "compat: errors of REST calls come as 200, as the basic server's do",
    )
    tool_error_style: Literal["result", "error"] = _is(
        "result",
        "MCP_TOOL_ERROR_STYLE",
        "failed tools/call as a result with isError, or as a JSON-RPC error",
    )

    @model_validator(mode="after")
    def _ports_of_their_own(self) -> "Server":
        if self.port and self.port == self.ops_port:
            raise PydanticCustomError("same_port", "two ports")
        return self


class Cache(Section):
    """Answers that are kept."""

    enabled: bool = _is(True, "MCP_CACHE_ENABLED", "keep answers at all (both switches must be on)")
    enable_caching: bool = _is(True, "MCP_ENABLE_CACHING", "the same switch under its other name")
    ttl: SecondsOrNone = _is(
        300.0, "MCP_CACHE_TTL", "seconds; 0 leaves only what servers and rules say"
    )
    annotated_ttl: SecondsOrNone = _is(
        10.0,
        "MCP_CACHE_ANNOTATED_TTL",
        "seconds at most for tools that only the server calls read-only",
    )
    stale_while_revalidate: SecondsOrNone = _is(
        30.0,
        "MCP_CACHE_STALE_WHILE_REVALIDATE",
        "seconds in which an old answer is told while one refresh runs (not against a ttlMs)",
    )
    stale_if_error: SecondsOrNone = _is(
        600.0,
        "MCP_CACHE_STALE_IF_ERROR",
        "seconds in which an old answer is told while the server fails",
    )
    max_entries: Count = _is(10_000, "MCP_CACHE_MAX_ENTRIES", "answers kept in memory")
    max_bytes: Bytes = _is(67_108_864, "MCP_CACHE_MAX_BYTES", "bytes of answers kept in memory")
    quarantine: SecondsOrNone = _is(
        30.0,
        "MCP_CACHE_QUARANTINE",
        "seconds in which nothing is kept after a write of unknown fate",
    )
    share_sessions: bool = _is(
        False, "MCP_CACHE_SHARE_SESSIONS", "share answers between the sessions of one caller"
    )
    share_public: bool = _is(
        False,
        "MCP_CACHE_SHARE_PUBLIC",
        "share answers between callers where the server says cacheScope: public",
    )
    ignore_headers: HeaderNames = _is(
        (), "MCP_CACHE_IGNORE_HEADERS", "headers that change no answer, beside the known ones"
    )
    redis_url: RedisUrl | None = _is(
        None, "REDIS_URL", "keep answers in Redis or Valkey, such as redis://localhost:6379"
    )
    strategy: Literal["write-through", "write-back"] = _is(
        "write-through",
        "MCP_CACHE_STRATEGY",
        "with REDIS_URL: when Redis is written, at once (write-through) or later (write-back)",
    )

    @property
    def on(self) -> bool:
        """Tell whether answers are kept: off if either switch is."""
        return self.enabled and self.enable_caching


class Retry(Section):
    """Repeated tries."""

    # beyond 20, factor**n tells nothing any more; aiohttp-retry overflows near 1000
    max_retries: Annotated[int, Field(ge=0, le=20)] = _is(
        3, "MCP_MAX_RETRIES", "tries after the first; 0 switches retries off"
    )
    backoff_base: Seconds = _is(
        0.1, "MCP_BACKOFF_BASE", "seconds below which the first pause is drawn"
    )
    backoff_factor: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = _is(
        2.0, "MCP_BACKOFF_FACTOR", "growth of that bound from pause to pause"
    )
    backoff_max: Seconds = _is(5.0, "MCP_BACKOFF_MAX", "seconds that the bound never exceeds")
    attempt_timeout: Seconds = _is(
        25.0,
        "MCP_ATTEMPT_TIMEOUT",
        "seconds of silence after which a try is given up, if another may follow",
    )
    hedge_delay: Delay = _is(
        0.0,
        "MCP_HEDGE_DELAY",
        "seconds after which a read without an answer is asked a second time, or p95 for the tool's "
        "own 95th percentile; 0 is never",
    )
    # MCP clients give up at about 60 s
    window: Seconds = _is(
        45.0, "MCP_RETRY_WINDOW", "seconds after a call's arrival in which a try may start"
    )


class Breaker(Section):
    """Circuits."""

    enabled: bool = _is(True, "MCP_ENABLE_CIRCUIT_BREAKER", "use circuit breakers")
    failure_threshold: Count = _is(
        5, "MCP_CB_FAILURE_THRESHOLD", "failed tries in a row that open a circuit"
    )
    recovery_timeout: Seconds = _is(
        60.0, "MCP_CB_RECOVERY_TIMEOUT", "seconds until an open circuit lets a probe through"
    )
    failure_rate: Share = _is(
        0.5, "MCP_CB_FAILURE_RATE", "share of failed tries that opens a circuit, too"
    )
    min_volume: Count = _is(20, "MCP_CB_MIN_VOLUME", "tries that the share must be seen in")
    window: Seconds = _is(10.0, "MCP_CB_WINDOW", "seconds in which tries are counted for the share")
    slow_call: SecondsOrNone = _is(
        0.0,
        "MCP_CB_SLOW_CALL",
        "seconds after which an answer counts as a failed try; 0 is never",
    )


class Concurrency(Section):
    """How many calls may be with the server at once."""

    limit: Count = _is(1024, "MCP_CONCURRENCY_LIMIT", "calls with the server at once")
    per_tool: Count = _is(
        256, "MCP_CONCURRENCY_PER_TOOL", "calls of one tool, or one method, with the server at once"
    )
    queue: CountOrNone = _is(
        1024,
        "MCP_CONCURRENCY_QUEUE",
        "calls that may wait, for a second at most, for one of them to end; 0 is none",
    )
    adaptive: bool = _is(
        False,
        "MCP_CONCURRENCY_ADAPTIVE",
        "find a lower limit by how long the server takes to answer",
    )


class RateLimit(Section):
    """How often calls may come."""

    client: RateText | None = _is(
        None,
        "MCP_RATE_LIMIT_CLIENT",
        "calls that a client may make (known by its credentials, else its address), such as 100/minute",
    )
    tool: RateText | None = _is(
        None,
        "MCP_RATE_LIMIT_TOOL",
        "calls of a tool that all clients together may make; a [tools] rule may say another rate_limit",
    )
    client_tool: RateText | None = _is(
        None, "MCP_RATE_LIMIT_CLIENT_TOOL", "calls of a tool that a client may make"
    )


class Signals(Section):
    """What people are told."""

    debug: bool = _is(False, "MCP_DEBUG", "log level debug; reveals nothing more")
    log_level: Literal["debug", "info", "warning", "error"] = _is(
        "info", "MCP_LOG_LEVEL", "lowest level that is logged"
    )
    log_format: Literal["json", "console"] | None = _is(
        None,
        "MCP_LOG_FORMAT",
        "json or console (lines for people); unset: console on a terminal, else json",
    )
    capture: Literal["off", "redacted"] = _is(
        "off",
        "MCP_CAPTURE",
        "redacted: events of tool calls tell the arguments, cut, without what looks like a secret",
    )
    enable_metrics: bool = _is(True, "MCP_ENABLE_METRICS", "serve the metrics endpoint")
    events_replay: Annotated[int, Field(ge=1, le=100_000)] = _is(
        1000, "MCP_EVENTS_REPLAY", "events that are kept for those who watch live"
    )
    events_fanout: Literal["off", "redis"] = _is(
        "off",
        "MCP_EVENTS_FANOUT",
        "redis: the live stream tells the events of all sidecars in front of this server",
    )
    events_window: Seconds = _is(
        5.0, "MCP_EVENTS_WINDOW", "seconds in which equal errors are counted together"
    )
    traces_session_ids: bool = _is(
        False,
        "MCP_TRACES_SESSION_IDS",
        "tell session ids in spans; whoever sees one may speak in it",
    )

    @property
    def lowest_level(self) -> str:
        """Return the level that is in force."""
        return "debug" if self.debug else self.log_level


class Tool(Section):
    """A rule for the tools that its pattern names."""

    read_only: bool | None = None
    idempotent: bool | None = None
    cache: bool = True
    ttl: SecondsOrNone | None = None
    attempt_timeout: Seconds | None = None
    max_concurrency: Count | None = None
    rate_limit: RateText | None = None
    invalidates: Scopes | None = None


class Failures(Section):
    """How to tell a service that is down from a tool that failed."""

    patterns: tuple[str, ...] = ()


class Settings(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    upstream: Upstream
    server: Server = Server()
    cache: Cache = Cache()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    concurrency: Concurrency = Concurrency()
    rate_limit: RateLimit = RateLimit()
    signals: Signals = Signals()
    tools: dict[str, Tool] = {}
    failures: Failures = Failures()
    _origins: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)
    _again: Callable[[], "Settings"] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_owner(self) -> "Settings":
        """Refuse workers where each would run the command for itself, and none know its sessions."""
        if self.upstream.command is not None and self.server.workers > 1:
            raise PydanticCustomError("several_owners", "one worker")
        return self

    @property
    def origins(self) -> Mapping[tuple[str, ...], str]:
        """Return where each value by section and key came from; what is missing is a default."""
        return self._origins

    def remembering(
        self, origins: Mapping[tuple[str, ...], str], again: "Callable[[], Settings]"
    ) -> "Settings":
        """Take note of where the values came from, and how to read them anew; return them."""
        self._origins = dict(origins)
        self._again = again
        return self

    def again(self) -> "Settings":
        """Read the same sources anew; raises SettingsError with every fault."""
        return self._again() if self._again else self


def variables() -> dict[str, tuple[str, str]]:
    """Return for each variable its section and key."""
    return {
        _variable(field): (section, key)
        for section, outer in Settings.model_fields.items()
        if isinstance(outer.annotation, type) and issubclass(outer.annotation, Section)
        for key, field in outer.annotation.model_fields.items()
        if field.json_schema_extra
    }


def _variable(field: FieldInfo) -> str:
    return str(cast("dict[str, Any]", field.json_schema_extra)["variable"])
