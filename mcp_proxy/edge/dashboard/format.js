/** How numbers, times and states are said. */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const two = part => String(part).padStart(2, "0");

/** 12,345 */
export const count = value => WHOLE.format(value ?? 0);

/** A number of a second, or any with two or three figures. */
export function rate(value) {
  if (value === null) return "–";
  return value >= 100 ? count(value) : value.toFixed(value >= 10 ? 1 : value ? 2 : 0);
}

/** A share between 0 and 1 in per cent. */
export function share(value) {
  const percent = value * 100;
  return `${percent % 100 ? percent.toFixed(percent < 10 ? 2 : 1) : percent} %`;
}

/** Milliseconds. */
export function ms(value) {
  if (value === null) return "–";
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${rate(value)} ms`;
}

/** Bytes. */
export function bytes(value) {
  const power = value ? Math.min(4, Math.floor(Math.log2(value) / 10)) : 0;
  const left = value / 1024 ** power;
  return `${power && left < 100 ? left.toFixed(1) : count(left)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** Seconds as people say them: 3 d 4 h, 5 min 20 s. */
export function seconds(value) {
  const sizes = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let left = Math.floor(value);
  const said = sizes.map(([size, unit]) => {
    const many = Math.floor(left / size);
    left %= size;
    return many ? `${many} ${unit}` : "";
  });
  const first = said.findIndex(Boolean);
  return first < 0 ? "0 s" : said.slice(first, first + 2).join(" ").trim();
}

/** The time of day of an ISO stamp or of milliseconds, here. */
export function clock(stamp, fraction = true) {
  const when = new Date(stamp);
  const time = [when.getHours(), when.getMinutes(), when.getSeconds()].map(two).join(":");
  return fraction ? `${time}.${String(when.getMilliseconds()).padStart(3, "0")}` : time;
}

// sign and weight of each state: it is never told by colour alone
const KINDS = [
  ["●", "good", "healthy closed present live up ok"],
  ["▲", "warn", "degraded restarting reconnecting warning"],
  ["◐", "warn", "half_open"],
  ["■", "bad", "unhealthy lost open down error unreachable refused"],
];

/** Return sign, weight and word of a state. */
export function stateOf(name) {
  const [sign, weight] = KINDS.find(kind => kind[2].split(" ").includes(name)) ?? ["○", "none"];
  return [sign, weight, String(name).replace("_", "-")];
}
