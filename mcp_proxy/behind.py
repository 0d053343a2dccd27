"""The server behind, as the settings name it: where it is, or the command that it is."""

from collections.abc import Mapping
from pathlib import Path

from mcp_proxy.core.addresses import Address, address, of_command
from mcp_proxy.core.clock import Clock, Emit, Spawn
from mcp_proxy.settings import Settings
from mcp_proxy.stdio.bridge import Bridge
from mcp_proxy.stdio.child import Command


def addresses(settings: Settings) -> list[Address]:
    """Return where it is: several for replicas, a place of its own for a command."""
    upstream = settings.upstream
    if command := upstream.arguments:
        return [of_command(Path(command[0]).name)]
    mcp_path, host = settings.server.mcp_path, upstream.own_host
    found = [address(url.get_secret_value(), mcp_path) for url in upstream.url or ()]
    return [one.also(host) if host else one for one in found]


def bridge(
    settings: Settings, environ: Mapping[str, str], clock: Clock, emit: Emit, spawn: Spawn
) -> Bridge | None:
    """Return what speaks HTTP for a server that is a command; None for any other.

    Raises OSError where no directory can be made for its socket.
    """
    upstream = settings.upstream
    if not upstream.arguments:
        return None
    return Bridge(
        Command(upstream.arguments, upstream.command_cwd, environ),
        settings.server.mcp_path,
        upstream.command_sessions,
        clock=clock,
        emit=emit,
        spawn=spawn,
    )
