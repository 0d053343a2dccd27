/** One event in detail; of a call, all that is remembered of its request. */

import { stateOfTool, targetsOf } from "./circuit.js";
import { h, named, plain, svg } from "./dom.js";
import { clock, ms } from "./format.js";
import { dialog, state, toolName } from "./parts.js";

const CACHE = {
  hit: "answered from the cache",
  stale: "an old answer was told",
  miss: "not in the cache: the server was asked",
  collapsed: "shared the answer of an equal call in flight",
  bypass: "the cache had no part in it",
  request: "the caller wanted no stored answer",
  method: "this call is never stored",
};

function entry(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/** Return what happened to a call, each with its milliseconds after the call's arrival. */
export function steps(call, log) {
  const end = Date.parse(call.timestamp);
  const began = end - call.duration_ms;
  const found = [{ at: 0, text: "arrived" }];
  for (const one of log.of(call.request_id)) {
    const at = Math.max(0, Date.parse(one.timestamp) - began);
    if (one.event === "retry.scheduled") {
      found.push({ at, text: `try ${one.attempt} failed: ${plain(one.reason)}; the next one waits ${ms(one.wait_ms)}`, failed: true });
    } else if (one.event !== "tool.call.completed") {
      found.push({ at, text: plain(one.event) });
    }
  }
  const how = call.code ?? call.verdict;
  found.push({ at: call.duration_ms, text: `ended: ${plain(how)}, status ${call.status ?? "none, the caller had left"}`, failed: call.verdict !== "ok" });
  return found.sort((a, b) => a.at - b.at);
}

function timeline(found, length) {
  const at = (step) => 4 + (length ? step.at / length : 0) * 592;
  const marks = found.map((step) =>
    step.failed
      ? svg("rect", { class: "bad", x: at(step) - 4, y: 4, width: 8, height: 8 })
      : svg("circle", { class: "none", cx: at(step), cy: 8, r: 4 }),
  );
  return svg(
    "svg",
    { class: "timeline", viewBox: "0 0 600 16", "aria-hidden": "true" },
    svg("line", { class: "rule", x1: 4, x2: 596, y1: 8, y2: 8 }),
    ...marks,
  );
}

function ofCall(call, { log, metrics, health }) {
  const found = steps(call, log);
  const circuit = metrics ? stateOfTool(call, metrics.circuits, targetsOf(health)) : null;
  const list = h("ol", { class: "steps" }, ...found.map((step) => h("li", {}, h("span", { class: "num" }, `+${ms(step.at)}`), ` ${step.text}`)));
  return [
    h(
      "dl",
      { class: "facts" },
      entry("Tool", named(toolName(call))),
      entry("Verdict", `${plain(call.verdict)}${call.code ? ` (${plain(call.code)})` : ""}, status ${call.status ?? "none"}`),
      entry("Attempts", call.attempts === 0 ? "none was needed" : String(call.attempts)),
      entry("Cache", `${plain(call.cache)}: ${CACHE[call.cache] ?? ""}`),
      entry("Circuit now", circuit ? state(circuit) : "none yet"),
      entry("Took", ms(call.duration_ms)),
    ),
    h("h3", {}, "Timing"),
    timeline(found, call.duration_ms),
    list,
  ];
}

/** Show one event; of what belongs to a call that has ended, the call. */
export function details(event, now) {
  const call = event.request_id
    ? now.log.of(event.request_id).findLast((one) => one.event === "tool.call.completed")
    : null;
  const fields = Object.entries(event).map(([name, value]) =>
    h("div", {}, h("dt", {}, plain(name)), h("dd", {}, h("bdi", {}, plain(typeof value === "object" ? JSON.stringify(value) : value)))),
  );
  dialog(
    `${plain(event.event)} at ${clock(event.timestamp)}`,
    ...(call ? ofCall(call, now) : []),
    h("h3", {}, "Fields"),
    h("dl", { class: "fields" }, ...fields),
  );
}
