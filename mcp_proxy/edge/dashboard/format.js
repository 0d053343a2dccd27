/** How numbers, times and states are said. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A count: 12,345. */
export const count = (value) => WHOLE.format(value ?? 0);

/** A rate: two figures that mean something. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? count(value) : value >= 10 ? value.toFixed(1) : value.toFixed(value ? 2 : 0);
}

/** A share between 0 and 1 in per cent. */
export function share(value) {
  if (value === null || value === undefined) return "–";
  const percent = value * 100;
  return `${percent === 0 || percent === 100 ? percent : percent.toFixed(percent < 10 ? 2 : 1)} %`;
}

/** Milliseconds. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 100 ? count(value) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** Bytes. */
export function bytes(value) {
  let unit = 0;
  let left = value ?? 0;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit && left < 100 ? left.toFixed(1) : count(left)} ${UNITS[unit]}`;
}

/** Seconds as people say them: 3 d 4 h, 5 min 20 s. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  const whole = Math.floor(value);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => whole >= size);
  if (first < 0) return "0 s";
  let left = whole;
  return parts
    .slice(first, first + 2)
    .map(([size, unit]) => {
      const many = Math.floor(left / size);
      left -= many * size;
      return many || size === parts[first][0] ? `${many} ${unit}` : "";
    })
    .filter(Boolean)
    .join(" ");
}

/** The time of day of an ISO stamp or a number of milliseconds. */
export function clock(stamp, fraction = true) {
  const when = new Date(stamp);
  if (Number.isNaN(when.getTime())) return "–";
  const two = (part) => String(part).padStart(2, "0");
  const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
  return fraction ? `${time}.${String(when.getMilliseconds()).padStart(3, "0")}` : time;
}

/** Sign, word and weight of every state that is shown: never colour alone. */
const STATES = {
  healthy: ["●", "healthy", "good"],
  closed: ["●", "closed", "good"],
  present: ["●", "present", "good"],
  live: ["●", "live", "good"],
  up: ["●", "up", "good"],
  ok: ["●", "ok", "good"],
  degraded: ["▲", "degraded", "warn"],
  restarting: ["▲", "restarting", "warn"],
  half_open: ["◐", "half-open", "warn"],
  waiting: ["▲", "reconnecting", "warn"],
  connecting: ["○", "connecting", "none"],
  unhealthy: ["■", "unhealthy", "bad"],
  lost: ["■", "lost", "bad"],
  open: ["■", "open", "bad"],
  down: ["■", "down", "bad"],
  refused: ["■", "token wanted", "bad"],
  unreachable: ["■", "unreachable", "bad"],
  debug: ["·", "debug", "none"],
  info: ["○", "info", "none"],
  warning: ["▲", "warning", "warn"],
  error: ["■", "error", "bad"],
};

/** Return sign, word and weight of a state. */
export const stateOf = (name) => STATES[name] ?? ["○", String(name ?? "unknown"), "none"];
