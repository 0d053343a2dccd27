/** Events: the live tail, bounded and filtered, and one request in detail. */

import { details } from "./request.js";
import { empty, h, keyed, named, plain, say, table } from "./dom.js";
import { clock, count, ms } from "./format.js";
import { field, firstCall, snippet, state } from "./parts.js";

const MOST = 500; // rows
const AT_ONCE = 60; // new rows that one drawing adds; older ones of a flood are counted, not drawn
const PAUSE = 150; // milliseconds between two drawings
const LEVELS = ["debug", "info", "warning", "error"];
const MANY = ["tool.call.completed", "retry.scheduled", "circuit.state_changed", "upstream.state_changed", "cache.invalidated", "cache.cleared", "error.aggregated", "ratelimit.rejected", "load.shed", "session.recovered", "config.warning"];

/** Return in a few words what an event says. */
export function gist(one) {
  if (one.event === "tool.call.completed") {
    const tries = one.attempts === 1 ? "1 try" : `${count(one.attempts)} tries`;
    return [one.verdict, one.code, `cache ${one.cache}`, tries].filter(Boolean).join(" · ");
  }
  if (one.before) return `${one.before} → ${one.after}${one.reason ? `: ${one.reason}` : ""}`.replaceAll("_", "-");
  if (one.event === "retry.scheduled") return `try ${one.attempt} failed (${one.reason}), next in ${ms(one.wait_ms)}`;
  if (one.event === "error.aggregated") return `${count(one.count)} × ${one.code}`;
  const said = one.message ?? one.reason ?? one.scope ?? one.limit ?? one.version ?? "";
  return one.entries === undefined || one.entries === null ? String(said) : `${said} · ${count(one.entries)} entries`;
}

function line(one, open) {
  const button = h("button", { type: "button", class: "plain", tabindex: "-1", on: { click: () => open(one) } }, plain(one.event));
  const about = one.tool ?? one.circuit ?? one.target ?? "";
  const text = plain(gist(one));
  return h(
    "tr",
    { "data-id": one.id },
    h("td", { class: "num" }, clock(one.timestamp)),
    h("td", {}, state(one.level)),
    h("td", {}, button),
    h("td", { class: "first" }, about ? named(one.service ? `${one.service}/${about}` : about) : ""),
    h("td", { class: "gist", title: text }, text),
    h("td", { class: "num wide" }, one.duration_ms === undefined ? "" : ms(one.duration_ms)),
  );
}

function filters(draw) {
  const changed = { on: { input: draw } };
  const text = h("input", { type: "search", placeholder: "tool, request id, code …", ...changed });
  const type = h("select", changed, h("option", { value: "" }, "all"), ...MANY.map((name) => h("option", {}, name)));
  const level = h("select", changed, ...LEVELS.map((name) => h("option", { value: name }, name === "debug" ? "all" : name)));
  return {
    nodes: [field("Text", text), field("Event", type), field("Level from", level)],
    set(tool) {
      text.value = tool;
    },
    get key() {
      return `${text.value}\n${type.value}\n${level.value}`;
    },
    passes() {
      const part = text.value.toLowerCase();
      const lowest = LEVELS.indexOf(level.value);
      return (one) =>
        (!type.value || one.event === type.value) &&
        LEVELS.indexOf(one.level) >= lowest &&
        (!part || JSON.stringify(one).toLowerCase().includes(part) || `${one.service}/${one.tool}`.toLowerCase().includes(part));
    },
  };
}

/** Arrow keys go from row to row; one row alone is in the tab order. */
function arrows(body) {
  body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && event.target.closest("tr")?.[step]?.querySelector("button");
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

/** Which events are shown: taken from the log as it grows. */
class Tail {
  shown = []; // the oldest first
  skipped = 0;
  #seen = 0; // of the log's total
  #key = null;

  take(log, key, passes) {
    const anew = key !== this.#key;
    this.#key = key;
    const fresh = anew ? log.recent.length : Math.min(log.total - this.#seen, log.recent.length);
    const missed = anew ? 0 : log.total - this.#seen - fresh;
    this.#seen = log.total;
    const found = (fresh ? log.recent.slice(-fresh) : []).filter(passes);
    const most = anew ? MOST : AT_ONCE;
    if (anew) this.skipped = 0;
    else this.skipped += missed + Math.max(0, found.length - most);
    this.shown = [...(anew ? [] : this.shown), ...found.slice(-most)].slice(-MOST);
  }
}

function make({ draw }) {
  let paused = false;
  let drawn = 0;
  let timer = 0;
  const tail = new Tail();
  const wanted = filters(draw);
  const pause = h("button", { type: "button", "aria-pressed": "false", on: { click: toggle } }, "Pause");
  const told = h("p", { class: "quiet", id: "tail-told" });
  const list = table("Events, the latest first", [{ text: "Time", num: true }, "Level", "Event", "About", "What", { text: "Took", num: true, more: "wide" }], "tail");
  const none = empty("No events yet.", h("p", {}, "Every tool call ends in one, hits too. Try:"), snippet(firstCall()));
  const nothing = empty("Nothing passes the filter.", h("p", {}, "Later events will be shown if they do."));
  arrows(list.body);

  function toggle() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume" : "Pause";
    draw();
  }

  function update(now) {
    const { log } = now;
    if (paused) {
      say(told, `Paused: ${count(log.total - drawnTotal)} new events wait.`);
      return;
    }
    const wait = PAUSE - (performance.now() - drawn);
    if (wait > 0) {
      timer ||= setTimeout(draw, wait);
      return;
    }
    clearTimeout(timer);
    timer = 0;
    drawn = performance.now();
    drawnTotal = log.total;
    tail.take(log, wanted.key, wanted.passes());
    const rows = [...tail.shown].reverse();
    keyed(list.body, rows, (one) => one.id, (one) => line(one, (event) => details(event, now)));
    tabbable(list.body);
    none.hidden = log.total > 0;
    nothing.hidden = !log.total || rows.length > 0;
    list.element.hidden = !rows.length;
    const skipped = tail.skipped ? ` ${count(tail.skipped)} came too fast to be drawn.` : "";
    const lost = log.lost ? ` ${count(log.lost)} were lost before this page had read them.` : "";
    say(told, `${count(rows.length)} shown, of ${count(log.total)} heard.${skipped}${lost}`);
  }
  let drawnTotal = 0;

  return {
    element: h("div", {}, h("div", { class: "bar" }, ...wanted.nodes, pause), told, none, nothing, list.element),
    enter(query) {
      if (query.has("tool")) wanted.set(query.get("tool"));
    },
    update,
  };
}

function tabbable(body) {
  if (body.contains(document.activeElement)) return;
  for (const one of body.querySelectorAll('button[tabindex="0"]')) one.tabIndex = -1;
  const first = body.querySelector("button");
  if (first) first.tabIndex = 0;
}

/** The page of the events. */
export const events = { title: "Events", make };
