/** Ask for MCP_ADMIN_TOKEN, and try it before it is kept. */

import { ask, keepToken, token } from "./api.js";
import { h, say } from "./dom.js";
import { dialog, field } from "./parts.js";

/** Resolve to true when a token was given that opens the endpoints, to false when none was. */
export function askToken() {
  return new Promise(answered => {
    const input = h("input", { type: "password", autocomplete: "off", required: true });
    const told = h("p.told", { role: "alert" });
    let good = false;
    const onsubmit = async event => {
      event.preventDefault();
      const before = token();
      keepToken(input.value);
      try {
        await ask("api/config");
        good = true;
        box.close();
      } catch (error) {
        keepToken(before);
        say(told, error.status === 401 ? "The sidecar refuses this token." : error.message);
        input.select();
      }
    };
    const note = "The value of MCP_ADMIN_TOKEN; this tab keeps it until it is closed.";
    const use = h("button.main", "Use token");
    const box = dialog("Admin token", h("form", { onsubmit }, h("p", note), field("Token", input), told, h("div.act", use)));
    box.addEventListener("close", () => answered(good), { once: true });
    input.focus();
  });
}
