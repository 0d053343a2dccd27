"""What may go wrong between a sidecar with these settings, its server and Redis. No tool is called."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from mcp_proxy.commands.looking import Found, Looker, looking
from mcp_proxy.commands.output import some
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.jsonrpc import STATELESS_SINCE
from mcp_proxy.core.origins import is_loopback
from mcp_proxy.core.rules import Rule, Rules
from mcp_proxy.stores.inspection import Inspected, inspect
from mcp_proxy.upstream.discovery import stream

OK, WARNING, ERROR = "ok", "warning", "error"
_PATIENCE = 3.0  # seconds for the first word of a stream
_SKEW = 5.0  # seconds; a Date header is a second old by itself
_NAMED = 8  # tools that are named; there may be hundreds
_PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
_JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: str
    about: str
    said: str
    remedy: str = ""


async def examine(settings: Any, clock: Clock) -> AsyncIterator[Finding]:
    """Look at everything, one after the other."""
    for finding in exposure(settings):
        yield finding
    async with looking(settings) as lookers:
        for looker in lookers:
            async for finding in _server(looker, settings, clock):
                yield finding
    url = settings.cache.redis_url
    if url is not None:
        found = await inspect(url.get_secret_value(), clock.now, clock.epoch)
        for finding in redis(found):
            yield finding


def exposure(settings: Any) -> Iterator[Finding]:
    """Look at who may reach the sidecar's own endpoints."""
    server = settings.server
    if is_loopback(server.host.strip("[]")) or server.admin_token is not None:
        token = "with" if server.admin_token is not None else "without"
        yield Finding(OK, "exposure", f"listens on {server.host}, {token} MCP_ADMIN_TOKEN")
    else:
        yield Finding(
            WARNING,
            "exposure",
            f"listens on {server.host} without MCP_ADMIN_TOKEN: whoever reaches it may clear the "
            "cache, close circuits and read events",
            "set MCP_ADMIN_TOKEN (or MCP_ADMIN_TOKEN_FILE), or listen on localhost",
        )
    if "*" in server.allowed_hosts:
        yield Finding(
            WARNING,
            "exposure",
            "MCP_ALLOWED_HOSTS is *: any page may reach it by DNS rebinding",
            "list the names under which clients call it",
        )


async def _server(looker: Looker, settings: Any, clock: Clock) -> AsyncIterator[Finding]:
    name = looker.server.name
    found = await looker.found(settings.upstream.health_path)
    yield reachable(found, settings)
    if found.status is None:
        return
    host = await _host(looker, settings)
    yield host
    if host.level == ERROR:
        return  # whatever is asked, the answer is the same
    yield protocol(found)
    async for finding in _origins(looker, settings):
        yield finding
    if found.eras:
        yield await _streaming(looker, found)
    yield skew(f"clock of {name}", await _date(looker, settings), clock.wall())
    if found.tools is not None:
        yield tools(found, settings)


def reachable(found: Found, settings: Any) -> Finding:
    """Look at whether the server is there, and alive."""
    about = f"server {found.name}"
    if found.status is None:
        return Finding(
            ERROR,
            about,
            f"cannot be reached ({found.why})",
            _to_reach(found, settings),
        )
    path = settings.upstream.health_path
    if not found.works:
        return Finding(
            ERROR,
            about,
            f"answers {path} with {found.status}: it counts as unhealthy",
            "repair it, or name a page that is below 500 with MCP_HEALTH_PATH",
        )
    return Finding(OK, about, f"answers {path} with {found.status}")


def _to_reach(found: Found, settings: Any) -> str:
    if settings.upstream.arguments:
        return "run it by hand and look at its stderr, or correct MCP_UPSTREAM_COMMAND"
    if "certificate" in found.cause:
        return (
            "name its authority (or itself, if it signed itself) in a PEM file with SSL_CERT_FILE; "
            "MCP_UPSTREAM_URL must have a name that the certificate has"
        )
    return "start it, or correct MCP_UPSTREAM_URL"


