/** Settings: what is in force, and who said so. */

import { cell, empty, h, holding, keyed, panel, plain, row, say, table } from "./dom.js";
import { count } from "./format.js";
import { field } from "./parts.js";

function shown(value) {
  if (value === null || value === undefined) return "unset";
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : "empty";
  return plain(value);
}

function value(one) {
  const changed = one.origin !== "default";
  const text = shown(one.value);
  return changed ? h("strong", {}, text) : h("span", {}, text);
}

const CELLS = [
  holding((one) => h("code", {}, one.variable), "Variable", { class: "first" }),
  holding(value, "Value", { class: "value" }),
  cell((one) => plain(one.origin), "Origin"),
  cell((one) => (one.origin === "default" ? "" : shown(one.default)), "Default"),
  cell((one) => one.text, "What", { class: "text" }),
];

function rules(config) {
  const patterns = Object.entries(config.tools);
  const text = patterns
    .map(([pattern, rule]) => `[tools.${JSON.stringify(plain(pattern))}]\n${Object.entries(rule).map(([name, one]) => `${name} = ${plain(JSON.stringify(one))}`).join("\n")}`)
    .join("\n\n");
  return text || "none: only what the server says of its own tools counts";
}

function make({ draw, wantToken }) {
  const filter = h("input", { type: "search", placeholder: "name, value or meaning", on: { input: draw } });
  const changed = h("input", { type: "checkbox", on: { change: draw } });
  const told = h("span", { class: "quiet" });
  const list = table("Settings", ["Variable", "Value", "Origin", "Default", "What"], "cards");
  const code = h("code", {});
  const none = empty("The settings are behind the token.", h("p", {}, h("button", { type: "button", on: { click: wantToken } }, "Enter token")));
  const bar = h("div", { class: "bar" }, field("Filter", filter), h("label", { class: "check" }, changed, " Only what is not a default"), told);
  const tools = panel("Tool rules", h("pre", { tabindex: "0" }, code));
  return {
    element: h("div", {}, none, bar, list.element, tools),
    update({ config }) {
      none.hidden = Boolean(config);
      bar.hidden = list.element.hidden = tools.hidden = !config;
      if (!config) return;
      const part = filter.value.toLowerCase();
      const rows = config.settings.filter(
        (one) =>
          (!changed.checked || one.origin !== "default") &&
          `${one.variable} ${one.key} ${shown(one.value)} ${one.origin} ${one.text}`.toLowerCase().includes(part),
      );
      say(told, `${count(rows.length)} of ${count(config.settings.length)}`);
      keyed(list.body, rows, (one) => `${one.variable} ${one.origin} ${shown(one.value)}`, (one) => row(one, CELLS));
      say(code, rules(config));
    },
  };
}

/** The page of the settings. */
export const settings = { title: "Settings", make };
