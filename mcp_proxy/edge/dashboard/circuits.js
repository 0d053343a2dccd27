/** Circuits: which are open, since when, and how it came to that. */

import { cell, empty, figure, h, holding, keyed, mark, named, panel, plain, row, say, svg, table } from "./dom.js";
import { clock, count, seconds, stateOf } from "./format.js";
import { state } from "./parts.js";

const SPAN = 15 * 60 * 1000; // milliseconds that the lanes show
const WIDTH = 1000;
const LANE = 14;
const WORST = { open: 0, half_open: 1, closed: 2 };

/** Return the spans of one circuit between `from` and `to`, out of its changes, the oldest first. */
export function spans(changes, from, to, current) {
  const found = [];
  let since = from;
  let known = changes[0]?.before ?? current;
  for (const change of changes) {
    const at = Date.parse(change.timestamp);
    if (at > since) found.push({ state: known, from: since, to: Math.min(at, to) });
    since = Math.max(from, at);
    known = change.after;
  }
  if (to > since) found.push({ state: known, from: since, to });
  return found;
}

function lane(one) {
  const box = svg("svg", { class: "lane", viewBox: `0 0 ${WIDTH} ${LANE}`, preserveAspectRatio: "none", role: "img" });
  box.patch = (now) => {
    mark(box, "aria-label", said(now));
    keyed(
      box,
      now.spans.map((span, at) => ({ ...span, key: `${at} ${span.state}` })),
      (span) => span.key,
      () => {
        const bar = svg("rect");
        bar.patch = (span) => place(bar, span, now.from);
        return bar;
      },
    );
  };
  box.patch(one);
  return box;
}

/** Closed is a thin line, open a full bar, half-open half of one: to be told apart without colour. */
function place(bar, span, from) {
  const high = { open: LANE, half_open: LANE / 2 }[span.state] ?? 2;
  const x = ((span.from - from) / SPAN) * WIDTH;
  mark(bar, "x", x.toFixed(1));
  mark(bar, "width", Math.max(((span.to - span.from) / SPAN) * WIDTH, high > 2 ? 3 : 0).toFixed(1));
  mark(bar, "y", high === 2 ? (LANE / 2 - 1) : LANE - high);
  mark(bar, "height", high);
  mark(bar, "class", stateOf(span.state)[2]);
}

function said(now) {
  const opened = now.spans.filter((span) => span.state === "open").length;
  return `${stateOf(now.state)[1]}; opened ${count(opened)} times in the last 15 minutes`;
}

const circuitState = (read) => (item) => {
  const node = state(read(item));
  return [h("td", { "data-label": "State" }, node), (now) => node.patch(read(now))];
};

const CELLS = [
  holding((one) => named(one.name), "Circuit", { class: "first" }),
  circuitState((one) => one.state),
  holding(lane, "Last 15 minutes", { class: "lanes" }),
  figure((one) => count(one.failures), "Failures"),
  figure((one) => count(one.opened), "Opened"),
  figure((one) => (one.retry_after_s === null ? "–" : `in ${seconds(one.retry_after_s)}`), "Next try"),
];

const CHANGE = [
  figure((one) => clock(one.timestamp), "Time"),
  holding((one) => named(one.circuit ?? one.target ?? "the sidecar"), "What", { class: "first" }),
  holding((one) => (one.before ? state(one.before) : h("span", { class: "quiet" }, "–")), "From"),
  holding((one) => (one.after ? state(one.after) : h("span", {}, one.event === "proxy.started" ? "started" : "draining")), "To"),
  cell((one) => plain(one.reason ?? ""), "Why"),
];
// what has happened does not change
const asItWas = CHANGE.map((make) => (item) => [make(item)[0]]);

function make() {
  const num = (text) => ({ text, num: true });
  const list = table("Circuits", ["Circuit", "State", "Last 15 minutes", num("Failures in a row"), num("Opened"), num("Next try")], "cards");
  const past = table("Changes", [num("Time"), "What", "From", "To", "Why"], "cards");
  const none = empty(
    "No circuit yet.",
    h("p", {}, "Each tool gets one with its first call, and so has the server's address. ", h("code", {}, "MCP_CB_FAILURE_THRESHOLD"), " failed tries in a row open it; after ", h("code", {}, "MCP_CB_RECOVERY_TIMEOUT"), " one call is let through to find out."),
  );
  const quiet = h("p", { class: "quiet" }, "Nothing has changed since the page or the sidecar began.");
  const told = h("p", { class: "quiet" });
  const key = h("p", { class: "quiet key" }, state("closed"), " thin line ", state("half_open"), " half bar ", state("open"), " full bar");
  const changes = panel("Changes, the latest first", past.element, quiet);
  const element = h("div", {}, told, none, list.element, key, changes);
  return {
    element,
    update({ metrics, health, log }) {
      const circuits = metrics?.circuits ?? health?.circuits ?? {};
      const to = Date.now();
      const from = to - SPAN;
      const by = Map.groupBy(log.changes.filter((one) => one.circuit), (one) => one.circuit);
      const rows = Object.entries(circuits).map(([name, one]) => ({
        ...one,
        name,
        from,
        spans: spans(by.get(name) ?? [], from, to, one.state),
      }));
      rows.sort((a, b) => WORST[a.state] - WORST[b.state] || b.opened - a.opened || a.name.localeCompare(b.name));
      const open = rows.filter((one) => one.state !== "closed").length;
      none.hidden = rows.length > 0;
      list.element.hidden = key.hidden = !rows.length;
      say(told, rows.length ? `${count(open)} of ${count(rows.length)} not closed` : "");
      keyed(list.body, rows.slice(0, 200), (one) => one.name, (one) => row(one, CELLS));
      quiet.hidden = log.changes.length > 0;
      past.element.hidden = !log.changes.length;
      keyed(past.body, log.changes.slice(-200).reverse(), (one) => one.id, (one) => row(one, asItWas));
    },
  };
}

/** The page of the circuits. */
export const circuits = { title: "Circuits", make };
