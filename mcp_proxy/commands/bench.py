"""`mcp-sidecar bench`: what the sidecar costs in front of a server."""

import sys
from typing import Any

import click

from mcp_proxy.commands.children import StartError, quietly_interrupted, run, sidecar
from mcp_proxy.commands.load import Load, NoMcpError, Side, Wish, compare, parsed
from mcp_proxy.commands.options import FAILED, as_json, environment
from mcp_proxy.commands.output import say_json, say_table
from mcp_proxy.edge.admin import base_of
from mcp_proxy.layers.clock import SystemClock


@click.command
@click.option("--upstream", metavar="URL", help="The server; a sidecar is started for the time.")
@click.option("--direct", metavar="URL", help="The server, as it is asked directly.")
@click.option("--through", metavar="URL", help="A sidecar that stands in front of it.")
@click.option("--tool", metavar="NAME", help="Call this tool; by default tools/list is asked for.")
@click.option("--arguments", metavar="JSON", help="Of the tool.")
@click.option("--path", metavar="PATH", help="GET this instead, of a server without MCP.")
@click.option(
    "--requests", type=click.IntRange(10, 1_000_000), default=1000, show_default=True, metavar="N"
)
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=4, show_default=True, metavar="N"
)
@click.option("--max-added-ms", type=float, metavar="MS", help="Exit 1 if the p50 grows by more.")
@click.option(
    "--min-throughput-ratio", type=float, metavar="X", help="Exit 1 if less of it is left."
)
@as_json
def command(*, as_json: bool, **typed: Any) -> None:
    """Compare a server with and without the sidecar.

    Both are asked the same in turns, five rounds each after a warm-up; what is told are medians
    over the rounds. Nothing is answered from the cache. Only what was asked for is called: without
    --tool and --path that is tools/list. A tool that writes, writes.
    """
    wish = _wish(typed)
    urls = _urls(typed)

    async def measured() -> tuple[Side, Side]:
        clock = SystemClock()
        more = (wish, Load(typed["requests"], typed["concurrency"]), clock, _tell)
        if isinstance(urls, tuple):
            return await compare(urls, *more)
        async with sidecar(clock, urls, **_as_here()) as through:
            return await compare((urls, through), *more)

    try:
        direct, through = run(measured)
    except (NoMcpError, StartError) as error:
        raise click.ClickException(_said(error)) from None
    except KeyboardInterrupt:
        quietly_interrupted()
    faults = _faults(direct, through, typed)
    if as_json:
        say_json({**_shown(direct, through), "faults": faults})
    else:
        _show(direct, through)
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        sys.exit(FAILED)


def _wish(typed: dict[str, Any]) -> Wish:
    tool, path = typed["tool"], typed["path"]
    if path and (tool or typed["arguments"]):
        raise click.UsageError("--path is for servers without MCP: it goes without --tool")
    if path:
        if not path.startswith("/"):
            raise click.UsageError("--path: expected a path that begins with /")
        return Wish(path)
    arguments = parsed(typed["arguments"])
    if arguments is None:
        raise click.UsageError("--arguments: expected a JSON object")
    mcp_path = environment().get("MCP_PATH") or "/mcp"
    if not tool:
        if typed["arguments"]:
            raise click.UsageError("--arguments are those of a --tool")
        return Wish(mcp_path, "POST", "tools/list")
    return Wish(mcp_path, "POST", "tools/call", {"name": tool, "arguments": arguments})


def _as_here() -> dict[str, str]:
    """Return what the sidecar must know to be asked as the server is."""
    path = environment().get("MCP_PATH")
    return {"MCP_PATH": path} if path else {}


def _urls(typed: dict[str, Any]) -> str | tuple[str, str]:
    """Return the server alone, or both URLs."""
    upstream, direct, through = typed["upstream"], typed["direct"], typed["through"]
    if bool(upstream) == bool(direct or through) or bool(direct) != bool(through):
        raise click.UsageError("give --upstream, or both --direct and --through")
    try:
        for url in filter(None, (upstream, direct, through)):
            base_of(url)
    except ValueError as error:
        raise click.UsageError(f"expected {error}") from None
    if upstream:
        return str(upstream).rstrip("/")
    return str(direct).rstrip("/"), str(through).rstrip("/")


def _said(error: Exception) -> str:
    if isinstance(error, NoMcpError):
        return f"{error} speaks no MCP to us; name what to GET there with --path"
    return str(error)


def _faults(direct: Side, through: Side, typed: dict[str, Any]) -> list[str]:
    """Return what is not as it was wished to be."""
    found = [
        f"{side.failed} of {side.requests} requests to {side.url} failed"
        for side in (direct, through)
        if side.failed
    ]
    added, least = typed["max_added_ms"], typed["min_throughput_ratio"]
    if added is not None and (more := through.p50_ms - direct.p50_ms) > added:
        found.append(f"{more:.3f} ms are added, more than {added:g}")
    if least is not None and (ratio := through.throughput / direct.throughput) < least:
        found.append(f"{ratio:.3f} of the throughput is left, less than {least:g}")
    return found


def _shown(direct: Side, through: Side) -> dict[str, Any]:
    return {
        "direct": direct._asdict(),
        "through": through._asdict(),
        "added_p50_ms": round(through.p50_ms - direct.p50_ms, 3),
        "added_p99_ms": round(through.p99_ms - direct.p99_ms, 3),
        "throughput_ratio": round(through.throughput / direct.throughput, 3),
    }


def _show(direct: Side, through: Side) -> None:
    shown = _shown(direct, through)
    rows = [
        (name, one.requests, one.failed, one.throughput, f"{one.p50_ms:.3f}", f"{one.p99_ms:.3f}")
        for name, one in (("direct", direct), ("through", through))
    ]
    say_table(("", "requests", "failed", "per second", "p50 ms", "p99 ms"), rows)
    click.echo(
        f"added: {shown['added_p50_ms']:.3f} ms at the median, {shown['added_p99_ms']:.3f} ms at p99; "
        f"{shown['throughput_ratio']:.0%} of the throughput"
    )


def _tell(text: str) -> None:
    click.echo(text, err=True)
