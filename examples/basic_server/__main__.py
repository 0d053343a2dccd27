"""Run the basic server: `python -m examples.basic_server`."""

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import uvicorn

from examples.basic_server.app import Options, build
from examples.basic_server.sockets import bind

WILDCARDS = {"0.0.0.0", "[::]"}


class AnnouncedServer(uvicorn.Server):
    """Say on stdout that the server listens, once it does."""

    url = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the one line that scripts wait for."""
        await super().startup(sockets=sockets)
        if self.started:
            print(f"basic server listening on {self.url}", flush=True)


def seconds(text: str) -> float:
    """Read a duration: a number of seconds, not below zero."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(text)
    return value


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = argparse.ArgumentParser("basic_server", description=__doc__)
    line.add_argument("--host", default="localhost", help="address to bind (%(default)s)")
    line.add_argument("--port", type=int, default=9000, help="0 takes a free one (%(default)s)")
    line.add_argument("--ledger", type=Path, metavar="FILE", help="append executed creates to it")
    line.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another Host that /mcp accepts besides loopback; * accepts any; repeatable",
    )
    line.add_argument(
        "--slow",
        type=seconds,
        # argparse checks a default given as text like an argument.
        default=os.environ.get("BASIC_SERVER_SLOW") or "0",
        metavar="SECONDS",
        help="wait before each tool call (the variable BASIC_SERVER_SLOW, else 0)",
    )
    return line


def worth_telling(record: logging.LogRecord) -> bool:
    """Tell whether to log it: a call that was dropped because we end is no fault of the program."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def leave(_signum: int, _frame: FrameType | None) -> None:
    """End with exit code 0."""
    sys.exit(0)


def main() -> int:
    """Serve until a signal comes."""
    asked = parser().parse_args()
    # Before the SDK does it, which prefers boxes drawn around tracebacks.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # uvicorn replaces these while it serves, shuts down in good order, then raises the signal
    # again: without ours that second one would kill the process, and the exit code would say so.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, leave)
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    own_name = () if host in WILDCARDS else (host,)
    try:
        app = build(Options(asked.ledger, (*own_name, *asked.allow_host), asked.slow))
        sockets = bind(asked.host, asked.port)
    except OSError as error:
        print(f"basic server: {error}", file=sys.stderr)
        return 1
    # Open streams and hanging calls get one second to end.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none"
    )
    logging.getLogger("uvicorn.error").addFilter(worth_telling)
    server = AnnouncedServer(config)
    server.url = f"http://{host}:{sockets[0].getsockname()[1]}"
    asyncio.run(server.serve(sockets=sockets))
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