def protocol(found: Found) -> Finding:
    """Look at which MCP it speaks."""
    if not found.eras:
        return Finding(
            WARNING,
            "protocol",
            "speaks no MCP to us: it has none, wants credentials, or has it elsewhere",
            "if it has MCP: name its path with MCP_PATH; with credentials its clients are served, "
            "but its tools' annotations are learned only from their lists",
        )
    kinds = {True: "stateless", False: "handshake"}
    said = [f"{revision} ({kinds[revision >= STATELESS_SINCE]})" for revision in found.eras]
    return Finding(OK, "protocol", f"speaks MCP {', '.join(said)}")


async def _host(looker: Looker, settings: Any) -> Finding:
    """Look at whether its defence against DNS rebinding is in our way."""
    authority = looker.server.origin.partition("//")[2]
    sent = settings.upstream.own_host or authority
    if await _refuses(looker, {}, 421):
        local = f"localhost:{authority.rpartition(':')[2]}"
        hint = ""
        if not await _refuses(looker, {"Host": local}, 421):
            hint = f", or set MCP_UPSTREAM_HOST_HEADER={local}"
        return Finding(
            ERROR,
            "Host",
            f"the server refuses the Host that the sidecar sends ({sent}) with 421",
            "allow it there (in the Python SDK: TransportSecuritySettings.allowed_hosts)" + hint,
        )
    if settings.upstream.host_header == "client":
        return Finding(
            WARNING,
            "Host",
            "MCP_UPSTREAM_HOST_HEADER is client: the server sees whatever clients dial",
            "see that it knows each of these names",
        )
    return Finding(OK, "Host", f"the server takes the Host that the sidecar sends ({sent})")


async def _origins(looker: Looker, settings: Any) -> AsyncIterator[Finding]:
    """Look at whether it takes the pages that we let pass."""
    origins = [one for one in settings.server.allowed_origins if one != "*"]
    refused = [one for one in origins if await _refuses(looker, {"Origin": one}, 403)]
    if refused:
        yield Finding(
            WARNING,
            "Origin",
            f"the server refuses {', '.join(refused)}, which MCP_ALLOWED_ORIGINS lets pass",
            "allow it there, too (in the Python SDK: TransportSecuritySettings.allowed_origins)",
        )
    elif origins:
        yield Finding(OK, "Origin", "the server takes all of MCP_ALLOWED_ORIGINS")


async def _refuses(looker: Looker, headers: Mapping[str, str], status: int) -> bool:
    """Tell whether a ping is refused so; it belongs to no session, and opens none."""
    found = await looker.look.ask("POST", looker.mcp_path, {**_JSON, **headers}, _PING)
    return not isinstance(found, str) and found[0] == status


async def _streaming(looker: Looker, found: Found) -> Finding:
    """Look at whether the server's own stream says its first word while it is open."""
    if STATELESS_SINCE in found.eras:
        method, headers, body = stream(None)
        begun = await looker.look.begin(method, looker.mcp_path, headers, body, _PATIENCE)
        return streaming(begun, speaks=True)
    session = await looker.discovery.opened()
    if session is None:
        return Finding(
            WARNING, "streaming", "the server opens no second session", "look at its log"
        )
    try:
        method, headers, body = stream(session)
        begun = await looker.look.begin(method, looker.mcp_path, headers, body, _PATIENCE)
        return streaming(begun, speaks=False)
    finally:
        await looker.discovery.end(session)


def streaming(begun: tuple[int, dict[str, str], bytes] | str, *, speaks: bool) -> Finding:
    """Judge how a stream began; `speaks`: its first event is due at once."""
    remedy = (
        "what stands between (nginx: proxy_buffering off; no compression of text/event-stream) must "
        "pass events on as they come"
    )
    if isinstance(begun, str):
        said = f"the server's stream has no head within {_PATIENCE:g} s ({begun})"
        return Finding(WARNING, "streaming", said, remedy)
    status, headers, first = begun
    if not headers.get("content-type", "").startswith("text/event-stream"):
        return Finding(OK, "streaming", f"the server has no stream of its own ({status})")
    if "content-encoding" in headers:
        said = f"event streams come compressed ({headers['content-encoding']})"
        return Finding(WARNING, "streaming", said, remedy)
    if first:
        return Finding(OK, "streaming", "the first event came while the stream was open")
    if speaks:
        said = f"the stream opens, but its first event did not come within {_PATIENCE:g} s"
        return Finding(WARNING, "streaming", said, remedy)
    return Finding(OK, "streaming", "the stream opens at once; it has said nothing yet")


