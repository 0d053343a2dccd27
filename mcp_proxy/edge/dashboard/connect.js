/** Connect: what to put where, with this sidecar's own address. */

import { beside } from "./api.js";
import { CLIENTS } from "./clients.js";
import { h, panel } from "./dom.js";
import { firstCall, snippet } from "./parts.js";

const HELLO = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "curl", version: "0" } },
});

const PYTHON = url => [
  "import asyncio",
  "from mcp import ClientSession",
  "from mcp.client.streamable_http import streamablehttp_client",
  "",
  "async def main():",
  `    async with streamablehttp_client("${url}") as (read, write, _):`,
  "        async with ClientSession(read, write) as session:",
  "            await session.initialize()",
  "            print(await session.list_tools())",
  "",
  "asyncio.run(main())",
];

const CURL = url => [
  `curl -i ${url} -H 'Content-Type: application/json' \\`,
  "  -H 'Accept: application/json, text/event-stream' \\",
  `  -d '${HELLO}'`,
];

// title, where it goes, text for the URL of the MCP endpoint
const SNIPPETS = [
  ...CLIENTS.map(([title, where, text]) => [title, where, url => text.replace("{url}", url)]),
  ["Python SDK", "Version 1, pip install 'mcp<2':", url => PYTHON(url).join("\n")],
  ["curl, MCP", "The handshake by hand:", url => CURL(url).join("\n")],
  ["curl, REST", "The REST tool API, where the server has one:", firstCall],
];

/** The page for those who have no call yet. */
export function connect() {
  const codes = SNIPPETS.map(() => snippet(""));
  const panels = SNIPPETS.map(([title, where], at) => panel(title, h("p.quiet", where), codes[at]));
  const hint = "Clients talk to the sidecar as they did to the server, with their own credentials: only the address is another.";
  return {
    element: h("div", h("p", hint), h("div.pair.top", ...panels)),
    update({ config }) {
      const path = config?.settings.find(one => one.variable === "MCP_PATH").value ?? "/mcp";
      codes.forEach((code, at) => code.patch(SNIPPETS[at][2](beside(path.slice(1)))));
    },
  };
}
