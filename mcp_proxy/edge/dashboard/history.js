/** What /api/metrics said lately, kept in the page: the sidecar counts, and keeps no past. */

const KEPT = 300; // samples
const SPARK = 60;

/** A tool's row by one text, whatever its name holds. */
export const keyOf = (tool) => JSON.stringify([tool.service, tool.tool]);

/** Samples of the totals, and of each tool's rate. */
export class History {
  times = []; // seconds, as uPlot wants them
  calls = []; // a second
  errors = [];
  p50 = [];
  p95 = [];
  p99 = [];
  #last = null;
  #tools = new Map();

  /** Take in an answer of /api/metrics; a restart of the sidecar leaves a gap. */
  add(now, metrics) {
    const before = this.#last;
    this.#last = { now, uptime: metrics.uptime_seconds, total: metrics.total };
    const gone = before ? metrics.uptime_seconds - before.uptime : 0;
    const whole = before && gone > 0 && metrics.total.requests >= before.total.requests;
    const per = (name) => (whole ? (metrics.total[name] - before.total[name]) / gone : null);
    const latency = metrics.total.requests ? metrics.total.latency_ms : {};
    this.#push(this.times, now / 1000);
    this.#push(this.calls, per("requests"));
    this.#push(this.errors, per("errors"));
    for (const name of ["p50", "p95", "p99"]) this.#push(this[name], latency[name] ?? null);
    this.#addTools(metrics.tools, whole ? gone : 0);
  }

  #push(list, value, most = KEPT) {
    list.push(value);
    if (list.length > most) list.shift();
  }

  #addTools(tools, gone) {
    const known = this.#tools;
    this.#tools = new Map();
    for (const tool of tools) {
      const key = keyOf(tool);
      const past = known.get(key) ?? { requests: 0, rates: [] };
      const more = tool.requests - past.requests;
      this.#push(past.rates, gone && more >= 0 ? more / gone : 0, SPARK);
      past.requests = tool.requests;
      this.#tools.set(key, past);
    }
  }

  /** Return the mean over the last so many seconds of a list, or null if nothing is known. */
  lately(list, span) {
    const since = (this.times.at(-1) ?? 0) - span;
    const found = list.filter((value, at) => value !== null && this.times[at] > since);
    return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : null;
  }

  /** Return the rates of a tool, the oldest first. */
  ratesOf(tool) {
    return this.#tools.get(keyOf(tool))?.rates ?? [];
  }
}
