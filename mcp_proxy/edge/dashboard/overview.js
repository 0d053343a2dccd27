/** Overview: is it well, and if not, what is wrong? */

import { chart } from "./chart.js";
import { empty, grid, h, keyed, live, named, panel, plain, say } from "./dom.js";
import { clock, count, ms, rate, seconds, share } from "./format.js";
import { counted, firstCall, sign, snippet, state, strip, targets, tool, toolName } from "./parts.js";

const LATELY = 10; // looks, about a second apart

const FIGURES = [
  ["stat-rate", "Calls"],
  ["stat-requests", "Calls in all"],
  ["stat-errors", "Errors"],
  ["stat-latency", "Latency p95"],
  ["stat-hits", "Cache hit ratio"],
  ["stat-flight", "In flight"],
];

function figures({ metrics, history }) {
  if (!metrics) return [];
  const { total, concurrency, in_flight: flight } = metrics;
  const { cache, latency_ms: latency, requests, errors } = total;
  return [
    [`${rate(history.lately(LATELY))} /s`, "lately"],
    [count(requests), `${count(total.retries)} retries`],
    [share(total.error_rate), `${count(errors)} of ${count(requests)}`],
    [ms(latency.p95), `p50 ${rate(latency.p50)} · p99 ${rate(latency.p99)}`],
    metrics.cache ? [share(cache.hit_ratio), `${count(cache.hits + cache.stale)} hits`] : ["off"],
    [count(flight), `${count(concurrency.waiting)} wait`],
  ];
}

const TARGETS = [
  ["Target", one => named(one.target), "first"],
  ["State", state(one => (one.state === "present" && !one.healthy ? "unhealthy" : one.state))],
  ["For", one => seconds(one.for_seconds), "num"],
  ["Last probe", probed],
  counted("Calls", "calls"),
  ["Next probe", one => `in ${seconds(one.next_probe_seconds)}`, "num"],
];

function probed(one) {
  const said = one.probe_error ?? (one.probe_status ? `status ${one.probe_status}` : "none yet");
  return one.failed_probes ? `${said}, ${count(one.failed_probes)} failed in a row` : said;
}

const ERRORS = [
  ["Tool", tool, "first"],
  ["Error", one => plain(one.code)],
  counted("Count", "count"),
  ["Last", one => clock(one.last, false), "num"],
];

const RATES = [
  ["calls", "accent", [], "requests"],
  ["errors", "bad", [4, 3], "errors"],
];
const LATENCIES = [
  ["p50", "quiet", [], "p50"],
  ["p95", "accent", [6, 3], "p95"],
  ["p99", "warn", [2, 3], "p99"],
];

function worry([name, one]) {
  const wait = h("span.quiet");
  const shown = state(([, now]) => now.state)([name, one]);
  const node = h("li", shown, " ", h("a", { href: "#/circuits" }, named(name)), " ", wait);
  const show = ([, now]) => {
    shown.patch([name, now]);
    say(wait, now.retry_after_s === null ? "a probe is out" : `next try in ${seconds(now.retry_after_s)}`);
  };
  return live(node, show, [name, one]);
}

/** The first page. */
export function overview() {
  const top = strip(...FIGURES);
  const charts = [chart("Calls and errors a second", RATES, rate), chart("Latency of the last 1,024 calls", LATENCIES, ms)];
  const pair = h("div.pair", ...charts);
  const behind = grid("Targets", TARGETS, one => one.target);
  const worries = h("ul", { id: "worries" });
  const calm = h("p", sign("ok"), " Every circuit is closed.");
  const errors = grid("Errors", ERRORS, one => `${toolName(one)} ${one.code} ${one.upstream}`);
  const none = h("p", sign("ok"), " None.");
  const hint = h("p", "Point a client at this port (", h("a", { href: "#/connect" }, "Connect"), " says how), or try:");
  const first = h("div.panel", empty("No calls yet.", hint, snippet(firstCall())));
  const wrong = h("div.pair", panel("Circuits", worries, calm), panel("Errors of the last ten minutes", errors, none));
  return {
    element: h("div", top, first, pair, panel("Server behind", behind), wrong),
    update(now) {
      const { metrics, health, history } = now;
      top.show(...figures(now));
      first.hidden = metrics?.total.requests !== 0;
      pair.hidden = !metrics?.total.requests;
      if (!pair.hidden) charts.forEach(one => one.draw(history));
      behind.show(targets(health));
      const circuits = Object.entries(metrics?.circuits ?? health?.circuits ?? {});
      const open = circuits.filter(([, one]) => one.state !== "closed");
      keyed(worries, open, ([name]) => name, worry);
      calm.hidden = !health || open.length > 0;
      errors.show((metrics?.errors ?? []).slice(0, 8));
      none.hidden = !metrics || !errors.hidden;
    },
  };
}
