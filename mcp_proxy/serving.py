"""Serve in this process: from settings that can be used to the exit code."""

import asyncio
import atexit
import gc
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from mcp_proxy import __version__
from mcp_proxy.core.clock import Emit
from mcp_proxy.core.readable import Style, wants_colour
from mcp_proxy.layers.trace import Spans
from mcp_proxy.settings import Settings, traces_wanted
from mcp_proxy.signals import foreign
from mcp_proxy.signals.console import Console
from mcp_proxy.signals.logs import Log

# Exit codes (DESIGN section 8).
FAILED, UNCLEAN = 1, 3
# Seconds from the drain to the end of the process, lines of the log aside: with a grace of 8 s all
# is over before Docker kills, which it does after 10 s.
_REST = 0.9


def open_log(settings: Settings) -> Log:
    """Open the log, for people on a terminal; nothing else is printed from then on."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    form = settings.signals.log_format or ("console" if terminal else "json")
    style = Style(wants_colour(os.environ, terminal=terminal))  # noqa: TID251 - handed on
    log = Log(
        settings.signals.lowest_level,
        foreign.stdout_alone(),
        Console(style) if form == "console" else None,
    )
    foreign.take_over(log)
    atexit.register(log.close)
    return log


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it is installed (5 to 25 % less CPU), else on asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.run(work)
    return int(uvloop.run(work))


def spans(log: Emit) -> Spans | None:
    """Return where traces go, if OTEL_* says so; nothing of OpenTelemetry is imported otherwise."""
    if not traces_wanted(os.environ)[0]:  # noqa: TID251 - the SDK reads the rest of them itself
        return None
    try:
        from mcp_proxy.signals.traces import over_otlp  # noqa: PLC0415 - optional

        return over_otlp()
    except ImportError:
        message = "OTEL_* asks for traces: install mcp-sidecar[otel]"
    except ValueError:  # its text may quote what was meant as a secret
        message = "OTEL_* has a value that OpenTelemetry cannot use, so no trace is told"
    log("config.warning", "warning", message=message)
    return None


async def serve(settings: Settings, warnings: list[str], log: Log) -> int:
    """Serve until told to stop; return the exit code."""
    # here, so that what libraries say when they are imported is told as events
    from mcp_proxy.assembly import Sidecar  # noqa: PLC0415
    from mcp_proxy.edge.pool import parser_is_compiled  # noqa: PLC0415
    from mcp_proxy.edge.serve import listen, until_stopped  # noqa: PLC0415

    sidecar = Sidecar(settings, log, spans=spans(log))
    foreign.take_over(sidecar.emit, elsewhere=log)
    for warning in warnings:
        sidecar.emit("config.warning", "warning", message=warning)
    if not parser_is_compiled():
        sidecar.emit("config.warning", "warning", message="aiohttp runs without its C parser")
    if any(target.address.ends_at_mcp for target in sidecar.targets):
        sidecar.emit(
            "config.warning",
            "warning",
            message=(
                f"the path of MCP_UPSTREAM_URL is MCP_PATH ({settings.server.mcp_path}): it is dropped, "
                "as clients name it themselves"
            ),
        )
    try:
        runner, urls = await listen(sidecar.inbound, settings.server.host, settings.server.port)
    except OSError as error:
        complain_of_the_port(settings, error)
        await sidecar.aclose()
        log.close()
        return FAILED
    sidecar.start()
    # What is loaded by now lives as long as we do: the collector need not look at it each time.
    gc.collect()
    gc.freeze()
    # A call leaves hardly any cycles behind: looking for them less often saves 3 %.
    gc.set_threshold(10_000)
    sidecar.emit(
        "proxy.started",
        version=__version__,
        urls=urls,
        upstream=", ".join(target.name for target in sidecar.targets),
        cache=sidecar.shelf.snapshot()["store"] if sidecar.shelf else "off",
    )

    async def end() -> bool:
        clean = await sidecar.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST):  # noqa: TID251 - sockets and Redis, no decision
                await runner.cleanup()
                await sidecar.aclose()
        return clean

    clean = await until_stopped(end)
    log.close()
    if not clean:
        # at once: asyncio would wait for whatever does not want to be cancelled
        os._exit(UNCLEAN)
    return 0


def complain_of_the_port(settings: Settings, error: OSError) -> None:
    """Say on stderr, to whoever typed it, that somebody else has the port."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(
            f"mcp-sidecar: cannot listen on {settings.server.host}:{settings.server.port} "
            f"({error.strerror or error}); choose another with --host and --port\n"
        )
        sys.__stderr__.flush()
