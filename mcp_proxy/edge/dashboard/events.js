/** Events: the live tail, bounded and filtered, and one request in detail. */

import { button, empty, grid, h, named, plain, say } from "./dom.js";
import { clock, count, ms } from "./format.js";
import { field, firstCall, search, sign, snippet, toolName } from "./parts.js";
import { details } from "./request.js";

const MOST = 500; // rows
const AT_ONCE = 60; // new rows that one drawing adds; older ones of a flood are counted, not drawn
const PAUSE = 150; // milliseconds between two drawings
const LEVELS = ["debug", "info", "warning", "error"];

/** Return in a few words what an event says. */
export function gist(one) {
  if (one.verdict) return [one.verdict, one.code, `cache ${one.cache}`, one.attempts === 1 ? "1 try" : `${one.attempts} tries`].filter(Boolean).join(" · ");
  if (one.before) return `${one.before} → ${one.after}`.replaceAll("_", "-") + (one.reason ? `: ${one.reason}` : "");
  if (one.attempt) return `try ${one.attempt} failed (${one.reason}), the next in ${ms(one.wait_ms)}`;
  if (one.count) return `${count(one.count)} × ${one.code}`;
  const said = one.message ?? one.reason ?? one.scope ?? one.limit ?? one.version ?? "";
  return one.entries >= 0 ? `${said} · ${count(one.entries)} entries` : said;
}

/** Which events are shown: taken from the log as it grows. */
class Tail {
  shown = []; // the oldest first
  seen = 0; // of the log's total
  skipped = 0;
  #key = "";

  /** Look at what is new; with another filter, at all that is remembered. */
  take(log, key, passes) {
    const anew = key !== this.#key;
    this.#key = key;
    const fresh = Math.min(log.total - (anew ? 0 : this.seen), log.recent.length);
    const found = log.recent.slice(log.recent.length - fresh).filter(passes);
    // filled at once with what was before the page: what more push out is none of a flood
    const most = anew || this.shown.length < MOST ? MOST : AT_ONCE;
    const gap = log.total - this.seen - fresh + (most < MOST) * Math.max(0, found.length - most);
    this.skipped = anew ? 0 : this.skipped + gap;
    this.seen = log.total;
    this.shown = [...(anew ? [] : this.shown), ...found.slice(-most)].slice(-MOST);
  }
}

function filters(draw) {
  const text = search(draw, "event, tool, request id …");
  const level = h("select", { onchange: draw }, ...LEVELS.map(name => h("option", name)));
  const passes = one =>
    LEVELS.indexOf(one.level) >= level.selectedIndex &&
    JSON.stringify(one).toLowerCase().includes(text.value.toLowerCase());
  return { text, level, passes, key: () => `${level.value} ${text.value}` };
}

/** Arrow keys go from row to row; one row alone is in the tab order. */
function arrows({ key, target }) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[key];
  const next = step && target.closest("tr")?.[step]?.querySelector("button");
  if (!next) return true;
  next.focus();
  return false;
}

function tabbable(list) {
  if (list.contains(document.activeElement)) return;
  list.querySelector('button[tabindex="0"]')?.setAttribute("tabindex", -1);
  list.querySelector("button")?.setAttribute("tabindex", 0);
}

/** The page of the events. */
export function events({ draw }) {
  let now = null;
  let paused = false;
  let drawn = 0;
  let timer = 0;
  const tail = new Tail();
  const { text, level, passes, key } = filters(draw);
  const about = one => (one.tool ? toolName(one) : (one.circuit ?? one.target ?? ""));
  const open = one => button(plain(one.event), () => details(one, now), "button.plain", { tabindex: -1 });
  const columns = [
    ["Time", one => clock(one.timestamp), "num slim"],
    ["Level", one => sign(one.level)],
    ["Event", open],
    ["About", one => named(about(one)), "first"],
    ["Took", one => (one.verdict ? ms(one.duration_ms) : ""), "num"],
    ["What", one => named(gist(one)), "gist"],
  ];
  const list = grid("Events, the latest first", columns, one => one.id, "tail");
  list.onkeydown = arrows;
  const told = h("p.quiet", { id: "tail-told" });
  const none = empty("No events yet.", h("p", "Every tool call ends in one, hits too. Try:"), snippet(firstCall()));
  const nothing = empty("Nothing passes the filter.");
  const pause = button("Pause", toggle, "button", { "aria-pressed": "false" });

  function toggle() {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    draw();
  }

  function update(state) {
    now = state;
    const { log } = now;
    if (paused) return say(told, `Paused; ${count(log.total - tail.seen)} new ones wait.`);
    const wait = drawn + PAUSE - performance.now();
    clearTimeout(timer);
    if (wait > 0) {
      timer = setTimeout(draw, wait);
      return null;
    }
    drawn = performance.now();
    tail.take(log, key(), passes);
    list.show(tail.shown.toReversed());
    tabbable(list);
    none.hidden = log.total > 0;
    nothing.hidden = !log.total || !list.hidden;
    const skipped = tail.skipped ? ` ${count(tail.skipped)} came too fast to be drawn.` : "";
    const lost = log.lost ? ` ${count(log.lost)} were lost on the way.` : "";
    return say(told, `${count(tail.shown.length)} shown, ${count(log.total)} heard.${skipped}${lost}`);
  }

  const bar = h("div.bar", field("Filter", text), field("Level from", level), pause);
  return {
    element: h("div", bar, told, none, nothing, list),
    enter: query => query.has("tool") && (text.value = query.get("tool")),
    update,
  };
}
