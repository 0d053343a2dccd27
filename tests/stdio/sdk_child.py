"""A stdio server as anybody writes one with the official SDK."""

import os
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from pydantic import BaseModel

server = MCPServer("sdk")


class Colour(BaseModel):
    """What is asked of the client."""

    name: str


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look(what: str) -> str:
    """Look something up."""
    return f"{what}: {os.getpid()}"


@server.tool()
async def note(text: str, context: Context) -> str:
    """Write something down, step by step."""
    await context.report_progress(1, 2)
    await context.report_progress(2, 2)
    _write(text)
    return f"noted {text}"


def _write(text: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(text + "\n")


@server.tool()
async def paint(context: Context) -> str:
    """Ask the client for a colour."""
    answer = await context.elicit("Which colour?", Colour)
    return f"painted {answer.data.name if answer.action == 'accept' else 'nothing'}"


if __name__ == "__main__":
    server.run("stdio")
