"""The commands by name, imported when one of them is typed: `--help` stays quick."""

import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

# What `--help` says of each; tests/commands holds it against the command's own words.
COMMANDS = {
    "bench": "Compare a server with and without the sidecar.",
    "cache": "Show or empty the cache of a running sidecar.",
    "check": "Check the settings without serving.",
    "circuit": "Show or close the circuits of a running sidecar.",
    "client-config": "Print what to configure a client of MCP with; without CLIENT, their names.",
    "completion": "Print a shell's completion script.",
    "config": "Show the settings in force, or what a file may say.",
    "demo": "Show a miss, a hit, an outage and a recovery, with a small server of its own.",
    "doctor": "Look for what may go wrong with these settings, this server and this Redis.",
    "ready": "Tell by the exit code whether a sidecar is ready: 0 or 1.",
    "reload": "Let a running sidecar read its settings anew, as SIGHUP does.",
    "stats": "Show what a running sidecar has counted.",
}

# There is no room, or no device, for what is written.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Lazy(click.Group):
    """A group some of whose commands are files of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, which is imported now."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = import_module(f"mcp_proxy.commands.{cmd_name.replace('-', '_')}")
        found: click.Command = module.command
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; neither Ctrl-C nor a stdout that takes nothing shows a traceback."""
        if sys.stdout is None:  # `>&-`; and the next socket would be given its descriptor
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)  # as the shell has it
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # Python flushes at its end
            raise click.ClickException(f"cannot write: {error.strerror}") from None
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what there is, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._said(name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what may follow, without importing it either."""
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self._said(name)) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _said(self, name: str) -> str:
        return COMMANDS.get(name) or self.commands[name].get_short_help_str(limit=100)
