"""A server as anybody writes one with the SDK: no REST, no rules, annotations on one tool."""

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("plain")
runs: dict[str, int] = {}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look(what: str) -> str:
    """Look something up."""
    runs["look"] = runs.get("look", 0) + 1
    return f"{what}: {runs['look']}"


@server.tool()
def note(text: str) -> str:
    """Write something down."""
    runs["note"] = runs.get("note", 0) + 1
    return f"{text}: {runs['note']}"


if __name__ == "__main__":
    port = int(sys.argv[1])
    print(f"listening on {port}", flush=True)
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning")
