"""What an operator should think of before somebody else does: settings that work, and may not be meant."""

from collections.abc import Iterator

from mcp_proxy import behind
from mcp_proxy.core.origins import is_loopback
from mcp_proxy.edge.descriptors import places, raise_limit
from mcp_proxy.settings import Settings

# Connections that a small office opens in a day; where descriptors allow fewer, that is told.
_FEW = 1000
# Characters of a token that nobody finds by trying.
_LONG_ENOUGH = 16


def cautions(settings: Settings) -> list[str]:
    """Return what an operator should know of the settings; a line of a terminal each."""
    return [
        *_openness(settings),
        *_descriptors(settings),
        *_path(settings),
        *_fanout(settings),
    ]


def _openness(settings: Settings) -> Iterator[str]:
    server = settings.server
    token = server.admin_token
    if is_loopback(server.host):
        return
    if token is None:
        yield (
            f"MCP_HOST {server.host} is open to others, who may read events and clear the cache: "
            "set MCP_ADMIN_TOKEN"
        )
    elif len(token.get_secret_value()) < _LONG_ENOUGH:
        yield f"MCP_ADMIN_TOKEN has less than {_LONG_ENOUGH} characters: it can be guessed"


def _descriptors(settings: Settings) -> Iterator[str]:
    wanted = settings.server.connections_limit
    descriptors = raise_limit()
    room = places(wanted, descriptors)
    asked = ("server", "connections_limit") in settings.origins
    if room < wanted and (room < _FEW or asked):
        yield (
            f"MCP_CONNECTIONS_LIMIT is {wanted}, but {descriptors} descriptors (ulimit -n) are "
            f"enough for {room} clients"
        )


def _path(settings: Settings) -> Iterator[str]:
    """Tell of a URL that is that of the MCP endpoint, which clients name themselves."""
    path = settings.server.mcp_path
    if path == "/":  # each URL ends there
        return
    servers = behind.addresses(settings)
    if any(one.ends_at_mcp for one in servers):
        yield (
            f"the path of MCP_UPSTREAM_URL is MCP_PATH ({path}): it is dropped, as clients name it "
            "themselves"
        )
    if any(one.prefix.endswith(settings.server.sse_path) for one in servers):
        yield (
            f"the path of MCP_UPSTREAM_URL ends in MCP_SSE_PATH ({settings.server.sse_path}), which "
            "clients name themselves: the server hears it twice; leave it out unless that is meant"
        )
    if any(one.prefix.endswith(path.rstrip("/")) for one in servers):
        yield (
            f"the path of MCP_UPSTREAM_URL ends in MCP_PATH ({path}), which clients name themselves: "
            "the server hears it twice; leave it out unless that is meant"
        )


def _fanout(settings: Settings) -> Iterator[str]:
    if settings.signals.events_fanout == "redis" and settings.cache.redis_url is None:
        yield "MCP_EVENTS_FANOUT=redis needs REDIS_URL: events stay with this sidecar"
