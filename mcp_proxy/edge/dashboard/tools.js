/** Tools: one row each, with what an operator compares. */

import { spark } from "./chart.js";
import { empty, grid, h, live, mark, plain, say } from "./dom.js";
import { count, ms, share } from "./format.js";
import { keyOf } from "./history.js";
import { circuitOf, counted, field, firstCall, looked, search, snippet, state, toolName } from "./parts.js";

const MOST = 200; // rows that are drawn

const ORDERS = {
  Calls: one => -one.requests,
  Errors: one => -one.errors,
  p95: one => -one.latency_ms.p95,
  Name: () => 0,
};

function link(one) {
  const title = plain(toolName(one));
  return h("a.name", { title, href: `#/events?tool=${encodeURIComponent(one.tool)}` }, h("bdi", title));
}

function failed(one) {
  const node = h("span");
  const show = now => {
    say(node, now.errors ? `${share(now.error_rate)} (${count(now.errors)})` : "0");
    mark(node, "class", now.errors ? "bad" : "");
  };
  return live(node, show, one);
}

const COLUMNS = [
  ["Tool", link, "first"],
  ["Circuit", state(one => one.circuit)],
  ["Last minute", spark(one => one.rates)],
  counted("Calls", "requests"),
  ["Errors", failed, "num"],
  ["p50", one => ms(one.latency_ms.p50), "num"],
  ["p95", one => ms(one.latency_ms.p95), "num"],
  ["p99", one => ms(one.latency_ms.p99), "num"],
  ["Hit ratio", one => (looked(one) ? share(one.cache.hit_ratio) : "–"), "num"],
  counted("Retries", "retries"),
];

/** The page of the tools. */
export function tools({ draw }) {
  const filter = search(draw, "part of a name");
  const order = h("select", { onchange: draw }, ...Object.keys(ORDERS).map(name => h("option", name)));
  const told = h("span.quiet");
  const list = grid("Tools", COLUMNS, keyOf);
  const none = empty("No tool has been called yet.", h("p", "Each appears with its first call. Try:"), snippet(firstCall()));
  const bar = h("div.bar", field("Filter", filter), field("Order by", order), told);
  return {
    element: h("div", bar, none, list),
    update({ metrics, health, history }) {
      const all = metrics?.tools ?? [];
      const by = ORDERS[order.value];
      const found = all.filter(one => toolName(one).toLowerCase().includes(filter.value.toLowerCase()));
      found.sort((a, b) => by(a) - by(b) || toolName(a).localeCompare(toolName(b)));
      const rows = found.slice(0, MOST);
      none.hidden = !metrics || all.length > 0;
      bar.hidden = !all.length;
      say(told, `${count(rows.length)} of ${count(all.length)}`);
      list.show(rows.map(one => ({ ...one, circuit: circuitOf(one, metrics.circuits, health), rates: history.ratesOf(one) })));
    },
  };
}
