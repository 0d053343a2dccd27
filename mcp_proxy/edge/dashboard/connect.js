/** Connect: what to put where, with this sidecar's own address. */

import { beside } from "./api.js";
import { h, panel } from "./dom.js";
import { firstCall, snippet } from "./parts.js";

const json = (value) => JSON.stringify(value, null, 2);

const HELLO = json({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "curl", version: "0" } },
}).replaceAll(/\n */g, " ");

/** Title, where it goes, text; each for the URL of the MCP endpoint. */
const CLIENTS = [
  ["Claude Code", "In a terminal:", (url) => `claude mcp add --transport http sidecar ${url}`],
  ["Cursor", "In ~/.cursor/mcp.json, or .cursor/mcp.json of a project:", (url) => json({ mcpServers: { sidecar: { url } } })],
  ["VS Code", "In .vscode/mcp.json:", (url) => json({ servers: { sidecar: { type: "http", url } } })],
  [
    "Claude Desktop",
    "In claude_desktop_config.json (Settings, Developer, Edit Config); it starts programs, so a small one carries the calls:",
    (url) => json({ mcpServers: { sidecar: { command: "npx", args: ["-y", "mcp-remote", url] } } }),
  ],
  [
    "Python SDK",
    "pip install mcp, version 1:",
    (url) => `import asyncio

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main():
    async with streamablehttp_client("${url}") as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            print([tool.name for tool in (await session.list_tools()).tools])


asyncio.run(main())`,
  ],
  [
    "curl, MCP",
    "The handshake, by hand:",
    (url) => `curl -i ${url} -H 'Content-Type: application/json' \\
  -H 'Accept: application/json, text/event-stream' \\
  -d '${HELLO}'`,
  ],
  ["curl, REST", "The REST tool API, where the server behind has one:", () => firstCall()],
];

function make() {
  const made = CLIENTS.map(([title, where, text]) => ({ title, where, text, code: snippet("") }));
  const element = h(
    "div",
    {},
    h("p", {}, "Clients talk to the sidecar as they did to the server: only the port is another. Credentials of the server go with each call as before."),
    h("div", { class: "pair" }, ...made.map((one) => panel(one.title, h("p", { class: "quiet" }, one.where), one.code))),
  );
  return {
    element,
    update({ config }) {
      const path = config?.settings.find((one) => one.variable === "MCP_PATH")?.value ?? "/mcp";
      const url = beside(path.replace(/^\//, "")).href;
      for (const one of made) one.code.patch(one.text(url));
    },
  };
}

/** The page for those who have no call yet. */
export const connect = { title: "Connect", make };
