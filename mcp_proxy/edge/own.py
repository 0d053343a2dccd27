"""The sidecar's own endpoints (DESIGN section 6); they shadow the server's same paths."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from multidict import CIMultiDict

from mcp_proxy.core.accept import JSON, OPENMETRICS, TEXT, Form, preferred
from mcp_proxy.core.call import EMPTY, Reply, Whole
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import BadRequestError, whole_seconds
from mcp_proxy.core.guesses import Guesses
from mcp_proxy.core.headers import as_bytes
from mcp_proxy.edge import dashboard
from mcp_proxy.edge.live import Live

# Narrowings of a cache clear that are understood; anything else is refused, not ignored: a typing
# mistake must not clear everything.
_NARROWINGS = ("service", "tool", "key", "older_than")
_BODY_LIMIT = 16_384
_LONG = 1e9  # seconds
# What stays on the main port when there is one for operators (DESIGN section 6).
STAYING = frozenset({"/api/health", "/api/metrics", "/api/cache/clear"})
# Nobody is refused these two: an orchestrator asks by whatever name it knows.
PROBES = frozenset({"/livez", "/readyz"})
# They reveal nothing and change nothing, so no token guards them.
OPEN = PROBES | {"/api/health", "/api/events/schema", f"{dashboard.PAGE}/", *dashboard.files()}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from; the assembly joins them."""

    health: Callable[[], Awaitable[tuple[int, dict[str, Any]]]]
    metrics: Callable[[], Awaitable[dict[str, Any]]] | None  # None: MCP_ENABLE_METRICS is false
    # content type and page in TEXT or OPENMETRICS
    prometheus: Callable[[Form], Awaitable[tuple[str, bytes]]]
    clear: Callable[[Mapping[str, str]], Awaitable[dict[str, Any]]]
    # closes the circuit of a name, or all; raises KeyError when there is none of that name
    reset: Callable[[str | None], Awaitable[list[str]]]
    ready: Callable[[], bool]
    live: Live
    config: Callable[[], dict[str, Any]]
    # what has changed; or what is wrong, and nothing has
    reload: Callable[[], Awaitable[tuple[dict[str, Any], list[str]]]]
    event_schema: Mapping[str, Any]


