/** Settings: what is in force, and who said so. */

import { button, empty, grid, h, panel, plain, say } from "./dom.js";
import { count } from "./format.js";
import { field, search } from "./parts.js";

const changed = one => one.origin !== "default";

function shown(value) {
  if (value === null) return "unset";
  return Array.isArray(value) ? value.map(plain).join(", ") || "empty" : plain(value);
}

const keyOf = one => `${one.variable} ${one.origin} ${shown(one.value)}`;

const COLUMNS = [
  ["Variable", one => h("code", one.variable), "first"],
  ["Value", one => h(changed(one) ? "strong" : "span", shown(one.value)), "value"],
  ["Origin", one => plain(one.origin), "text"],
  ["Default", one => (changed(one) ? shown(one.default) : ""), "value"],
  ["What", one => one.text, "text"],
];

function rules({ tools }) {
  const found = Object.entries(tools).map(([pattern, rule]) => {
    const lines = Object.entries(rule).map(([name, value]) => `${name} = ${plain(JSON.stringify(value))}`);
    return [`[tools.${JSON.stringify(plain(pattern))}]`, ...lines].join("\n");
  });
  return found.join("\n\n") || "None: what the server says of its own tools counts.";
}

/** The page of the settings. */
export function settings({ draw, wantToken }) {
  const filter = search(draw, "name, value or meaning");
  const only = h("input", { type: "checkbox", onchange: draw });
  const told = h("span.quiet");
  const list = grid("Settings", COLUMNS, keyOf);
  const code = h("pre", { tabindex: 0 });
  const none = empty("The settings are behind the token.", button("Enter token", wantToken));
  const bar = h("div.bar", field("Filter", filter), h("label", only, " Only what is no default"), told);
  const tools = panel("Tool rules", code);
  return {
    element: h("div", none, bar, list, tools),
    update({ config, off }) {
      none.hidden = off !== "token";
      bar.hidden = tools.hidden = !config;
      const all = config?.settings ?? [];
      const text = one => `${keyOf(one)} ${one.text}`.toLowerCase();
      const rows = all.filter(one => (changed(one) || !only.checked) && text(one).includes(filter.value.toLowerCase()));
      say(told, `${count(rows.length)} of ${count(all.length)}`);
      list.show(rows);
      if (config) say(code, rules(config));
    },
  };
}
