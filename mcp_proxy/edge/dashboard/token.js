/** Ask for MCP_ADMIN_TOKEN, and try it before it is kept. */

import { TokenWanted, ask, keepToken, token } from "./api.js";
import { h, say } from "./dom.js";
import { dialog, field } from "./parts.js";

/** Resolve to true when a token was given that opens the endpoints, to false when none was. */
export function askToken() {
  return new Promise((answered) => {
    const input = h("input", { type: "password", autocomplete: "off", required: true, "aria-describedby": "token-told" });
    const told = h("p", { id: "token-told", class: "told", role: "alert" });
    const form = h(
      "form",
      {},
      h("p", {}, "It is the value of MCP_ADMIN_TOKEN. This tab keeps it until it is closed; nothing is stored on disk."),
      field("Token", input),
      told,
      h("div", { class: "act" }, h("button", { type: "submit", class: "main" }, "Use token")),
    );
    const box = dialog("Admin token", form);
    let good = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const before = token();
      keepToken(input.value);
      try {
        await ask("api/config");
        good = true;
        box.close();
      } catch (error) {
        keepToken(before);
        say(told, error instanceof TokenWanted ? "The sidecar refuses this token." : `Not tried: ${error.message}`);
        input.select();
      }
    });
    box.addEventListener("close", () => answered(good), { once: true });
    input.focus();
  });
}