class Own:
    """Answer for ourselves."""

    def __init__(
        self, sources: Sources, admin_token: str | None, clock: Clock, *, moved: bool = False
    ) -> None:
        """With `moved`, most of them are found on another port (MCP_OPS_PORT)."""
        self._sources = sources
        self.token = admin_token  # a reload may bring another
        self._clock = clock
        self._guesses = Guesses()
        self.routes: dict[str, dict[str, Callable[[web.BaseRequest], Awaitable[Reply]]]] = {
            "/livez": {"GET": self._live},
            "/readyz": {"GET": self._ready},
            "/api/health": {"GET": self._health},
            "/api/cache/clear": {"POST": self._clear},
            "/api/circuits/reset": {"POST": self._reset},
            "/api/metrics": {"GET": self._metrics},
            "/api/config": {"GET": self._config},
            "/api/config/reload": {"POST": self._reload},
            "/api/events": {"GET": self._events},
            "/api/events/ws": {"GET": self._event_socket},
            "/api/events/schema": {"GET": self._event_schema},
            "/metrics": {"GET": self._prometheus},
            f"{dashboard.PAGE}/": {"GET": dashboard.moved},
            **{path: {"GET": dashboard.answer} for path in dashboard.files()},
        }

        self._shadowing = STAYING if moved else frozenset(self.routes)
        self._probes = frozenset[str]() if moved else PROBES

    def is_probe(self, path: str) -> bool:
        """Tell whether a path of the main port is one of the two that nobody is refused."""
        return path in self._probes

    def shadows(self, path: str) -> bool:
        """Tell whether a path of the main port is ours."""
        return path in self._shadowing

    async def answer(self, request: web.BaseRequest, path: str, client: str) -> Reply:
        """Answer a request to a path of ours; `client` is whose wrong tokens are counted."""
        methods = self.routes.get(path)
        if methods is None:
            return problem(
                404, "not_found", "This is the port of operators; clients ask that of MCP_PORT."
            )
        if request.method == "OPTIONS":
            return Reply(204, CIMultiDict(Allow=allowed(methods)), EMPTY)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in methods:
            return problem(
                405, "method_not_allowed", f"Use {allowed(methods)}.", Allow=allowed(methods)
            )
        if path not in OPEN:
            refused = self._refusal(request, client)
            if refused is not None:
                return refused
        return await methods[method](request)

    def _refusal(self, request: web.BaseRequest, client: str) -> Reply | None:
        if self.token is None:
            return None
        given = as_bytes(request.headers.get("Authorization", ""))
        if given:  # who shows none, guesses nothing
            now = self._clock.now()
            wait = self._guesses.wait(client, now)
            if wait > 0:  # the right one waits as well: else it would give itself away
                return problem(
                    429,
                    "rate_limited",
                    "Too many wrong tokens came from this address.",
                    {},
                    **{"Retry-After": str(whole_seconds(wait))},
                )
            scheme, _, token = given.partition(b" ")
            right = hmac.compare_digest(token, self.token.encode())
            if right and scheme.lower() == b"bearer":  # in any case (RFC 9110 section 11.1)
                return None
            self._guesses.wrong(client, now)
        return problem(
            401,
            "unauthorized",
            "This endpoint wants MCP_ADMIN_TOKEN as Bearer token.",
            {},
            **{"WWW-Authenticate": 'Bearer realm="mcp-sidecar"'},
        )

    async def _live(self, _: web.BaseRequest) -> Reply:
        """Say that the process lives; the server behind does not matter."""
        return shown({"status": "alive"})

    async def _ready(self, _: web.BaseRequest) -> Reply:
        """Say whether new calls are taken: 503 from SIGTERM on."""
        ready = self._sources.ready()
        return shown({"status": "ready" if ready else "draining"}, 200 if ready else 503)

    async def _health(self, _: web.BaseRequest) -> Reply:
        """Tell the server's own health fields and ours; 503 if the server cannot be reached."""
        status, report = await self._sources.health()
        return shown(report, status)

    async def _metrics(self, request: web.BaseRequest) -> Reply:
        """Tell counts and percentiles as JSON; as Prometheus' formats where `Accept` prefers them."""
        return await self._counts(request, JSON, TEXT, OPENMETRICS)

    async def _prometheus(self, request: web.BaseRequest) -> Reply:
        """Tell the counts in Prometheus' text format, or in OpenMetrics with exemplars."""
        return await self._counts(request, TEXT, OPENMETRICS)

    async def _counts(self, request: web.BaseRequest, *offered: Form) -> Reply:
        if self._sources.metrics is None:
            return problem(404, "not_found", "MCP_ENABLE_METRICS is false.")
        # whoever accepts nothing of it gets what he would get without asking (RFC 9110, 12.5.1)
        form = preferred(",".join(request.headers.getall("Accept", ())), offered) or offered[0]
        if form == JSON:
            return shown(await self._sources.metrics())
        kind, page = await self._sources.prometheus(form)
        fields = {"Content-Type": kind, "Cache-Control": "no-store", "Vary": "Accept"}
        return Reply(200, CIMultiDict(fields), Whole(page))

    async def _config(self, _: web.BaseRequest) -> Reply:
        """Tell the settings in force and where each comes from; secrets are masked."""
        return shown(self._sources.config())

    async def _events(self, request: web.BaseRequest) -> Reply:
        """Stream what happens as server-sent events, with replay and filters."""
        if request.method == "HEAD":
            return Reply(200, CIMultiDict({"Content-Type": "text/event-stream"}), EMPTY)
        return self._sources.live.stream(request)

    async def _event_socket(self, request: web.BaseRequest) -> Reply:
        """Stream the same over a WebSocket, an event a message."""
        return self._sources.live.socket(request)

    async def _event_schema(self, _: web.BaseRequest) -> Reply:
        """Tell the JSON Schemas of the events."""
        return shown(self._sources.event_schema)

    async def _clear(self, request: web.BaseRequest) -> Reply:
        """Drop stored answers: all, or those of a `tool`, a `service`, a `key`, or `older_than` seconds."""
        try:
            narrowed = await _narrowing(request)
        except BadRequestError as error:
            return problem(400, error.code, error.message)
        return shown(await self._sources.clear(narrowed))

    async def _reset(self, request: web.BaseRequest) -> Reply:
        """Close all circuits, or the one that `circuit` names."""
        try:
            name = _circuit(await _asked(request))
        except BadRequestError as error:
            return problem(400, error.code, error.message)
        try:
            return shown({"reset": await self._sources.reset(name)})
        except KeyError:
            return problem(404, "not_found", "There is no circuit of that name.")

    async def _reload(self, request: web.BaseRequest) -> Reply:
        """Read the file and the files of secrets anew, as SIGHUP does."""
        try:
            narrowed = await _asked(request)
        except BadRequestError as error:
            return problem(400, error.code, error.message)
        if narrowed:
            return problem(400, "bad_request", "Nothing can be named: all settings are read anew.")
        said, faults = await self._sources.reload()
        if faults:
            detail = "The settings cannot be used; nothing has changed."
            return problem(422, "settings_rejected", detail, {"faults": faults})
        return shown(said)


