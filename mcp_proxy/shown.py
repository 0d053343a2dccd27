"""What the own endpoints show of a view: `/api/health`, `/api/metrics`, `/metrics`."""

from typing import Any

from mcp_proxy import __version__
from mcp_proxy.core import report
from mcp_proxy.layers.admit import REASONS
from mcp_proxy.signals.prometheus import Seen
from mcp_proxy.signals.view import Sleep, View


def health(view: View) -> tuple[int, dict[str, Any]]:
    """Return status code and body of `/api/health`."""
    cache = None if view.cache is None else {**view.cache, **view.metrics.cache(view.kept)}
    status, body = report.health(
        report.Facts(
            targets=view.standings,
            circuits=view.circuits,
            cache=cache,
            failures=view.metrics.outcomes,
            tools=view.tools,
            uptime=view.uptime,
            version=__version__,
        )
    )
    return status, {**body, **_workers(view)}


async def metrics(view: View, sleep: Sleep) -> dict[str, Any]:
    """Return the body of `/api/metrics`."""
    return {
        **await view.metrics.snapshot(view.kept, sleep),
        "circuits": view.circuits,
        "cache": view.cache,
        "connections": {"open": 0, "refused": 0, **view.connections},
        "open_streams": view.open_streams,
        "answered_at_once": view.answered_at_once,
        "sessions": view.sessions,
        "concurrency": view.load,
        "errors": view.errors,
        "log_lines_dropped": view.log_lines_dropped,
        "uptime_seconds": round(view.uptime, 3),
        **_workers(view),
    }


def seen(view: View) -> Seen:
    """Return what `/metrics` tells, to be rendered elsewhere."""
    return Seen(
        tools=view.metrics.counted(),
        in_flight=view.metrics.in_flight,
        answered_at_once=view.answered_at_once,
        concurrency=view.load,
        shed={reason: view.load["shed"].get(reason, 0) for reason in REASONS},
        circuits=view.circuits,
        targets=view.reached,
        cache=view.cache,
        sessions=view.sessions,
        open_streams=view.open_streams,
        log_lines_dropped=view.log_lines_dropped,
        began=view.began,
        uptime=view.uptime,
        version=__version__,
        process=view.process,
        workers=view.workers,
    )


def _workers(view: View) -> dict[str, Any]:
    return {} if view.workers is None else {"workers": view.workers._asdict()}
