"""What people type, and what they are told."""

import asyncio
import os
from typing import Any

from click.testing import CliRunner

from mcp_proxy import cli
from tests.edge.wire import Front

URL = "http://localhost:9000"
# A variable of the one who runs the tests must not decide them.
CLEAN: dict[str, Any] = {
    name: None
    for name in os.environ  # noqa: TID251
    if name.startswith("MCP_") or name == "REDIS_URL"
}


def told(*arguments: str, answer: str | None = None, **environ: str) -> Any:
    """Run a command in this process."""
    where = {**CLEAN, **environ}
    return CliRunner().invoke(cli.main, arguments, answer, where, prog_name="mcp-sidecar")


async def asked(front: Front, *arguments: str, answer: str | None = None, **environ: str) -> Any:
    """Run a command that asks a sidecar of this process."""
    where = {"MCP_PORT": str(front.port), **environ}
    return await asyncio.to_thread(told, *arguments, answer=answer, **where)
