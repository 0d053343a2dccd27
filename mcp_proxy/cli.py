"""The command line; the only importer of click. It hands over what was typed, and no defaults."""

import asyncio
import atexit
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from mcp_proxy import __version__

# Exit codes (DESIGN section 8).
FAILED, WRONG_SETTINGS, UNCLEAN = 1, 2, 3
# Seconds from the drain to the end of the process, lines of the log aside: with a grace of 8 s all
# is over before Docker kills, which it does after 10 s.
_REST = 0.9

_OPTIONS = (
    click.option(
        "--upstream",
        "MCP_UPSTREAM_URL",
        metavar="URL",
        help="The server behind, such as http://localhost:9000.",
    ),
    click.option("--host", "MCP_HOST", metavar="NAME", help="Address or name to listen on."),
    click.option(
        "--port", "MCP_PORT", metavar="PORT", help="Port to listen on; 0 takes a free one."
    ),
    click.option(
        "--config", "MCP_CONFIG_FILE", metavar="FILE", help="Settings and tool rules (TOML)."
    ),
    click.option("--redis", "REDIS_URL", metavar="URL", help="Keep answers in Redis or Valkey."),
    click.option(
        "--log-level", "MCP_LOG_LEVEL", metavar="LEVEL", help="debug, info, warning or error."
    ),
)


def _with_settings(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="mcp-sidecar")
def main() -> None:
    """Make one MCP server production grade without changing it."""


@main.command()
@_with_settings
def run(**typed: str | None) -> None:
    """Serve in front of a server.

    Every setting is also an environment variable (MCP_…) or a key of the file that --config
    names; the README has the table.
    """
    # Until we listen there is nothing to drain; and as first process of a container, one without a
    # handler of its own would not hear SIGTERM at all.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings, warnings = _settings(typed)
    log = _log(settings)
    sys.exit(_run(_serve(settings, warnings, log)))


@main.command()
@_with_settings
def check(**typed: str | None) -> None:
    """Check the settings without serving: exit 0 if they can be used, else 2."""
    settings, warnings = _settings(typed)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    rules = len(settings.tools)
    click.echo(f"settings are usable: {rules} tool rule{'' if rules == 1 else 's'}")


@main.command(
    epilog="""\b
Examples:
  mcp-sidecar tail                                 # the sidecar of this machine, live
  mcp-sidecar tail http://proxy:8000 --level warning
  mcp-sidecar tail log.jsonl -n 50 --tool 'jira/*' # and what is written from now on
  mcp-sidecar tail log.jsonl --no-follow --since 2h --type 'circuit.*' -o json
  docker compose logs -f mcp-proxy | mcp-sidecar tail
  mcp-sidecar run --upstream http://localhost:9000 | mcp-sidecar tail --grep salesforce

Patterns know * and ?; several are separated by commas. A live stream looks back over its last -n
events before the filters, as far as MCP_EVENTS_REPLAY reaches. Colours are for terminals; NO_COLOR
and FORCE_COLOR are honoured."""
)
@click.argument("source", required=False)
@click.option(
    "--level", type=click.Choice(["debug", "info", "warning", "error"]), help="The lowest to show."
)
@click.option("--type", "types", metavar="PATTERNS", help="Names of events.")
@click.option("--tool", "tools", metavar="PATTERNS", help="Tools, or service/tool.")
@click.option("--grep", "text", metavar="TEXT", help="Only lines with this text, in any case.")
@click.option("--since", metavar="TIME", help="So long ago (90s, 10m, 2h, 1d), or a time.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), metavar="N", help="So many of the past (10, or all)."
)
@click.option("--no-follow", is_flag=True, help="End at the end of the file.")
@click.option(
    "-o", "--output", type=click.Choice(["pretty", "json"]), help="For people, or for programs."
)
@click.option(
    "--token", metavar="TOKEN", help="For a live stream; better in MCP_ADMIN_TOKEN (ps shows this)."
)
def tail(source: str | None, **typed: Any) -> None:
    """Show events readably, from SOURCE: a file, a URL, or - (standard input).

    Without SOURCE: what is piped in, else the live events of the sidecar of this machine (MCP_HOST,
    MCP_PORT). A file is followed through rotation; a live stream is taken up again where it broke
    off.
    """
    from mcp_proxy import tail as tailing  # noqa: PLC0415 - --help stays quick
    from mcp_proxy.edge.follow import NoEventsError  # noqa: PLC0415
    from mcp_proxy.layers.clock import SystemClock  # noqa: PLC0415

    clock = SystemClock()
    environ = os.environ  # noqa: TID251 - handed on
    name = tailing.found(source, environ)
    try:
        asked = tailing.asked(typed, clock.wall(), environ, terminal=sys.stdout.isatty())
        token = typed["token"] or environ.get("MCP_ADMIN_TOKEN")
        opened = tailing.opened(name, asked, token, clock, _complain)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _let_signals_end_us(read_to_the_end=name == "-" and not os.isatty(tailing.STDIN))
    try:
        asyncio.run(tailing.tail(opened, asked, _shown, sys.stdout.fileno()))
    except NoEventsError as error:
        _complain(str(error))
        sys.exit(FAILED)
    except (BrokenPipeError, asyncio.CancelledError):  # `| head` has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end


