/** The page: asks for the numbers, follows the events, shows one view at a time. */

import { ask, keepToken, token } from "./api.js";
import { cache } from "./cache.js";
import { circuits } from "./circuits.js";
import { connect } from "./connect.js";
import { button, h, mark, plain, say } from "./dom.js";
import { events } from "./events.js";
import { Feed } from "./feed.js";
import { seconds, stateOf } from "./format.js";
import { History } from "./history.js";
import { Log, STATES } from "./log.js";
import { overview } from "./overview.js";
import { state, targets } from "./parts.js";
import { settings } from "./settings.js";
import { askToken } from "./token.js";
import { tools } from "./tools.js";

const VIEWS = { overview, tools, circuits, events, cache, settings, connect };
const SHORTEST = 1000; // milliseconds between two looks
const LONGEST = 10_000;
const NOTICES = {
  token: "MCP_ADMIN_TOKEN guards this sidecar: without it, only its health is shown. ",
  metrics: "MCP_ENABLE_METRICS is false: there are no counts and no charts.",
  unreachable: "The sidecar does not answer. This is the last that it said.",
};

// what the views are shown
const now = { metrics: null, health: null, config: null, history: new History(), log: new Log(), link: "connecting", off: "" };
const page = id => document.getElementById(id);
const made = {};
let [drawing, looking, again] = [false, false, false];
let shown = null;
let timer = 0;

// --- what is drawn

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    head();
    shown.update(now);
  });
}

const states = [
  state(() => (now.off === "unreachable" ? now.off : (now.health?.status ?? "connecting")))(),
  state(() => now.link)(),
];

function head() {
  const { health, metrics, off } = now;
  for (const one of states) one.patch();
  if (health) {
    say(page("upstream"), `in front of ${plain(targets(health).map(one => one.target).join(", "))}`);
    say(page("uptime"), `up ${seconds((metrics ?? health).uptime_seconds)}`);
    say(page("version"), health.version);
  }
  page("forget").hidden = !token();
  const notice = page("notice");
  notice.hidden = !off;
  if (notice.dataset.about === off) return;
  notice.dataset.about = off;
  const give = button("Enter token", wantToken);
  notice.replaceChildren(h("span", { "aria-hidden": "true" }, "▲ "), NOTICES[off] ?? "", ...(off === "token" ? [give] : []));
}

// --- what is asked

async function look() {
  again = looking;
  if (looking) return;
  looking = true;
  clearTimeout(timer);
  const began = performance.now();
  const [metrics, health] = await Promise.allSettled([ask("api/metrics"), ask("api/health")]);
  const took = performance.now() - began;
  now.health = health.value ?? now.health;
  take(metrics.value, metrics.reason);
  draw();
  looking = false;
  // a sidecar with many tools is asked less often: the page must not be what keeps it busy
  const pause = again ? 200 : Math.min(LONGEST, Math.max(SHORTEST, took * 10));
  if (!document.hidden) timer = setTimeout(look, pause);
}

function take(metrics, error) {
  now.off = error ? ({ 401: "token", 404: "metrics" }[error.status] ?? "unreachable") : "";
  if (metrics) {
    now.metrics = metrics;
    now.history.add(Date.now(), metrics);
  } else if (now.off !== "unreachable") {
    now.metrics = null;
  }
  if (!now.config && (metrics || now.off === "metrics")) configure();
}

async function configure() {
  now.config = await ask("api/config").catch(() => null); // the next look finds out why
  draw();
}

async function wantToken() {
  if (await askToken()) afresh();
}

function afresh() {
  now.config = null;
  feed.restart();
  look();
}

// --- what is heard

function heard(batch) {
  now.log.add(batch);
  const changed = batch.filter(event => STATES.test(event.event));
  if (changed.length) {
    const last = changed.findLast(event => event.after);
    // what is told again is no news
    if (last && Date.now() - Date.parse(last.timestamp) < 5000) {
      say(page("announce"), `${plain(last.circuit ?? last.target)} is ${stateOf(last.after)[2]}`);
    }
    look();
  }
  draw();
}

const feed = new Feed(heard, link => {
  if (link === "live" && now.link === "reconnecting") now.config = null; // it may have been restarted
  now.link = link;
  draw();
});

// --- where we are

function route() {
  const [path, query] = location.hash.slice(2).split("?");
  const name = Object.hasOwn(VIEWS, path) ? path : "overview";
  const first = !shown;
  shown = made[name] ??= VIEWS[name]({ look, draw, wantToken });
  shown.enter?.(new URLSearchParams(query));
  page("view").replaceChildren(shown.element);
  for (const one of document.querySelectorAll("nav a")) {
    const here = one.hash === `#/${name}`;
    mark(one, "aria-current", here ? "page" : null);
    if (here) say(page("title"), one.textContent);
  }
  document.title = `${page("title").textContent} – mcp-sidecar`;
  if (!first) page("main").focus();
  draw();
}

for (const name of Object.keys(VIEWS)) {
  const title = name[0].toUpperCase() + name.slice(1);
  document.querySelector("nav ul").append(h("li", h("a", { href: `#/${name}` }, title)));
}
page("states").append(...states);
page("forget").onclick = () => {
  keepToken("");
  afresh();
};
document.querySelector(".skip").onclick = () => {
  page("main").focus();
  return false; // the hash is a route
};
addEventListener("hashchange", route);
addEventListener("resize", draw);
document.addEventListener("visibilitychange", () => document.hidden || look());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
route();
look();
feed.follow();
