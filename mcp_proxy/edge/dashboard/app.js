/** The page: asks for the numbers, follows the events, shows one view at a time. */

import { TokenWanted, ask, keepToken, token } from "./api.js";
import { h, mark, plain, say } from "./dom.js";
import { Log } from "./log.js";
import { Feed } from "./feed.js";
import { seconds } from "./format.js";
import { History } from "./history.js";
import { announce, state } from "./parts.js";
import { askToken } from "./token.js";
import { cache } from "./cache.js";
import { circuits } from "./circuits.js";
import { connect } from "./connect.js";
import { events } from "./events.js";
import { overview } from "./overview.js";
import { settings } from "./settings.js";
import { tools } from "./tools.js";

const VIEWS = { overview, tools, circuits, events, cache, settings, connect };
const SHORTEST = 1000; // milliseconds between two looks
const LONGEST = 10_000;
const CHANGES = new Set(["circuit.state_changed", "upstream.state_changed", "cache.cleared", "proxy.started"]);

/** What the views are shown. */
const now = { metrics: null, health: null, config: null, history: new History(), log: new Log(), off: "", link: "connecting" };

const page = (id) => document.getElementById(id);
const made = new Map();
let shown = null;
let drawing = false;
let timer = 0;
let looking = false;
let again = false;

// --- what is drawn

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    head();
    shown?.update(now);
  });
}

const health = state("connecting");
const link = state("connecting");

function head() {
  const { metrics, health: told } = now;
  health.patch(now.off === "unreachable" ? "unreachable" : (told?.status ?? "connecting"));
  link.patch(now.link);
  mark(page("upstream"), "title", told?.upstream?.target ?? "");
  say(page("upstream"), told ? `in front of ${plain((told.targets ?? [told.upstream]).map((one) => one.target).join(", "))}` : "");
  say(page("uptime"), told ? `up ${seconds((metrics ?? told).uptime_seconds)}` : "");
  say(page("version"), told ? `mcp-sidecar ${told.version}` : "");
  page("forget").hidden = !token();
  notice();
}

const NOTICES = {
  token: "This sidecar is guarded by MCP_ADMIN_TOKEN. Only its health is shown until you give the token.",
  metrics: "MCP_ENABLE_METRICS is false: there are no counts, percentiles or charts. Events go on.",
  unreachable: "The sidecar does not answer. What you see is the last that it said; the page keeps asking.",
};

function notice() {
  const box = page("notice");
  if (box.dataset.about === now.off) return;
  box.dataset.about = now.off;
  box.hidden = !now.off;
  box.replaceChildren(
    h("span", { "aria-hidden": "true" }, "▲ "),
    NOTICES[now.off] ?? "",
    now.off === "token" ? h("button", { type: "button", on: { click: wantToken } }, "Enter token") : "",
  );
}

// --- what is asked

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  clearTimeout(timer);
  const began = performance.now();
  const [metrics, told] = await Promise.allSettled([ask("api/metrics"), ask("api/health", { also: [503] })]);
  const took = performance.now() - began;
  if (told.status === "fulfilled") now.health = told.value;
  take(metrics, told.status === "fulfilled");
  draw();
  looking = false;
  // a sidecar with many tools is asked less often: the page must not be what keeps it busy
  if (!document.hidden) timer = setTimeout(look, again ? 200 : Math.min(LONGEST, Math.max(SHORTEST, took * 10)));
  again = false;
}

function take(metrics, reached) {
  if (metrics.status === "fulfilled") {
    now.metrics = metrics.value;
    now.history.add(Date.now(), metrics.value);
    now.off = "";
    if (!now.config) configure();
  } else if (metrics.reason instanceof TokenWanted) {
    now.off = "token";
    now.metrics = null;
  } else if (metrics.reason.status === 404) {
    now.off = "metrics";
    if (!now.config) configure();
  } else if (!reached) {
    now.off = "unreachable";
  }
}

async function configure() {
  try {
    now.config = await ask("api/config");
    draw();
  } catch {
    // the next look finds out why
  }
}

async function wantToken() {
  if (!(await askToken())) return;
  now.config = null;
  feed.restart();
  look();
}

// --- what is heard

function heard(batch) {
  now.log.add(batch);
  const changed = batch.filter((event) => CHANGES.has(event.event));
  if (changed.length) {
    if (changed.some((event) => event.event === "proxy.started")) now.config = null;
    const last = changed.findLast((event) => event.after);
    if (last && now.log.settled) announce(`${plain(last.circuit ?? last.target)} is ${last.after.replace("_", "-")}`);
    look();
  }
  draw();
}

const feed = new Feed(heard, (changed) => {
  now.link = changed;
  if (changed === "live") now.log.connected();
  draw();
});

// --- where we are

function route() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  const view = Object.hasOwn(VIEWS, name) ? name : "overview";
  const first = shown === null;
  if (!made.has(view)) made.set(view, VIEWS[view].make({ look, draw, wantToken }));
  shown = made.get(view);
  shown.enter?.(new URLSearchParams(query));
  page("view").replaceChildren(shown.element);
  say(page("title"), VIEWS[view].title);
  document.title = `${VIEWS[view].title} – mcp-sidecar`;
  for (const one of document.querySelectorAll("nav a")) {
    mark(one, "aria-current", one.hash === `#/${view}` ? "page" : null);
  }
  if (!first) page("main").focus({ preventScroll: true });
  scrollTo(0, 0);
  draw();
}

function theme() {
  const choice = page("theme");
  choice.value = localStorage.getItem("mcp-sidecar-theme") ?? "light dark";
  const follow = () => {
    document.documentElement.style.colorScheme = choice.value;
    draw();
  };
  choice.addEventListener("change", () => {
    localStorage.setItem("mcp-sidecar-theme", choice.value);
    follow();
  });
  follow();
}

document.querySelector("nav").append(
  h("ul", {}, ...Object.entries(VIEWS).map(([name, view]) => h("li", {}, h("a", { href: `#/${name}` }, view.title)))),
);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is a route
  page("main").focus();
});
page("health").replaceWith(health);
page("link").replaceWith(link);
health.id = "health";
link.id = "link";
page("forget").addEventListener("click", () => {
  keepToken("");
  now.config = null;
  feed.restart();
  look();
});
addEventListener("hashchange", route);
addEventListener("resize", draw);
document.addEventListener("visibilitychange", () => document.hidden || look());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
theme();
route();
look();
feed.start();