async def _date(looker: Looker, settings: Any) -> datetime | None:
    found = await looker.look.ask("GET", settings.upstream.health_path, {})
    if isinstance(found, str):
        return None
    try:
        return parsedate_to_datetime(found[1]["date"])
    except (KeyError, ValueError):
        return None


def skew(about: str, theirs: datetime | None, ours: datetime) -> Finding:
    """Compare two clocks."""
    if theirs is None or theirs.tzinfo is None:
        return Finding(OK, about, "the server tells no Date")
    ahead = (theirs - ours).total_seconds()
    if abs(ahead) <= _SKEW:
        return Finding(OK, about, "agrees with ours")
    return Finding(
        WARNING,
        about,
        f"is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours",
        "let NTP set both: a Retry-After that is a date, and the times in logs, are off by that",
    )


def tools(found: Found, settings: Any) -> Finding:
    """Look at which tools nobody has said anything of."""
    rules = Rules(Rule(pattern, **rule.model_dump()) for pattern, rule in settings.tools.items())
    unsaid = [
        name
        for name, annotations in _annotated(found.tools or ())
        if not _is_said(rules.find("", name), annotations, settings)
    ]
    about, count = "tools", len(found.tools or ())
    if not unsaid:
        return Finding(OK, about, f"{some(count, 'tool')}, each with a rule or annotations")
    named = ", ".join(unsaid[:_NAMED]) + (", …" if len(unsaid) > _NAMED else "")
    return Finding(
        WARNING,
        about,
        f"{len(unsaid)} of {some(count, 'tool')} count as writes, as nobody says what they are: {named}",
        'say so of reads: [tools."name*"] read_only = true; writes are best left as they are',
    )


def _annotated(listed: Sequence[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in listed:
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            said = one.get("annotations")
            yield one["name"], said if isinstance(said, dict) else {}


def _is_said(rule: Rule, annotations: Mapping[str, Any], settings: Any) -> bool:
    if rule.read_only is not None or rule.idempotent is not None:
        return True
    hints = ("readOnlyHint", "idempotentHint", "destructiveHint")
    return bool(settings.upstream.trust_annotations) and any(
        isinstance(annotations.get(hint), bool) for hint in hints
    )


def redis(found: Inspected) -> Iterator[Finding]:
    """Judge what was found of Redis."""
    if found.trouble:
        yield Finding(
            ERROR,
            "redis",
            f"cannot be used ({found.trouble}): answers and limits stay with each sidecar",
            "start it, or correct REDIS_URL",
        )
        return
    yield Finding(OK, "redis", f"version {found.version}, {found.seconds * 1000:.1f} ms away")
    if found.slow:
        yield Finding(
            WARNING,
            "redis",
            f"a PING takes {found.seconds * 1000:.0f} ms; a call waits 50 ms for Redis at most",
            "bring it nearer",
        )
    if found.limit and found.policy == "noeviction":
        yield Finding(
            WARNING,
            "redis",
            "maxmemory-policy is noeviction: when it is full, nothing more is kept",
            "set maxmemory-policy to allkeys-lru, or to volatile-lru if others keep data there",
        )
    if not found.limit:
        yield Finding(
            WARNING,
            "redis",
            "maxmemory is not set: answers end by time alone",
            "set maxmemory, and maxmemory-policy to allkeys-lru",
        )
    if abs(found.ahead) > _SKEW:
        yield Finding(
            WARNING,
            "clock of redis",
            f"is {abs(found.ahead):.0f} s {'ahead of' if found.ahead > 0 else 'behind'} ours",
            "let NTP set both",
        )
