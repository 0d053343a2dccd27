/** Cache: how full, how useful, and the broom. */

import { ask } from "./api.js";
import { button, empty, grid, h, live, named, panel, plain, say } from "./dom.js";
import { bytes, count, share } from "./format.js";
import { keyOf } from "./history.js";
import { dialog, looked, sign, strip, tool, toolName } from "./parts.js";
import { askToken } from "./token.js";

// Lists and resources are kept under their method; a clear narrows by tool, so these go with all.
const METHOD = /^(tools|prompts|resources(\/templates)?|server|completion)\/(list|read|get|discover|complete)$/;

function purge(one, done) {
  const told = h("p.told", { role: "alert" });
  const sure = h("button.danger", one ? "Purge these answers" : "Purge everything");
  const cancel = button("Cancel", () => box.close());
  const what = one
    ? h("p", "All stored answers of ", named(toolName(one)), ` are dropped: ${count(one.cache.entries)} entries, ${bytes(one.cache.bytes)} in memory.`)
    : h("p", "All stored answers are dropped, in memory and in Redis.");
  const onsubmit = async event => {
    event.preventDefault();
    try {
      const scope = one?.service ? { service: one.service, tool: one.tool } : { tool: one?.tool };
      const said = await ask("api/cache/clear", scope);
      box.close();
      done(said.entries === null ? "Purged." : `Purged ${count(said.entries)} entr${said.entries === 1 ? "y" : "ies"}.`);
    } catch (error) {
      say(told, `Nothing was purged: ${error.message}`);
      if (error.status === 401 && (await askToken())) say(told, "The token is good: now purge.");
    }
  };
  const note = h("p.quiet", "The next calls go to the server. It cannot be undone.");
  const box = dialog("Purge the cache?", h("form", { onsubmit }, what, note, told, h("div.act", cancel, sure)));
  cancel.focus();
}

const stat = (label, key) => [label, one => count(one.cache[key]), "num"];

const COLUMNS = [
  ["Tool", tool, "first"],
  ["Hit ratio", one => (looked(one) ? share(one.cache.hit_ratio) : "–"), "num"],
  stat("Hits", "hits"),
  stat("Misses", "misses"),
  stat("Stale", "stale"),
  stat("Shared", "collapsed"),
  stat("Entries", "entries"),
  ["Size", one => bytes(one.cache.bytes), "num"],
  stat("Evicted", "evicted"),
  stat("Writes that drop", "invalidations"),
];

const FIGURES = [
  ["cache-entries", "Entries"],
  ["cache-bytes", "Size"],
  ["cache-ratio", "Hit ratio"],
  ["cache-misses", "Misses"],
  ["cache-evicted", "Evicted"],
];

/** The page of the cache. */
export function cache({ look }) {
  const told = h("span", { role: "status", id: "purged" });
  const done = text => {
    say(told, text);
    look();
  };
  const broom = one => {
    if (!one.service && METHOD.test(one.tool)) return "with all";
    let latest = one;
    const more = { "aria-label": `Purge ${plain(toolName(one))}` };
    const node = button("Purge", () => purge(latest, done), "button", more);
    return live(node, now => (latest = now), one);
  };
  const all = button("Purge everything", () => purge(null, done));
  const list = grid("Cache by tool", [...COLUMNS, ["Purge", broom]], keyOf);
  const off = empty("Nothing is cached.", h("p", "MCP_CACHE_ENABLED and MCP_ENABLE_CACHING must both be true: see ", h("a", { href: "#/settings" }, "Settings"), "."));
  const none = empty(
    "The cache has had nothing to do yet.",
    h("p", "Only reads are kept. Say which tools are, in the file that MCP_CONFIG_FILE names:"),
    h("pre", '[tools."my_query*"]\nread_only = true'),
  );
  const top = strip(...FIGURES);
  const fill = [...top.children].slice(0, 2).map(box => box.appendChild(h("dd", h("meter", { "aria-label": "of what may be kept" }))));
  const down = h("p", sign("down"), " Redis cannot be used: only memory is.");
  const rows = panel("By tool", h("div.bar", all, told), none, list);
  return {
    element: h("div", off, top, down, rows),
    update({ metrics }) {
      const kept = metrics?.cache;
      off.hidden = !metrics || !!kept;
      top.hidden = rows.hidden = !kept;
      down.hidden = kept?.redis_up !== false;
      if (!kept) return;
      const { hit_ratio: ratio, hits, misses, stale, collapsed } = metrics.total.cache;
      top.show(
        [count(kept.entries), `of ${count(kept.max_entries)}, ${kept.store}`],
        [bytes(kept.bytes), `of ${bytes(kept.max_bytes)}`],
        [share(ratio), `${count(hits)} hits, ${count(stale)} stale`],
        [count(misses), `${count(collapsed)} shared`],
        [count(kept.evicted), `${count(kept.invalidations)} invalidations`],
      );
      fill[0].firstChild.value = kept.entries / kept.max_entries;
      fill[1].firstChild.value = kept.bytes / (kept.max_bytes || 1);
      const used = metrics.tools.filter(one => looked(one) || one.cache.entries || one.cache.invalidations);
      used.sort((a, b) => b.cache.bytes - a.cache.bytes || looked(b) - looked(a));
      none.hidden = used.length > 0;
      list.show(used.slice(0, 200));
    },
  };
}