async def _narrowing(request: web.BaseRequest) -> dict[str, str]:
    """Return what a clear is narrowed to."""
    asked = await _asked(request)
    return {name: _checked(name, value, asked) for name, value in asked.items()}


def _circuit(asked: Mapping[str, Any]) -> str | None:
    """Return the name of the one circuit that is meant, or None."""
    name = asked.get("circuit")
    if asked.keys() - {"circuit"} or (asked and not (isinstance(name, str) and name)):
        raise BadRequestError("Only circuit is understood, as a text; without it all are meant.")
    return name


async def _asked(request: web.BaseRequest) -> dict[str, Any]:
    """Return what somebody asks for, of the query and a JSON body."""
    asked: dict[str, Any] = dict(request.query)
    if len(asked) < len(request.query):
        raise BadRequestError("Name each narrowing once.")
    data = await _small_body(request)
    if data.strip():
        try:
            body = orjson.loads(data)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise BadRequestError("The body must be a JSON object, or absent: then all is meant.")
        asked |= body
    return asked


def _checked(name: str, value: Any, asked: Mapping[str, Any]) -> str:
    if name == "older_than":
        value = _seconds(value)
    if name not in _NARROWINGS or not isinstance(value, str) or not value:
        raise BadRequestError(
            f"Cannot narrow by {name[:40]!r}; known, as texts: {', '.join(_NARROWINGS)}."
        )
    if name in {"key", "older_than"} and len(asked) > 1:
        raise BadRequestError(f"Narrow by {name} alone.")
    return value


def _seconds(value: Any) -> str:
    """Return seconds as text; they may come as a text (query) or a number (JSON)."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0 <= seconds < _LONG:
        raise BadRequestError("older_than is a number of seconds.")
    return str(seconds)


async def _small_body(request: web.BaseRequest) -> bytes:
    data = b""
    while piece := await request.content.readany():
        data += piece
        if len(data) > _BODY_LIMIT:
            raise BadRequestError("The body is too large.")
    return data


def allowed(methods: Mapping[str, object]) -> str:
    """Return the value of an `Allow` header."""
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])


def shown(value: Mapping[str, Any], status: int = 200) -> Reply:
    """Return a JSON answer that nobody keeps."""
    return Reply(
        status,
        CIMultiDict({"Content-Type": "application/json", "Cache-Control": "no-store"}),
        Whole(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)),
    )


def problem(
    status: int,
    code: str,
    message: str,
    also: Mapping[str, Any] | None = None,
    **headers: str,
) -> Reply:
    """Return an RFC 9457 answer of an endpoint of ours, maybe with members of its own."""
    body = {
        "type": "about:blank",
        "title": code.replace("_", " "),
        "status": status,
        "detail": message,
        "code": code,
        "origin": "proxy",
        **(also or {}),
    }
    fields = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **headers}
    return Reply(status, CIMultiDict(fields), Whole(orjson.dumps(body)))
