/** Cache: how full, how useful, and the broom. */

import { TokenWanted, ask } from "./api.js";
import { empty, figure, h, holding, keyed, named, panel, plain, row, say, table } from "./dom.js";
import { bytes, count, share } from "./format.js";
import { keyOf } from "./history.js";
import { dialog, meter, stat, state, tool, toolName } from "./parts.js";
import { askToken } from "./token.js";

// Lists and resources are kept under their method; a clear narrows by tool, so these go with all.
const METHOD = /^(tools|prompts|resources|resources\/templates)\/(list|read|get)$|^server\/discover$|^completion\/complete$/;

/** Tell whether a row is a tool's, which can be purged alone. */
export const isTool = (one) => Boolean(one.service) || !METHOD.test(one.tool);

function purge(one, done) {
  const told = h("p", { class: "told", role: "alert" });
  const sure = h("button", { type: "submit", class: "danger" }, one ? "Purge these answers" : "Purge everything");
  const cancel = h("button", { type: "button" }, "Cancel");
  const form = h(
    "form",
    {},
    one
      ? h("p", {}, "All stored answers of ", named(toolName(one)), ` are dropped: ${count(one.cache.entries)} entries, ${bytes(one.cache.bytes)} in memory.`)
      : h("p", {}, "All stored answers of all tools are dropped, in memory and in Redis."),
    h("p", { class: "quiet" }, "The next calls go to the server. Nothing else changes; it cannot be undone."),
    told,
    h("div", { class: "act" }, cancel, sure),
  );
  const box = dialog("Purge the cache?", form);
  cancel.addEventListener("click", () => box.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    sure.disabled = true;
    try {
      const said = await ask("api/cache/clear", { method: "POST", body: one ? narrowing(one) : {} });
      box.close();
      done(said);
    } catch (error) {
      sure.disabled = false;
      if (error instanceof TokenWanted && (await askToken())) purge(one, done);
      else if (box.open) say(told, `Nothing was purged: ${error.message || "the token is wanted"}`);
    }
  });
  cancel.focus();
}

function narrowing(one) {
  return one.service ? { service: one.service, tool: one.tool } : { tool: one.tool };
}

function broom(one, done) {
  if (!isTool(one)) return h("span", { class: "quiet" }, "with all");
  const node = h("button", { type: "button", "aria-label": `Purge ${plain(toolName(one))}` }, "Purge");
  let latest = one;
  node.patch = (now) => {
    latest = now;
  };
  node.addEventListener("click", () => purge(latest, done));
  return node;
}

function make({ look }) {
  const stats = {
    entries: stat("Entries", "cache-entries"),
    bytes: stat("Size", "cache-bytes"),
    ratio: stat("Hit ratio", "cache-ratio"),
    hits: stat("Hits", "cache-hits"),
    misses: stat("Misses", "cache-misses"),
    dropped: stat("Evicted", "cache-evicted"),
  };
  const fills = [meter("Entries, of what may be kept"), meter("Bytes, of what may be kept")];
  stats.entries.element.append(h("dd", {}, fills[0]));
  stats.bytes.element.append(h("dd", {}, fills[1]));
  const told = h("p", { class: "told", role: "status", id: "purged" });
  const done = (said) => {
    const what = said.entries === null ? "Purged." : `Purged ${count(said.entries)} ${said.entries === 1 ? "entry" : "entries"}.`;
    say(told, what);
    look();
  };
  const all = h("button", { type: "button", id: "purge-all", on: { click: () => purge(null, done) } }, "Purge everything");
  const redis = h("p", { hidden: true }, "Redis ", state("up"));
  const num = (text) => ({ text, num: true });
  const list = table("Cache by tool", ["Tool", num("Hit ratio"), num("Hits"), num("Misses"), num("Stale"), num("Shared"), num("Entries"), num("Size"), num("Evicted"), num("Dropped by writes"), "Purge"], "cards");
  const cells = [
    holding(tool, "Tool", { class: "first" }),
    figure((one) => share(one.cache.hit_ratio), "Hit ratio"),
    figure((one) => count(one.cache.hits), "Hits"),
    figure((one) => count(one.cache.misses), "Misses"),
    figure((one) => count(one.cache.stale), "Stale"),
    figure((one) => count(one.cache.collapsed), "Shared"),
    figure((one) => count(one.cache.entries), "Entries"),
    figure((one) => bytes(one.cache.bytes), "Size"),
    figure((one) => count(one.cache.evicted), "Evicted"),
    figure((one) => count(one.cache.invalidations), "Dropped by writes"),
    holding((one) => broom(one, done), "Purge"),
  ];
  const off = empty("Nothing is cached: caching is off.", h("p", {}, "It is on when ", h("code", {}, "MCP_CACHE_ENABLED"), " and ", h("code", {}, "MCP_ENABLE_CACHING"), " both are. ", h("a", { href: "#/settings" }, "Settings"), " says which is not."));
  const none = empty(
    "The cache has had nothing to do yet.",
    h("p", {}, "Only reads are kept: say which tools are, in the file that ", h("code", {}, "MCP_CONFIG_FILE"), " names:"),
    h("pre", {}, h("code", {}, '[tools."my_query*"]\nread_only = true')),
  );
  const strip = h("dl", { class: "strip" }, ...Object.values(stats).map((one) => one.element));
  const rows = panel("By tool", h("div", { class: "bar" }, all, told), none, list.element);
  return {
    element: h("div", {}, off, strip, redis, rows),
    update({ metrics }) {
      const kept = metrics?.cache;
      off.hidden = !metrics || Boolean(kept);
      strip.hidden = rows.hidden = !kept;
      if (!kept) return;
      const { cache } = metrics.total;
      stats.entries.show(count(kept.entries), `of ${count(kept.max_entries)}, ${kept.store}`);
      stats.bytes.show(bytes(kept.bytes), `of ${bytes(kept.max_bytes)}`);
      fills[0].patch(kept.entries / kept.max_entries);
      fills[1].patch(kept.max_bytes ? kept.bytes / kept.max_bytes : 0);
      stats.ratio.show(share(cache.hit_ratio), "stale ones count as hits");
      stats.hits.show(count(cache.hits), `${count(cache.stale)} stale`);
      stats.misses.show(count(cache.misses), `${count(cache.collapsed)} shared an answer`);
      stats.dropped.show(count(kept.evicted), `${count(kept.invalidations)} invalidations`);
      redis.hidden = kept.redis_up === undefined;
      redis.lastElementChild.patch(kept.redis_up ? "up" : "down");
      const used = metrics.tools.filter((one) => looked(one) || one.cache.entries || one.cache.invalidations);
      used.sort((a, b) => b.cache.bytes - a.cache.bytes || looked(b) - looked(a));
      none.hidden = used.length > 0;
      list.element.hidden = !used.length;
      keyed(list.body, used.slice(0, 200), keyOf, (one) => row(one, cells));
    },
  };
}

const looked = (one) => one.cache.hits + one.cache.misses + one.cache.stale + one.cache.collapsed;

/** The page of the cache. */
export const cache = { title: "Cache", make };
