/** Pieces that several pages are made of. */

import { h, mark, named, plain, say } from "./dom.js";
import { stateOf } from "./format.js";

/** A state as sign, word and weight; `patch` takes the next one. */
export function state(name, more = "") {
  const sign = h("i", { "aria-hidden": "true" });
  const word = h("span");
  const node = h("span", {}, sign, word);
  node.patch = (now) => {
    const [shape, text, weight] = stateOf(now);
    say(sign, shape);
    say(word, plain(text));
    mark(node, "class", `state ${weight} ${more}`.trim());
  };
  node.patch(name);
  return node;
}

/** How a tool is called for people. */
export function toolName(item) {
  return item.service ? `${item.service}/${item.tool}` : item.tool;
}

/** A tool's name as an element. */
export function tool(item) {
  return named(toolName(item));
}

/** One figure of the strip: a label, a value, a remark. */
export function stat(label, id) {
  const value = h("dd", { class: "value", id });
  const note = h("dd", { class: "note" });
  const element = h("div", { class: "stat" }, h("dt", {}, label), value, note);
  return {
    element,
    value,
    show(text, remark = "") {
      say(value, text);
      say(note, remark);
    },
  };
}

/** A bar that says how full something is. */
export function meter(label) {
  const node = h("meter", { min: 0, max: 1, "aria-label": label });
  node.patch = (part) => {
    node.value = part;
  };
  return node;
}

/** A piece of text to copy. */
export function snippet(text) {
  const code = h("code", {}, text);
  const told = h("span", { class: "quiet", role: "status" });
  const copy = h(
    "button",
    {
      type: "button",
      class: "copy",
      on: {
        click: async () => {
          say(told, (await copied(code)) ? "Copied" : "Selected: press Ctrl+C");
        },
      },
    },
    "Copy",
  );
  const element = h("div", { class: "snippet" }, h("pre", { tabindex: "0" }, code), h("div", { class: "act" }, told, copy));
  element.patch = (now) => say(code, now);
  return element;
}

/** Copy a node's text. The clipboard is there on https and localhost only: else it is selected. */
async function copied(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return false;
  }
}

/** A labelled field. */
export function field(label, input) {
  return h("label", { class: "field" }, h("span", {}, label), input);
}

/**
 * The page's one dialog: Escape closes it, the focus goes back to where it was.
 * @param {string} title
 * @param {Node[]} content
 */
export function dialog(title, ...content) {
  const box = document.getElementById("dialog");
  if (box.open) box.close();
  const close = h("button", { type: "button", class: "plain", "aria-label": "Close", on: { click: () => box.close() } }, "✕");
  box.replaceChildren(
    h("div", { class: "bar" }, h("h2", { id: "dialog-title" }, title), close),
    ...content,
  );
  box.showModal();
  return box;
}

/** Tell those who hear the page, not those who see it. */
export function announce(text) {
  say(document.getElementById("announce"), text);
}

/** A first call to try: the page's own port is the right one. */
export function firstCall() {
  return `curl ${new URL("api/call-tool", document.baseURI)} -H 'Content-Type: application/json' \\
  -d '{"service": "salesforce", "tool_name": "salesforce_query_accounts", "params": {}}'`;
}
