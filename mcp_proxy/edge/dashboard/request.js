/** One event in detail; of a call, all that is remembered of its request. */

import { h, named, plain } from "./dom.js";
import { clock, ms } from "./format.js";
import { circuitOf, dialog, sign, toolName } from "./parts.js";

const CACHE = {
  hit: "answered from the cache",
  stale: "an old answer was told",
  miss: "the server was asked",
  collapsed: "shared the answer of an equal call",
  bypass: "had no part in it",
  request: "the caller wanted a fresh answer",
  method: "such calls are never stored",
};

const facts = pairs => pairs.map(([name, value]) => h("div", h("dt", plain(name)), h("dd", value)));

/** Return what happened to a call, each with its milliseconds after the call's arrival. */
export function steps(call, related) {
  const began = Date.parse(call.timestamp) - call.duration_ms;
  const between = related.filter(one => one !== call);
  const found = between.map(one => [
    Math.max(0, Date.parse(one.timestamp) - began),
    one.attempt ? `try ${one.attempt} failed (${plain(one.reason)}); wait ${ms(one.wait_ms)}` : plain(one.event),
  ]);
  const end = call.status === null ? "the caller had left" : `status ${call.status}`;
  return [[0, "arrived"], ...found, [call.duration_ms, `ended: ${plain(call.code ?? call.verdict)}, ${end}`]];
}

function timing(call, related) {
  const found = steps(call, related);
  const at = time => 5 + (call.duration_ms ? Math.min(1, time / call.duration_ms) : 0) * 590;
  const marks = found.map(([time]) => h("circle", { cx: at(time), cy: 8, r: 4 }));
  const line = h("line", { x1: 5, x2: 595, y1: 8, y2: 8 });
  return [
    h("svg.timing", { viewBox: "0 0 600 16", "aria-hidden": "true" }, line, ...marks),
    h("ol", ...found.map(([time, text]) => h("li", h("span.num", `+${ms(time)}`), ` ${text}`))),
  ];
}

function ofCall(call, { log, metrics, health }) {
  const said = [
    ["Tool", named(toolName(call))],
    ["Verdict", plain([call.verdict, call.code].filter(Boolean).join(", "))],
    ["Attempts", call.attempts],
    ["Cache", `${plain(call.cache)}: ${CACHE[call.cache]}`],
    ["Circuit now", sign(circuitOf(call, metrics?.circuits, health))],
    ["Took", ms(call.duration_ms)],
  ];
  return [h("dl.facts", ...facts(said)), h("h3", "Timing"), ...timing(call, log.of(call.request_id))];
}

/** Show one event; of what belongs to a call that has ended, the call. */
export function details(event, now) {
  const related = event.request_id ? now.log.of(event.request_id) : [];
  const call = related.findLast(one => one.verdict);
  const fields = Object.entries(event).map(([name, value]) => [name, h("bdi", plain(value))]);
  dialog(
    `${plain(event.event)} at ${clock(event.timestamp)}`,
    ...(call ? ofCall(call, now) : []),
    h("h3", "Fields"),
    h("dl.fields", ...facts(fields)),
  );
}
