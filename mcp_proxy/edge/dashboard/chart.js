/** Charts: uPlot for the large ones, a polyline for those in a row. */

import { h, mark, svg } from "./dom.js";

const WIDTH = 96;
const HEIGHT = 20;
const HIGH = 170;

/** A small line of a tool's rate; its text says the same. */
export function spark(label) {
  const line = svg("polyline", { class: "line" });
  const box = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": label },
    line,
  );
  box.draw = (values, most, said) => {
    const step = WIDTH / 59;
    const from = WIDTH - (values.length - 1) * step;
    const top = most || 1;
    const points = values.map(
      (value, at) => `${(from + at * step).toFixed(1)},${(HEIGHT - 1.5 - (value / top) * (HEIGHT - 3)).toFixed(1)}`,
    );
    mark(line, "points", points.join(" "));
    mark(box, "aria-label", said);
  };
  return box;
}

function colour(node, name) {
  return getComputedStyle(node).getPropertyValue(name).trim();
}

/** Return the colours of the theme as canvas takes them: light-dark() must be resolved first. */
function inks(node) {
  const probe = h("span");
  node.append(probe);
  const found = {};
  for (const name of ["ink", "quiet", "line", "bad", "accent", "warn"]) {
    probe.style.color = `var(--${name})`;
    found[name] = colour(probe, "color");
  }
  probe.remove();
  return found;
}

/**
 * A chart over time with a legend of its own, where each line has a pattern beside its colour.
 * @param {string} title
 * @param {{name: string, ink: string, dash?: number[], read: (history: object) => number[]}[]} series
 * @param {(value: number|null) => string} format
 */
export function chart(title, series, format) {
  const canvas = h("div", { class: "canvas", "aria-hidden": "true" });
  const values = series.map(() => h("b", { class: "num" }, "–"));
  const legend = h(
    "ul",
    { class: "legend" },
    ...series.map((one, at) =>
      h(
        "li",
        {},
        svg(
          "svg",
          { width: 22, height: 6, "aria-hidden": "true" },
          svg("line", { x1: 0, x2: 22, y1: 3, y2: 3, class: `ink-${one.ink}`, "stroke-dasharray": one.dash?.join(" ") }),
        ),
        `${one.name} `,
        values[at],
      ),
    ),
  );
  const element = h("section", { class: "panel chart" }, h("h2", {}, title), legend, canvas);
  let plot = null;
  let made = "";

  function build(width, data) {
    plot?.destroy();
    const ink = inks(element);
    const axis = { stroke: ink.quiet, grid: { stroke: ink.line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    plot = new window.uPlot(
      {
        width,
        height: HIGH,
        legend: { show: false },
        cursor: { show: false },
        padding: [8, 8, 0, 0],
        scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
        axes: [
          { ...axis, grid: { show: false }, space: 70, size: 26, values: (_, ticks) => ticks.map(hour) },
          { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => format(tick)) },
        ],
        series: [
          {},
          ...series.map((one) => ({ stroke: ink[one.ink], width: 1.5, dash: one.dash, points: { show: false } })),
        ],
      },
      data,
      canvas,
    );
  }

  return {
    element,
    draw(history) {
      const data = [history.times, ...series.map((one) => one.read(history))];
      data.slice(1).forEach((list, at) => {
        const text = format(list.at(-1) ?? null);
        if (values[at].textContent !== text) values[at].textContent = text;
      });
      const width = canvas.clientWidth;
      if (!width) return;
      const now = `${width} ${getComputedStyle(document.documentElement).colorScheme} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
      if (now !== made) build(width, data);
      else plot.setData(data);
      made = now;
    },
  };
}

function hour(seconds) {
  const when = new Date(seconds * 1000);
  return [when.getHours(), when.getMinutes(), when.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}
