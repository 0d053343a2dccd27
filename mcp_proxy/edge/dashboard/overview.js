/** Overview: is it well, and if not, what is wrong? */

import { chart } from "./chart.js";
import { cell, empty, figure, h, holding, keyed, named, panel, plain, row, say, table } from "./dom.js";
import { clock, count, ms, rate, seconds, share } from "./format.js";
import { firstCall, snippet, stat, state, tool, toolName } from "./parts.js";

const LATELY = 10; // seconds

function strip() {
  const stats = {
    rate: stat("Calls", "stat-rate"),
    requests: stat("Calls in all", "stat-requests"),
    errors: stat("Errors", "stat-errors"),
    latency: stat("Latency p95", "stat-latency"),
    hits: stat("Cache hit ratio", "stat-hits"),
    flight: stat("In flight", "stat-flight"),
  };
  const element = h("dl", { class: "strip" }, ...Object.values(stats).map((one) => one.element));
  return { element, update: (now) => show(stats, now) };
}

function show(stats, { metrics, history }) {
  if (!metrics) {
    for (const one of Object.values(stats)) one.show("–");
    return;
  }
  const { total, cache, concurrency } = metrics;
  stats.rate.show(`${rate(history.lately(history.calls, LATELY))} /s`, `last ${LATELY} s`);
  stats.requests.show(count(total.requests), `${count(total.retries)} retries`);
  stats.errors.show(share(total.error_rate), `${count(total.errors)} of ${count(total.requests)}`);
  stats.latency.show(ms(total.latency_ms.p95), `p50 ${ms(total.latency_ms.p50)} · p99 ${ms(total.latency_ms.p99)}`);
  stats.hits.show(cache ? share(total.cache.hit_ratio) : "off", cache ? `${count(total.cache.hits + total.cache.stale)} hits` : "no cache");
  stats.flight.show(count(metrics.in_flight), `limit ${count(concurrency.limit)} · ${count(concurrency.waiting)} waiting`);
}

function targets() {
  const list = table("Targets", ["Target", "State", { text: "For", num: true }, "Last probe", { text: "Calls", num: true }, { text: "Next probe", num: true, more: "wide" }]);
  const since = (one) => seconds(one.for_seconds);
  const standing = (one) => (one.state === "present" && !one.healthy ? "unhealthy" : one.state);
  const made = [
    holding((one) => named(one.target), "Target"),
    (one) => {
      const node = state(standing(one));
      return [h("td", { "data-label": "State" }, node), (now) => node.patch(standing(now))];
    },
    figure(since, "For"),
    cell(probed, "Last probe"),
    figure((one) => count(one.calls), "Calls"),
    figure((one) => `in ${seconds(one.next_probe_seconds)}`, "Next probe", "wide"),
  ];
  const update = ({ health }) => {
    const known = health ? (health.targets ?? [health.upstream]) : [];
    keyed(list.body, known, (one) => one.target, (one) => row(one, made));
  };
  return { element: panel("Server behind", list.element), update };
}

function probed(one) {
  if (one.probe_status === null && !one.probe_error) return "none yet";
  const said = one.probe_error ?? `status ${one.probe_status}`;
  const failed = one.failed_probes ? `, ${count(one.failed_probes)} failed in a row` : "";
  return `${said}${failed}`;
}

function attention() {
  const list = h("ul", { class: "plainlist", id: "attention" });
  const update = ({ metrics, health }) => {
    const circuits = metrics?.circuits ?? health?.circuits ?? {};
    const found = Object.entries(circuits)
      .filter(([, one]) => one.state !== "closed")
      .map(([name, one]) => ({ key: name, state: one.state, text: `Circuit of ${plain(name)}`, more: waits(one) }));
    const calm = { key: "", state: "ok", text: "Every circuit is closed", more: "" };
    keyed(list, found.length ? found : [calm], (one) => one.key, worry);
  };
  return { element: panel("Circuits", list), update };
}

function waits(one) {
  return one.retry_after_s === null ? "a probe is out" : `next try in ${seconds(one.retry_after_s)}`;
}

function worry(one) {
  const sign = state(one.state);
  const more = h("span", { class: "quiet" });
  const node = h("li", {}, sign, " ", h("a", { href: "#/circuits" }, h("bdi", {}, one.text)), " ", more);
  node.patch = (now) => {
    sign.patch(now.state);
    say(more, now.more);
  };
  return node;
}

function errors() {
  const list = table("Errors", ["Tool", "Error", { text: "Count", num: true }, { text: "Last", num: true }]);
  const none = h("p", { class: "quiet" }, "None in the last ten minutes.");
  const made = [
    holding(tool, "Tool"),
    cell((one) => plain(one.code), "Error"),
    figure((one) => count(one.count), "Count"),
    figure((one) => clock(one.last, false), "Last"),
  ];
  const update = ({ metrics }) => {
    const known = metrics?.errors ?? [];
    list.element.hidden = !known.length;
    none.hidden = known.length > 0;
    keyed(list.body, known.slice(0, 8), (one) => `${toolName(one)} ${one.code} ${one.upstream}`, (one) => row(one, made));
  };
  return { element: panel("Errors of the last ten minutes", list.element, none), update };
}

function make() {
  const rates = chart(
    "Calls and errors a second",
    [
      { name: "calls", ink: "accent", read: (history) => history.calls },
      { name: "errors", ink: "bad", dash: [4, 3], read: (history) => history.errors },
    ],
    rate,
  );
  const latencies = chart(
    "Latency of the last 1,024 calls",
    [
      { name: "p50", ink: "quiet", read: (history) => history.p50 },
      { name: "p95", ink: "accent", dash: [6, 3], read: (history) => history.p95 },
      { name: "p99", ink: "warn", dash: [2, 3], read: (history) => history.p99 },
    ],
    ms,
  );
  const parts = [strip(), targets(), attention(), errors()];
  const first = h(
    "div",
    { class: "panel", hidden: true },
    empty("No calls yet.", h("p", {}, "Point a client at this port (", h("a", { href: "#/connect" }, "Connect"), " has the snippets), or try:"), snippet(firstCall())),
  );
  const charts = h("div", { class: "pair" }, rates.element, latencies.element);
  const element = h(
    "div",
    {},
    parts[0].element,
    first,
    charts,
    parts[1].element,
    h("div", { class: "pair" }, parts[2].element, parts[3].element),
  );
  return {
    element,
    update(now) {
      const none = now.metrics?.total.requests === 0;
      first.hidden = !none;
      charts.hidden = !now.metrics || none;
      for (const part of parts) part.update(now);
      if (!charts.hidden) for (const one of [rates, latencies]) one.draw(now.history);
    },
  };
}

/** The first page. */
export const overview = { title: "Overview", make };
