"""The command line: `run` and `tail`; the other commands are files of their own (commands)."""

import os
import signal
import sys
from typing import Any

import click

from mcp_proxy import __version__
from mcp_proxy.commands.lazy import Lazy
from mcp_proxy.commands.options import FAILED, settings_of, with_settings


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="mcp-sidecar")
def main() -> None:
    """Make one MCP server production grade without changing it."""


@main.command()
@with_settings
def run(**typed: str | None) -> None:
    """Serve in front of a server.

    Every setting is also an environment variable (MCP_…) or a key of the file that --config
    names; the README has the table.
    """
    # Until we listen there is nothing to drain; and as first process of a container, one without a
    # handler of its own would not hear SIGTERM at all. An exception could be lost in a finaliser.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    settings, warnings = settings_of(typed)
    from mcp_proxy import serving  # noqa: PLC0415 - --help stays quick

    if not serving.is_fit():
        sys.exit(FAILED)
    if settings.server.workers > 1:
        from mcp_proxy.workers import Supervisor  # noqa: PLC0415

        sys.exit(Supervisor(settings, warnings).run())
    log = serving.open_log(settings)
    sys.exit(serving.run(serving.serve(settings, warnings, log)))


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
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@click.option(
    "--token", metavar="TOKEN", help="For a live stream; better in MCP_ADMIN_TOKEN (ps shows this)."
)
def tail(source: str | None, **typed: Any) -> None:
    """Show events readably, from SOURCE: a file, a URL, or - (standard input).

    Without SOURCE: what is piped in, else the live events of the sidecar of this machine (MCP_HOST,
    MCP_PORT). A file is followed through rotation; a live stream is taken up again where it broke
    off.
    """
    import asyncio  # noqa: PLC0415 - --help stays quick, and a health check cheap

    from mcp_proxy import tail as tailing  # noqa: PLC0415
    from mcp_proxy.edge.follow import NoEventsError  # noqa: PLC0415
    from mcp_proxy.layers.clock import SystemClock  # noqa: PLC0415

    clock = SystemClock()
    environ = os.environ  # noqa: TID251 - handed on
    if typed.pop("as_json"):
        typed["output"] = "json"
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
