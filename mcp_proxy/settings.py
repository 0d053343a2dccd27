"""The settings: one frozen model, the only place that knows a default or reads the environment.

flags > environment > file > defaults. Every wrong value is reported at once, with its key, where
it came from, what was got, what was expected, and the nearest known key.
"""

import difflib
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mcp_proxy.core.addresses import address
from mcp_proxy.core.origins import hostname, ip_literal
from mcp_proxy.core.peers import network
from mcp_proxy.core.rates import rate
from mcp_proxy.core.scopes import of_pattern

PREFIX = "MCP_"
# Of a URL that cannot be used, what is scheme, host, port and path beyond doubt.
_HARMLESS_URL = re.compile(r"(\w+://)?[\w.-]*(:\d{1,6})?(/[\w./-]*)?")
# What a browser sends (RFC 6454 section 6.2; extensions have schemes of their own), and a slash.
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#*]+/?", re.ASCII | re.IGNORECASE)
_PATH = re.compile(r"/[^\s?#]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


class SettingsError(Exception):
    """Settings that cannot be used; `faults` holds one line for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _listed(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if (isinstance(value, str))
        else value
    )


def _usable_url(value: SecretStr) -> SecretStr:
    try:
        address(value.get_secret_value(), "/")
    except ValueError:  # its text may quote what was meant as a password
        raise ValueError(
            "an http:// or https:// URL with a host, and without query and fragment, "
            "such as http://localhost:9000"
        ) from None
    return value


def _several(value: object) -> object:
    """Read a list of URLs; a comma inside of one belongs to it."""
    if not isinstance(value, str):
        return value
    return re.split(r"\s*,\s*(?=\w+://)", value.strip(", "))


def _distinct(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not value or len({address(one.get_secret_value(), "/").name for one in value}) < len(value):
        raise ValueError("one or more URLs of different servers")
    return value


def _usable_command(value: SecretStr) -> SecretStr:
    try:
        words = shlex.split(value.get_secret_value())
    except ValueError:
        words = []
    if not words or not words[0]:
        raise ValueError("a command such as 'python server.py', its quotes in pairs")
    return value


def _usable_redis(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a URL such as redis://localhost:6379/0, rediss://… or unix://…")
    return value


def _target(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("a path that begins with /")
    return value


def _path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError("a path that begins with /, without a query")
    return value


def _each(fits: Callable[[str], object], words: str) -> AfterValidator:
    """Return what refuses a list with a name that does not fit; `words` say what does."""

    def checked(value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(fits, value)):
            raise ValueError(words)
        return value

    return AfterValidator(checked)


def _is_network(text: str) -> bool:
    try:
        network(text)
    except ValueError:
        return False
    return True


def _is_host(name: str) -> bool:
    return name == "*" or hostname(name) is not None or ip_literal(name) is not None


def _host_header(value: str) -> str:
    if hostname(value) is None:
        raise ValueError("upstream, client, or a host name such as mcp.example.com:8080")
    return value


def _public_url(value: str) -> str:
    try:
        address(value, "/")
    except ValueError:
        raise ValueError("a URL such as https://mcp.example.com") from None
    return value


def _rate(value: str) -> str:
    rate(value)  # raises what is expected
    return value


def _delay(value: object) -> object:
    with suppress(ValueError):
        if value == "p95" or 0 <= float(str(value)) <= 86_400:
            return value
    raise ValueError("seconds, or p95")


# one text with commas, or a list
_Listed = str | list[str]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=_Listed)]


def _scopes(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        of_pattern(pattern)
    return value


Scopes = Annotated[tuple[str, ...], AfterValidator(_scopes)]
Networks = Annotated[
    Names, _each(_is_network, "addresses or networks such as 10.0.0.0/8, 192.0.2.7, ::1")
]
Paths = Annotated[Names, _each(_PATH.fullmatch, "paths that begin with /, without a query")]
Hosts = Annotated[Names, _each(_is_host, "host names such as mcp.example.com, or * for any")]
Origins = Annotated[
    Names, _each(_ORIGIN.fullmatch, "origins such as https://app.example.com, or * for any")
]
HeaderNames = Annotated[Names, _each(_TOKEN.fullmatch, "names of headers such as X-Client-Version")]
HostHeader = Annotated[str, AfterValidator(_host_header)]
PublicUrl_ = Annotated[str, AfterValidator(_public_url)]
Path_ = Annotated[str, AfterValidator(_path)]
Target = Annotated[str, AfterValidator(_target)]  # with a query, perhaps
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]  # 0 switches off
Delay = Annotated[
    float | Literal["p95"],
    BeforeValidator(_delay, json_schema_input_type=SecondsOrNone | Literal["p95"]),
]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000)]  # 0 switches off
RateText = Annotated[str, AfterValidator(_rate)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=1 << 40)]
Url = Annotated[SecretStr, AfterValidator(_usable_url)]  # it may hold a password
Urls = Annotated[
    tuple[Url, ...],
    BeforeValidator(_several, json_schema_input_type=_Listed),
    AfterValidator(_distinct),
]
CommandLine = Annotated[SecretStr, AfterValidator(_usable_command)]  # arguments may be secrets
RedisUrl = Annotated[SecretStr, AfterValidator(_usable_redis)]


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
    mcp_path: Path_ = _is("/mcp", "MCP_PATH", "where Streamable HTTP is spoken")
    sse_path: Path_ = _is("/sse", "MCP_SSE_PATH", "where legacy HTTP+SSE streams begin")
    messages_path: Path_ = _is(
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
    public_url: PublicUrl_ | None = _is(
        None,
        "MCP_PUBLIC_URL",
        "our URL for clients; rewrites OAuth resource metadata (docs/wire.md has the limits)",
    )
    admin_token: SecretStr | None = _is(
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
        "with REDIS_URL: when Redis is written, at once or later",
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


# Read before the model is: it says where the file is.
FILE_VARIABLE = "MCP_CONFIG_FILE"


def variables() -> dict[str, tuple[str, str]]:
    """Return for each variable its section and key."""
    return {
        _variable(field): (section, key)
        for section, outer in Settings.model_fields.items()
        if isinstance(outer.annotation, type) and issubclass(outer.annotation, Section)
        for key, field in outer.annotation.model_fields.items()
        if field.json_schema_extra
    }


_OTLP = "OTEL_EXPORTER_OTLP_"


def traces_wanted(environ: Mapping[str, str]) -> tuple[bool, str]:
    """Tell whether the standard OTEL_* variables ask for traces; with a warning if we cannot.

    They do where they say where to, or name the exporter; an empty one is unset (OpenTelemetry,
    environment variables). The SDK's own default, a collector on this machine, would be a surprise.
    """

    def said(*names: str) -> str:
        return next((environ[name].strip().lower() for name in names if environ.get(name)), "")

    exporters = [name.strip() for name in said("OTEL_TRACES_EXPORTER").split(",") if name.strip()]
    asked = exporters or said(f"{_OTLP}TRACES_ENDPOINT", f"{_OTLP}ENDPOINT")
    if not asked or exporters == ["none"] or said("OTEL_SDK_DISABLED") == "true":
        return False, ""
    if exporters and "otlp" not in exporters:
        return False, "OTEL_TRACES_EXPORTER: only otlp is spoken here, so no trace is told"
    if said(f"{_OTLP}TRACES_PROTOCOL", f"{_OTLP}PROTOCOL") not in {"", "http/protobuf"}:
        return False, f"{_OTLP}PROTOCOL: only http/protobuf is spoken here, so no trace is told"
    return True, ""


def _variable(field: FieldInfo) -> str:
    return str(cast("dict[str, Any]", field.json_schema_extra)["variable"])


def _is_secret(section: str, key: str) -> bool:
    field = cast("type[Section]", Settings.model_fields[section].annotation).model_fields[key]
    return "SecretStr" in str(field.annotation)


def _nested(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return values by path as tables in tables."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        table = nested
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    return nested


class Loader:
    """Read the sources, in order of precedence, and remember where each value came from."""

    def __init__(
        self,
        flags: Mapping[str, Any],
        environ: Mapping[str, str],
        *,
        anew: bool = False,
    ) -> None:
        self._sources = (flags, environ)
        self._anew = anew  # what can be read only once, such as a pipe, is a fault then
        self._origins: dict[tuple[str, ...], str] = {}
        self._faults: list[str] = []
        self._known = variables()
        self.warnings: list[str] = []
        self._flags = self._flat_flags(flags)
        self._environment = self._read_environment(environ)
        file = flags.get(FILE_VARIABLE) or environ.get(FILE_VARIABLE)
        self._file = self._read_file(Path(file)) if file else {}

    def load(self) -> Settings:
        """Return the settings; raises SettingsError with every fault."""
        sources = (self._flags, self._environment, self._file)

        class Loaded(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                *_: PydanticBaseSettingsSource,
                **__: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return tuple(
                    InitSettingsSource(settings_cls, init_kwargs=_nested(values))
                    for values in sources
                )

        try:
            settings = Loaded()  # type: ignore[call-arg]  # the sources bring what it needs
        except ValidationError as error:
            self._faults += [self._fault(fault) for fault in error.errors()]
        else:
            if not self._faults:
                return settings.remembering(
                    self._origins, lambda: Loader(*self._sources, anew=True).load()
                )
        raise SettingsError(self._faults)

    def _flat_flags(self, flags: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
        values = {}
        for variable, value in flags.items():
            if value is not None and variable in self._known:
                path = self._known[variable]
                values[path] = value
                self._origins[path] = "command line"
        return cast("dict[tuple[str, ...], Any]", values)

    def _read_environment(self, environ: Mapping[str, str]) -> dict[tuple[str, ...], Any]:
        values: dict[tuple[str, ...], Any] = {}
        for variable, path in self._known.items():
            value = environ.get(variable)
            if not value and _is_secret(*path):
                value = self._secret(environ, f"{variable}_FILE")
            if value:  # an empty variable means the default, as Compose files leave them
                values[path] = value
                self._origins.setdefault(path, "environment")
        self.warnings += list(self._strangers(environ))
        _, warning = traces_wanted(environ)
        self.warnings += [warning] if warning else []
        return values

    def _secret(self, environ: Mapping[str, str], variable: str) -> str | None:
        file = environ.get(variable)
        if not file:
            return None
        try:
            secret = self._text(Path(file)).strip()
        except OSError as error:
            expected = f"a readable file ({error.strerror})"
        except ValueError:  # no UTF-8, or no name that a file can have
            expected = "a text file"
        else:
            if secret:
                return secret
            expected = "a file that is not empty"  # else what it guards would stand open
        self._faults.append(f"{variable} (environment): got {file!r}, expected {expected}")
        return None

    def _text(self, path: Path) -> str:
        if self._anew and path.exists() and not path.is_file():
            raise OSError(0, "it is a pipe or the like, which can be read only once")
        return path.read_text(encoding="utf-8")

    def _strangers(self, environ: Mapping[str, str]) -> Iterator[str]:
        secrets = {f"{name}_FILE" for name, path in self._known.items() if _is_secret(*path)}
        for variable in environ:
            known = variable in self._known or variable in secrets or variable == FILE_VARIABLE
            if variable.startswith(PREFIX) and not known:
                yield f"{variable} (environment): unknown variable{nearest(variable, self._known)}"

    def _read_file(self, path: Path) -> dict[tuple[str, ...], Any]:
        try:
            tables = tomllib.loads(self._text(path))
        except OSError as error:
            self._faults.append(
                f"{FILE_VARIABLE}: got {str(path)!r}, expected a readable file ({error.strerror})"
            )
            return {}
        except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, nested too deep
            self._faults.append(f"{FILE_VARIABLE}: {path} is no TOML: {error}")
            return {}
        values: dict[tuple[str, ...], Any] = {}
        for section, table in tables.items():
            if isinstance(table, dict) and section in Settings.model_fields:
                values |= {(section, key): value for key, value in table.items()}
            else:
                values[section,] = table
        for key in (*values, *((section,) for section in tables)):
            self._origins.setdefault(key, f"file {path}")
        return values

    def _fault(self, fault: Any) -> str:
        """Return one line for a fault that the model found."""
        where = tuple(str(part) for part in fault["loc"])
        path = where[:2]
        variable = next((name for name, known in self._known.items() if known == path), None)
        key = variable if variable and not self._from_file(path) else ".".join(where)
        if fault["type"] in {"missing", "no_server"}:
            return (
                "MCP_UPSTREAM_URL: missing; give the server's URL, such as http://localhost:9000, "
                "or its command in MCP_UPSTREAM_COMMAND"
            )
        if fault["type"] == "two_servers":
            return self._two_servers()
        if fault["type"] == "several_owners":
            return (
                f"MCP_WORKERS ({self._origins.get(('server', 'workers'))}): more than one, beside "
                "MCP_UPSTREAM_COMMAND, whose processes belong to one; leave MCP_WORKERS out"
            )
        origin = f" ({self._origins[path]})" if path in self._origins else ""
        if fault["type"] == "extra_forbidden":
            return f"{key}{origin}: unknown key{nearest(where[-1], _siblings(where))}"
        whole_table = len(path) == 1
        secret = whole_table or (variable is not None and _is_secret(*path))
        got = _shown(fault["input"], secret=secret)
        message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
        return f"{key}{origin}: got {got}, expected {message}"

    def _two_servers(self) -> str:
        url, command = (self._origins.get(("upstream", key)) for key in ("url", "command"))
        return (
            f"MCP_UPSTREAM_URL ({url}) and MCP_UPSTREAM_COMMAND ({command}): both are set; "
            "a sidecar has one server, so leave one of them out"
        )

    def _from_file(self, path: tuple[str, ...]) -> bool:
        return self._origins.get(path, "").startswith("file")


def _shown(value: object, *, secret: bool) -> str:
    """Return a wrong value as it may be printed: tables may hold secrets, URLs passwords."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if secret and not (isinstance(value, str) and _HARMLESS_URL.fullmatch(value)):
        return "a secret"
    try:
        return repr(value)
    except ValueError:  # Python spells no integer beyond 4300 digits
        return "a very long number"


def _siblings(where: tuple[str, ...]) -> list[str]:
    """Return the keys that are known where an unknown one stands."""
    if len(where) == 1:
        return list(Settings.model_fields)
    if where[0] == "tools":
        return list(Tool.model_fields)
    return list(cast("type[Section]", Settings.model_fields[where[0]].annotation).model_fields)


def nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return "; did you mean …?" when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
