/** Connect: what to put where, with this sidecar's own address. */

import { beside } from "./api.js";
import { CLIENTS } from "./clients.js";
import { h, panel } from "./dom.js";
import { firstCall, snippet } from "./parts.js";

// title, where it goes, text for the URL of the MCP endpoint
const SNIPPETS = [
  ...CLIENTS.map(([title, where, text]) => [title, where, url => text.replace("{url}", url)]),
  ["curl", "REST tool API, if any:", firstCall],
];

/** The page for those who have no call yet. */
export function connect() {
  const codes = SNIPPETS.map(() => snippet(""));
  const panels = SNIPPETS.map(([title, where], at) => panel(title, h("p.quiet", where), codes[at]));
  const hint = "Clients keep their credentials; only the address changes.";
  return {
    element: h("div", h("p", hint), h("div.pair.top", ...panels)),
    update({ config }) {
      const path = config?.settings.find(one => one.variable === "MCP_PATH").value ?? "/mcp";
      codes.forEach((code, at) => code.patch(SNIPPETS[at][2](beside(path.slice(1)))));
    },
  };
}
