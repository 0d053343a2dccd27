"""`mcp-sidecar cache`: what a running sidecar keeps, and how to empty it."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from mcp_proxy.commands.options import as_json
from mcp_proxy.commands.output import cell, say_json, say_table, size, some
from mcp_proxy.commands.running import ask, of_a_sidecar

_HEAD = ("tool or method", "entries", "size", "hits", "stale", "misses", "hit ratio", "evicted")


@click.group
def command() -> None:
    """Show or empty the cache of a running sidecar."""


@command.command
@of_a_sidecar
@as_json
def ls(*, url: str | None, token: str | None, as_json: bool) -> None:
    """Show what is kept of each tool, and what it was good for.

    Sizes and entries are those in memory; hits are counted since the start.
    """
    metrics = ask(url, token, lambda admin: admin.get("/api/metrics"))
    rows = [one for one in metrics["tools"] if is_kept(one["cache"])]
    rows.sort(key=lambda one: -one["cache"]["bytes"])
    if as_json:
        tools = [{name: one[name] for name in ("service", "tool", "cache")} for one in rows]
        say_json({"store": metrics["cache"], "tools": tools})
        return
    kept = metrics["cache"]
    if kept is None:
        click.echo("nothing is cached: MCP_CACHE_ENABLED or MCP_ENABLE_CACHING is false", err=True)
        return
    say_table(_HEAD, map(_row, rows))
    down = "; Redis cannot be used: only memory is" if kept.get("redis_up") is False else ""
    click.echo(
        f"{cell(kept['store'])}: {kept['entries']} of {some(kept['max_entries'], 'entry', 'entries')}, "
        f"{size(kept['bytes'])} of {size(kept['max_bytes'])}{down}",
        err=True,
    )


@command.command
@click.option("--tool", metavar="NAME", help="Answers of this tool.")
@click.option("--service", metavar="NAME", help="Answers of this service behind the server.")
@click.option("--key", metavar="KEY", help="One answer: the key in its Cache-Status.")
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Answers that were stored so long ago.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before everything is dropped.")
@of_a_sidecar
@as_json
def clear(*, url: str | None, token: str | None, yes: bool, as_json: bool, **narrowed: Any) -> None:
    """Drop stored answers: all, or those that are named."""
    scope = {name: value for name, value in narrowed.items() if value is not None}
    if not scope and not yes and sys.stdin.isatty():
        click.confirm("Drop all stored answers?", abort=True, err=True)
    found = ask(url, token, lambda admin: admin.post("/api/cache/clear", scope))
    if as_json:
        say_json(found)
        return
    entries = found["entries"]
    count = "stored answers" if entries is None else some(entries, "stored answer")
    click.echo(f"dropped {count} ({scope_of(found['cleared'])})")


def scope_of(cleared: str | Mapping[str, str]) -> str:
    """Return what a clear was narrowed to, as people read it."""
    if isinstance(cleared, str):
        return cleared
    return ", ".join(f"{name} {cell(value)}" for name, value in cleared.items())


def is_kept(facts: Mapping[str, Any]) -> bool:
    """Tell whether the cache had anything to do with a tool (as the dashboard has it)."""
    told = ("hits", "misses", "stale", "collapsed", "entries", "invalidations")
    return any(facts[name] for name in told)


def _row(one: Mapping[str, Any]) -> list[object]:
    facts = one["cache"]
    name = f"{one['service']}/{one['tool']}" if one["service"] else one["tool"]
    return [
        name or "(other requests)",
        facts["entries"],
        size(facts["bytes"]),
        *(facts[each] for each in ("hits", "stale", "misses")),
        f"{facts['hit_ratio']:.0%}",
        facts["evicted"],
    ]
