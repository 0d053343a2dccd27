/** Tools: one row each, with what an operator compares. */

import { spark } from "./chart.js";
import { stateOfTool, targetsOf } from "./circuit.js";
import { empty, figure, h, holding, keyed, mark, plain, row, say, table } from "./dom.js";
import { count, ms, rate, share } from "./format.js";
import { keyOf } from "./history.js";
import { field, firstCall, snippet, state, toolName } from "./parts.js";

const MOST = 200; // rows that are drawn

const ORDERS = {
  calls: ["Calls", (one) => -one.requests],
  errors: ["Errors", (one) => -one.errors],
  p95: ["p95", (one) => -one.latency_ms.p95],
  name: ["Name", () => 0],
};

function circuit(one) {
  const sign = state("closed");
  const none = h("span", { class: "quiet" }, "none yet");
  const node = h("span", {}, sign, none);
  node.patch = (now) => {
    sign.hidden = !now.circuit;
    none.hidden = Boolean(now.circuit);
    if (now.circuit) sign.patch(now.circuit);
  };
  node.patch(one);
  return node;
}

function trend(one) {
  const node = spark("");
  node.patch = (now) => {
    const last = now.rates.at(-1) ?? 0;
    const most = Math.max(0, ...now.rates);
    node.draw(now.rates, most, `${rate(last)} calls a second now, ${rate(most)} at most in the last minute`);
  };
  node.patch(one);
  return node;
}

function link(one) {
  const text = plain(toolName(one));
  return h("a", { class: "name", title: text, href: `#/events?tool=${encodeURIComponent(one.tool)}` }, h("bdi", {}, text));
}

function failed(one) {
  const node = h("span", {});
  node.patch = (now) => {
    say(node, now.errors ? `${share(now.error_rate)} (${count(now.errors)})` : "0");
    mark(node, "class", now.errors ? "bad" : "");
  };
  node.patch(one);
  return node;
}

const looked = (one) => one.cache.hits + one.cache.misses + one.cache.stale + one.cache.collapsed;

const CELLS = [
  holding(link, "Tool", { class: "first" }),
  holding(circuit, "Circuit"),
  holding(trend, "Last minute", { class: "wide" }),
  figure((one) => count(one.requests), "Calls"),
  holding(failed, "Errors", { class: "num" }),
  figure((one) => ms(one.latency_ms.p50), "p50"),
  figure((one) => ms(one.latency_ms.p95), "p95"),
  figure((one) => ms(one.latency_ms.p99), "p99"),
  figure((one) => (looked(one) ? share(one.cache.hit_ratio) : "–"), "Hit ratio"),
  figure((one) => count(one.retries), "Retries"),
];

function make({ draw }) {
  const filter = h("input", { type: "search", placeholder: "part of a name", on: { input: draw } });
  const order = h("select", { on: { change: draw } }, ...Object.entries(ORDERS).map(([name, [text]]) => h("option", { value: name }, text)));
  const told = h("span", { class: "quiet" });
  const num = (text) => ({ text, num: true });
  const list = table("Tools", ["Tool", "Circuit", { text: "Last minute", more: "wide" }, num("Calls"), num("Errors"), num("p50"), num("p95"), num("p99"), num("Hit ratio"), num("Retries")], "cards");
  const none = empty("No tool has been called yet.", h("p", {}, "Tools appear here with their first call. Try:"), snippet(firstCall()));
  const bar = h("div", { class: "bar" }, field("Filter", filter), field("Order by", order), told);
  const element = h("div", {}, bar, none, list.element);
  return {
    element,
    update({ metrics, health, history }) {
      const all = metrics?.tools ?? [];
      const part = filter.value.toLowerCase();
      const by = ORDERS[order.value][1];
      const found = all.filter((one) => toolName(one).toLowerCase().includes(part));
      found.sort((a, b) => by(a) - by(b) || toolName(a).localeCompare(toolName(b)));
      const names = targetsOf(health);
      const rows = found.slice(0, MOST).map((one) => ({
        ...one,
        circuit: stateOfTool(one, metrics.circuits, names),
        rates: history.ratesOf(one),
      }));
      none.hidden = !metrics || all.length > 0;
      bar.hidden = list.element.hidden = !all.length;
      say(told, found.length > MOST ? `${MOST} of ${count(found.length)}: filter for the others` : `${count(found.length)} of ${count(all.length)}`);
      keyed(list.body, rows, keyOf, (one) => row(one, CELLS));
    },
  };
}

/** The page of the tools. */
export const tools = { title: "Tools", make };
