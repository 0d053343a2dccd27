"""`mcp-sidecar stats`: what a running sidecar has counted, and how all stands."""

import asyncio
import sys
from collections.abc import Iterator
from shutil import get_terminal_size
from typing import Any

import click

from mcp_proxy.commands.options import as_json, environment
from mcp_proxy.commands.output import cell, say_json, size, some, span, table
from mcp_proxy.commands.running import ask, of_a_sidecar
from mcp_proxy.core.readable import wants_colour
from mcp_proxy.edge.admin import Admin, NoAnswerError
from mcp_proxy.layers.clock import SystemClock

_CLEAR = "\x1b[H\x1b[2J"
_MARKED = {"present": "32", "healthy": "32", "degraded": "33", "restarting": "33"}
_HEAD = ("tool or method", "calls", "errors", "hit ratio", "p50 ms", "p95 ms", "p99 ms")


@click.command
@of_a_sidecar
@click.option("--watch", "-w", is_flag=True, help="Show it anew until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often.",
)
@as_json
def command(
    *, url: str | None, token: str | None, watch: bool, interval: float, as_json: bool
) -> None:
    """Show what a running sidecar has counted.

    Calls, errors, hits and latency of each tool, the server behind, and circuits that are not
    closed. Percentiles are of the last 1024 calls. With --watch and --json: one line each time.
    """
    clock = SystemClock()
    colour = wants_colour(environment(), terminal=sys.stdout.isatty())

    def show(found: dict[str, Any]) -> None:
        if as_json:
            say_json(found, indent=None if watch else 2)
        else:
            page = list(lines(found, colour=colour))
            click.echo("\n".join(_on_screen(page) if watch else page), color=colour)

    async def shown(admin: Admin) -> None:
        show(await look(admin))
        while watch:
            await clock.sleep(interval)
            try:
                show(await look(admin))
            except NoAnswerError as error:  # it was there: it may be starting anew
                click.echo(f"{error}; trying again", err=True)

    try:
        ask(url, token, shown)
    except (KeyboardInterrupt, asyncio.CancelledError):
        if not watch:
            raise


async def look(admin: Admin) -> dict[str, Any]:
    """Return what both endpoints say; a server that is away is no reason to say nothing."""
    return {
        "health": await admin.get("/api/health", 503),
        "metrics": await admin.get("/api/metrics"),
    }


def lines(found: dict[str, Any], *, colour: bool) -> Iterator[str]:
    """Return what people see of it."""
    health, metrics = found["health"], found["metrics"]
    total = metrics["total"]
    yield (
        f"{_marked(health['status'], colour)}, up {span(metrics['uptime_seconds'])}, "
        f"version {cell(health['version'])}; {some(metrics['in_flight'], 'call')} under way, "
        f"{some(metrics['open_streams'], 'stream')}, {some(metrics['sessions'], 'session')}"
    )
    for target in health.get("targets", [health["upstream"]]):
        wrong = f", last error {cell(target['last_error'])}" if target.get("last_error") else ""
        state = _marked(target["state"], colour)
        yield f"upstream {cell(target['target'])}: {state} for {span(target['for_seconds'])}{wrong}"
    kept = metrics["cache"]
    if kept is not None:
        yield (
            f"cache ({cell(kept['store'])}): {some(kept['entries'], 'entry', 'entries')}, "
            f"{size(kept['bytes'])}, hit ratio {total['cache']['hit_ratio']:.0%}"
        )
    circuits = metrics["circuits"]
    troubled = {name: one for name, one in circuits.items() if one["state"] != "closed"}
    yield f"circuits: {len(circuits) - len(troubled)} closed, {len(troubled)} not"
    for name, one in troubled.items():
        left = one["retry_after_s"]
        yield f"  {cell(name)}: {cell(one['state'])}" + (f", next try in {left} s" if left else "")
    yield ""
    tools = sorted(metrics["tools"], key=lambda row: -row["requests"])
    yield from table(_HEAD, [*map(_row, tools), _row({"tool": "total", **total})])


def _on_screen(page: list[str]) -> list[str]:
    """Return a page that takes the place of the one before, where that can be."""
    if not sys.stdout.isatty():
        return page
    first, *rest = fitting(page, *get_terminal_size())
    return [_CLEAR + first, *rest]


def fitting(page: list[str], columns: int, rows: int) -> list[str]:
    """Return the lines that fit on a screen, the first ones; else its top would scroll away."""
    room = rows - 2  # for the word on those that do not, and for the cursor
    for at, line in enumerate(page):
        room -= max(1, -(-len(click.unstyle(line)) // columns))
        if room < 0 < at:
            return [
                *page[:at],
                f"… {some(len(page) - at, 'more line')}; without --watch all are shown",
            ]
    return page


def _row(one: dict[str, Any]) -> list[object]:
    latency = one["latency_ms"]
    name = f"{one['service']}/{one['tool']}" if one.get("service") else one["tool"]
    return [
        name or "(other requests)",
        one["requests"],
        one["errors"],
        f"{one['cache']['hit_ratio']:.0%}",
        *(latency[share] for share in ("p50", "p95", "p99")),
    ]


def _marked(state: str, colour: bool) -> str:  # noqa: FBT001 - one of two arguments
    text = cell(state)
    return f"\x1b[{_MARKED.get(state, '31')}m{text}\x1b[0m" if colour else text
