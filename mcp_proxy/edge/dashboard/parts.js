/** Pieces that several pages are made of. */

import { beside } from "./api.js";
import { button, h, live, mark, named, plain, say } from "./dom.js";
import { count, stateOf } from "./format.js";

/** A state as sign, word and weight; `read` finds it in an item. */
export const state = read => item => {
  const sign = h("i", { "aria-hidden": "true" });
  const word = h("span");
  const show = now => {
    const [shape, weight, text] = stateOf(read(now));
    say(sign, shape);
    say(word, plain(text));
    mark(node, "class", `state ${weight}`);
  };
  const node = h("span", sign, word);
  return live(node, show, item);
};

/** A state that stays. */
export const sign = state(name => name);

/** How a tool is called for people. */
export const toolName = one => (one.service ? `${one.service}/${one.tool}` : one.tool);

/** A tool's name as an element. */
export const tool = one => named(toolName(one));

/** A column of counts. */
export const counted = (label, key) => [label, one => count(one[key]), "num"];

/** How often the cache was looked into for a tool. */
export const looked = ({ cache }) => cache.hits + cache.misses + cache.stale + cache.collapsed;

/** The targets of a health report. */
export const targets = health => health?.targets ?? (health ? [health.upstream] : []);

/** Return the worst state of a tool's circuits (layers/breaker names them), or "none yet". */
export function circuitOf(one, circuits, health) {
  const among = ["", ...targets(health).map(target => ` of ${target.target}`)];
  const names = ["tool", "method"].flatMap(kind => among.map(more => `${kind} ${toolName(one)}${more}`));
  const found = names.map(name => circuits?.[name]?.state);
  return ["open", "half_open", "closed"].find(worst => found.includes(worst)) ?? "none yet";
}

/**
 * A strip of figures; `show(values)` takes for each a value and a remark.
 * @param {[id: string, label: string][]} figures
 */
export function strip(...figures) {
  const made = figures.map(([id, label]) => [h("dd.value", { id }), h("dd.quiet"), label]);
  const element = h("dl.strip", ...made.map(([value, note, label]) => h("div", h("dt", label), value, note)));
  element.show = (...values) =>
    made.forEach(([value, note], at) => {
      say(value, values[at]?.[0] ?? "–");
      say(note, values[at]?.[1] ?? "");
    });
  return element;
}

/** A piece of text to copy; the clipboard is there on https and localhost only, else it is selected. */
export function snippet(text) {
  const code = h("code", text);
  const told = h("span.quiet", { role: "status" });
  const onclick = () =>
    navigator.clipboard.writeText(code.textContent).then(
      () => say(told, "Copied"),
      () => say(told, "Copy it by hand"),
    );
  const element = h("div", h("pre", { tabindex: 0 }, code), h("div.act", told, button("Copy", onclick)));
  element.patch = now => say(code, now);
  return element;
}

/** A labelled field. */
export const field = (label, input) => h("label.field", h("span", label), input);

/** A field for a part of what is looked for. */
export const search = (oninput, placeholder) => h("input", { type: "search", oninput, placeholder });

/** Open a dialog: Escape closes it, and the focus goes back to where it was. */
export function dialog(title, ...content) {
  const close = button("✕", () => box.close(), "button.plain", { "aria-label": "Close" });
  const box = h("dialog", { "aria-label": title }, h("div.bar", h("h2", title), close), ...content);
  box.onclose = () => box.remove();
  document.body.append(box);
  box.showModal();
  return box;
}

/** A first call to try: the page's own port is the right one. */
export const firstCall = () =>
  [
    `curl ${beside("api/call-tool")} -H 'Content-Type: application/json' \\`,
    `  -d '{"service": "salesforce", "tool_name": "salesforce_query_accounts", "params": {}}'`,
  ].join("\n");
