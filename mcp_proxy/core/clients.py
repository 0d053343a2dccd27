"""What to put where so that a client of MCP asks us: for the dashboard and `client-config`.

The formats are those of the clients' own documentation.
"""

import json
from typing import Any, NamedTuple


class Client(NamedTuple):
    """A client of MCP; `{url}` in its text stands for the URL of the MCP endpoint."""

    name: str
    title: str
    where: str
    text: str

    def snippet(self, url: str) -> str:
        """Return what to put there."""
        return self.text.replace("{url}", url)


def _file(**entry: Any) -> str:
    return json.dumps({"mcpServers": {"sidecar": entry}}, indent=2)


_PYTHON = """\
import asyncio
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

async def main():
    async with streamablehttp_client("{url}") as (r, w, _), ClientSession(r, w) as s:
        await s.initialize()
        print(await s.list_tools())

asyncio.run(main())"""


CLIENTS = (
    Client(
        "claude-code",
        "Claude Code",
        "In a terminal:",
        "claude mcp add --transport http sidecar {url}",
    ),
    Client("cursor", "Cursor", "In ~/.cursor/mcp.json:", _file(url="{url}")),
    Client(
        "vscode",
        "VS Code",
        "In .vscode/mcp.json:",
        json.dumps({"servers": {"sidecar": {"type": "http", "url": "{url}"}}}, indent=2),
    ),
    Client(
        "claude-desktop",
        "Claude Desktop",
        "In claude_desktop_config.json (for http:// on another machine with --allow-http in args):",
        _file(command="npx", args=["-y", "mcp-remote", "{url}"]),
    ),
    Client(
        "windsurf",
        "Windsurf",
        "In ~/.codeium/windsurf/mcp_config.json:",
        _file(serverUrl="{url}"),
    ),
    # `url` would mean HTTP+SSE there
    Client("gemini-cli", "Gemini CLI", "In ~/.gemini/settings.json:", _file(httpUrl="{url}")),
    Client("codex", "Codex", "In ~/.codex/config.toml:", '[mcp_servers.sidecar]\nurl = "{url}"'),
    Client("python", "Python SDK", "pip install 'mcp<2':", _PYTHON),
)