def _complain(text: str) -> None:
    click.echo(f"mcp-sidecar tail: {text}", err=True)


def _shown(text: str) -> None:
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "backslashreplace") + b"\n")
    sys.stdout.buffer.flush()


def _let_signals_end_us(*, read_to_the_end: bool) -> None:
    """End by Ctrl-C as tail(1) does: at once, without a word; the shell sees 130.

    It reaches all of a pipeline. Whoever writes into ours says goodbye first (`proxy.draining`), so
    that is read to its end, unless Ctrl-C is pressed again.
    """

    def once(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGINT, once if read_to_the_end else signal.SIG_DFL)


def _settings(typed: dict[str, str | None]) -> tuple[Any, list[str]]:
    """Return the settings and their warnings, or exit 2 with every fault."""
    from mcp_proxy.settings import Loader, SettingsError  # noqa: PLC0415 - --help stays quick

    loader = Loader(typed, os.environ)  # noqa: TID251 - handed on once, from here
    try:
        return loader.load(), loader.warnings
    except SettingsError as error:
        for warning in loader.warnings:
            click.echo(f"  warning: {warning}", err=True)
        count = len(error.faults)
        click.echo(
            f"mcp-sidecar: {count} setting{'' if count == 1 else 's'} cannot be used:", err=True
        )
        for fault in error.faults:
            click.echo(f"  {fault}", err=True)
        sys.exit(WRONG_SETTINGS)


def _log(settings: Any) -> Any:
    """Open the log, for people on a terminal; nothing else is printed from then on."""
    from mcp_proxy.core.readable import Style, wants_colour  # noqa: PLC0415 - --help stays quick
    from mcp_proxy.signals import foreign  # noqa: PLC0415
    from mcp_proxy.signals.console import Console  # noqa: PLC0415
    from mcp_proxy.signals.logs import Log  # noqa: PLC0415

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


def _run(work: Any) -> int:
    """Run on uvloop where it is installed (5 to 25 % less CPU), else on asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return int(asyncio.run(work))
    return int(uvloop.run(work))


def _spans(log: Any) -> Any:
    """Return where traces go, if OTEL_* says so; nothing of OpenTelemetry is imported otherwise."""
    from mcp_proxy.settings import traces_wanted  # noqa: PLC0415 - --help stays quick

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


async def _serve(settings: Any, warnings: list[str], log: Any) -> int:
    from mcp_proxy.assembly import Sidecar  # noqa: PLC0415 - --help stays quick
    from mcp_proxy.edge.pool import parser_is_compiled  # noqa: PLC0415
    from mcp_proxy.edge.serve import until_stopped  # noqa: PLC0415
    from mcp_proxy.ports import cautions, open_ports  # noqa: PLC0415
    from mcp_proxy.signals import foreign  # noqa: PLC0415

    if not parser_is_compiled():
        click.echo(
            "mcp-sidecar: aiohttp runs without its C parser, which reads hostile framing more strictly "
            "than the other; install its wheel, and unset AIOHTTP_NO_EXTENSIONS",
            sys.__stderr__,
        )
        return FAILED
    sidecar = Sidecar(settings, log, spans=_spans(log))
    foreign.take_over(sidecar.emit, elsewhere=log)
    for warning in [*warnings, *cautions(settings)]:
        sidecar.emit("config.warning", "warning", message=warning)
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
        ports = await open_ports(sidecar, settings)
    except OSError as error:
        click.echo(
            f"mcp-sidecar: cannot listen on {settings.server.host}:{settings.server.port} "
            f"({error.strerror or error}); choose another with --host and --port",
            sys.__stderr__,
        )
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
        **ports.told(),
        upstream=", ".join(target.name for target in sidecar.targets),
        cache=sidecar.shelf.snapshot()["store"] if sidecar.shelf else "off",
    )

    async def end() -> bool:
        clean = await sidecar.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST):  # noqa: TID251 - sockets and Redis, no decision
                await ports.cleanup()
                await sidecar.aclose()
        return clean

    clean = await until_stopped(end)
    log.close()
    if not clean:
        # at once: asyncio would wait for whatever does not want to be cancelled
        os._exit(UNCLEAN)
    return 0
