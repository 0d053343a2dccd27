"""What settings alone decide of the layers and the inbound edge; none of it holds state."""

from mcp_proxy.core import capture
from mcp_proxy.core.intent import Decisions, Policy
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.origins import Admission
from mcp_proxy.core.peers import Proxies
from mcp_proxy.core.rules import Rule, Rules
from mcp_proxy.core.traffic import Paths, SaidOf, Traffic
from mcp_proxy.edge.inbound import Door
from mcp_proxy.layers.admit import Bounds
from mcp_proxy.layers.ratelimit import Rates
from mcp_proxy.layers.rescue import Style
from mcp_proxy.layers.retry import Backoff
from mcp_proxy.settings import Settings


def door(settings: Settings, pseudonym: str) -> Door:
    """Return what is asked of a request before it is a call; `pseudonym` is our name in Via."""
    server = settings.server
    return Door(
        Admission(server.host, server.allowed_hosts, server.allowed_origins),
        Proxies(server.trusted_proxies),
        pseudonym,
        server.buffer_limit,
        server.max_body_bytes,
        server.body_timeout,
        server.held_bytes,
        server.enrich_responses,
        server.sse_keepalive,
    )


def traffic(settings: Settings, annotated: SaidOf) -> Traffic:
    """Return how requests are told apart; `annotated` knows what the server says of its tools."""
    server, cache = settings.server, settings.cache
    policy = Policy(
        cache.ttl,
        cache.annotated_ttl,
        cache.stale_while_revalidate,
        cache.stale_if_error,
        settings.upstream.trust_annotations,
        Rules(Rule(pattern, **rule.model_dump()) for pattern, rule in settings.tools.items()),
    )
    paths = Paths(server.mcp_path, server.sse_path, server.messages_path, server.tool_routes)
    return Traffic(paths, Decisions(policy), annotated)


def keyring(settings: Settings, server: str) -> Keyring:
    """Return what makes cache keys for answers of the server of that name."""
    cache = settings.cache
    return Keyring(
        server,
        ignored=cache.ignore_headers,
        share_sessions=cache.share_sessions,
        share_public=cache.share_public,
    )


def captured(settings: Settings) -> capture.Captured:
    """Return what a tool call's event tells of its arguments."""
    return capture.arguments if settings.signals.capture == "redacted" else capture.nothing


def style(settings: Settings) -> Style:
    """Return how failures are told."""
    server = settings.server
    return Style(
        tool_result=server.tool_error_style == "result",
        always_200=server.error_status == "compat",
    )


def bounds(settings: Settings, workers: int) -> Bounds:
    """Return how many calls one of the workers lets in.

    What the server bears does not grow with our processes: each gets its share, rounded up.
    """
    concurrency = settings.concurrency
    return Bounds(
        *(
            -(-bound // workers)
            for bound in (concurrency.limit, concurrency.per_tool, concurrency.queue)
        )
    )


def rates(settings: Settings) -> Rates | None:
    """Return the limits of calls per time; None where no limit is set."""
    found = Rates(**settings.rate_limit.model_dump())
    ruled = any(rule.rate_limit for rule in settings.tools.values())
    return found if ruled or found != Rates() else None


def backoff(settings: Settings) -> Backoff:
    """Return how often is asked again, and after which times."""
    retry = settings.retry
    return Backoff(retry.max_retries, retry.backoff_base, retry.backoff_factor, retry.backoff_max)
