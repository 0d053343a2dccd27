/** What /api/metrics said lately, kept in the page: the sidecar counts, and keeps no past. */

const KEPT = 300; // samples
const SPARK = 60;

/** A tool's row by one text, whatever its name holds. */
export const keyOf = one => JSON.stringify([one.service, one.tool]);

function push(list, value, most = KEPT) {
  list.push(value);
  if (list.length > most) list.shift();
}

/** Samples of the totals, and of each tool's rate. */
export class History {
  times = []; // seconds, as uPlot wants them
  requests = []; // a second
  errors = [];
  p50 = [];
  p95 = [];
  p99 = [];
  #before = null;
  #tools = new Map();

  /** Take in an answer of /api/metrics; a restart of the sidecar leaves a gap. */
  add(now, metrics) {
    const before = this.#before;
    const gone = metrics.uptime_seconds - (before?.uptime_seconds ?? Infinity);
    if (gone >= 0 && gone < 0.5) return; // too short for a rate
    const { total } = (this.#before = metrics);
    const whole = gone > 0 && total.requests >= before.total.requests;
    push(this.times, now / 1000);
    for (const name of ["requests", "errors"]) {
      push(this[name], whole ? (total[name] - before.total[name]) / gone : null);
    }
    for (const name of ["p50", "p95", "p99"]) {
      push(this[name], total.requests ? total.latency_ms[name] : null);
    }
    const known = this.#tools;
    this.#tools = new Map();
    for (const tool of metrics.tools) {
      const past = known.get(keyOf(tool)) ?? { requests: 0, rates: [] };
      push(past.rates, whole ? Math.max(0, tool.requests - past.requests) / gone : 0, SPARK);
      past.requests = tool.requests;
      this.#tools.set(keyOf(tool), past);
    }
  }

  /** Return the calls a second over the last so many samples, or null if nothing is known. */
  lately(samples) {
    const found = this.requests.slice(-samples).filter(value => value !== null);
    return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : null;
  }

  /** Return the rates of a tool, the oldest first. */
  ratesOf(tool) {
    return this.#tools.get(keyOf(tool))?.rates ?? [];
  }
}
