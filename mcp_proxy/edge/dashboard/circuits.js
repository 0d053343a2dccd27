/** Circuits: which are open, since when, and how it came to that. */

import { empty, grid, h, live, mark, named, panel, plain, say } from "./dom.js";
import { clock, count, seconds, stateOf } from "./format.js";
import { counted, sign, state } from "./parts.js";

const SPAN = 900_000; // milliseconds that the lanes show
const SCALE = 1000; // of them to a unit of a lane
const MOST = 200; // rows
const HIGH = { open: 14, half_open: 7 }; // to be told apart without colour; closed is a thin line
const WORST = ["open", "half_open", "closed"];

/** Return what a circuit was, and when, between two times, out of its changes, the oldest first. */
export function spans(changes, from, to, current) {
  const found = [];
  let since = from;
  let known = changes[0]?.before ?? current;
  for (const change of [...changes, { timestamp: to, after: "" }]) {
    const at = Math.min(to, new Date(change.timestamp).getTime());
    if (at > since) found.push({ state: known, from: since, to: at });
    since = Math.max(from, at);
    known = change.after;
  }
  return found;
}

function lane(one) {
  const box = h("svg.lane", { viewBox: "0 0 900 14", preserveAspectRatio: "none", role: "img" });
  const show = now => {
    const opened = now.spans.filter(span => span.state === "open").length;
    mark(box, "aria-label", `${stateOf(now.state)[2]}, opened ${opened} times in 15 minutes`);
    box.replaceChildren(...now.spans.map(span => bar(span, now.begin)));
  };
  return live(box, show, one);
}

function bar({ state: was, from, to }, begin) {
  const height = HIGH[was] ?? 2;
  const width = Math.max(to - from, height > 2 ? 3000 : 0) / SCALE;
  return h(`rect.${stateOf(was)[1]}`, { x: (from - begin) / SCALE, width, y: height > 2 ? 14 - height : 6, height });
}

const CIRCUITS = [
  ["Circuit", one => named(one.name), "first"],
  ["State", state(one => one.state)],
  ["Last 15 minutes", lane, "lanes"],
  counted("Failures in a row", "failures"),
  counted("Opened", "opened"),
  ["Next try", one => (one.retry_after_s === null ? "–" : `in ${seconds(one.retry_after_s)}`), "num"],
];

const CHANGES = [
  ["Time", one => clock(one.timestamp), "num slim"],
  ["What", one => named(one.circuit ?? one.target ?? "the sidecar"), "first"],
  ["From", one => (one.before ? sign(one.before) : "–")],
  ["To", one => sign(one.after ?? one.event.slice(6))],
  ["Why", one => plain(one.reason)],
];

/** The page of the circuits. */
export function circuits() {
  const told = h("p.quiet");
  const list = grid("Circuits", CIRCUITS, one => one.name);
  const past = grid("Changes", CHANGES, one => one.id);
  const none = empty(
    "No circuit yet.",
    h("p", "Each tool gets one with its first call. MCP_CB_FAILURE_THRESHOLD failed tries in a row open it; after MCP_CB_RECOVERY_TIMEOUT one call finds out."),
  );
  const quiet = h("p.quiet", "None that the sidecar remembers.");
  const key = h("p.quiet", sign("closed"), ": thin line. ", sign("half_open"), ": half bar. ", sign("open"), ": full bar.");
  return {
    element: h("div", told, none, list, key, panel("Changes, the latest first", past, quiet)),
    update({ metrics, health, log }) {
      const to = Date.now();
      const begin = to - SPAN;
      const from = Math.max(begin, to - (health?.uptime_seconds ?? 0) * 1000);
      const known = Object.entries(metrics?.circuits ?? health?.circuits ?? {});
      const rows = known.map(([name, one]) => {
        const changes = log.changes.filter(change => change.circuit === name && Date.parse(change.timestamp) >= from);
        return { ...one, name, begin, spans: spans(changes, from, to, one.state) };
      });
      rows.sort((a, b) => WORST.indexOf(a.state) - WORST.indexOf(b.state) || b.opened - a.opened);
      const open = rows.filter(one => one.state !== "closed").length;
      none.hidden = rows.length > 0;
      key.hidden = !rows.length;
      say(told, rows.length ? `${count(open)} of ${count(rows.length)} not closed` : "");
      list.show(rows.slice(0, MOST));
      past.show(log.changes.slice(-MOST).reverse());
      quiet.hidden = !past.hidden;
    },
  };
}
