/** Charts: uPlot for the large ones, a polyline for those in a row. */

import { h, live, mark, say } from "./dom.js";
import { clock, rate } from "./format.js";

/** The part of the time that is shown, ten seconds at least: uPlot gives a whole day to one sample. */
function span({ data: [times] }) {
  const end = times.at(-1) ?? Date.now() / 1000;
  return [Math.min(times[0] ?? end, end - 10), end];
}

/** A small line of what `read` finds in an item; its name says the same. */
export const spark = read => item => {
  const line = h("polyline");
  const box = h("svg.spark", { viewBox: "0 0 96 20", width: 96, height: 20, role: "img" }, line);
  const draw = now => {
    const values = read(now);
    const most = Math.max(0, ...values);
    const points = values.map((value, at) => {
      const x = 96 - (values.length - 1 - at) * 1.62;
      return `${x.toFixed(1)},${(18.5 - (value / (most || 1)) * 17).toFixed(1)}`;
    });
    mark(line, "points", points.join(" "));
    mark(box, "aria-label", `${rate(values.at(-1) ?? 0)} a second, at most ${rate(most)}`);
  };
  return live(box, draw, item);
};

/** Return the theme's colours as canvas takes them: light-dark() must be resolved first. */
function inks(node, names) {
  const probe = node.appendChild(h("span"));
  const found = names.map(name => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(found);
}

/**
 * A chart over time; each line has a pattern beside its colour, and its latest value in words.
 * @param {string} title
 * @param {[name: string, ink: string, dash: number[], key: string][]} series, the key is one of the history
 * @param {(value: number|null) => string} format
 */
export function chart(title, series, format) {
  const canvas = h("div.canvas", { "aria-hidden": "true" });
  const latest = series.map(() => h("b.num"));
  const legend = series.map(([name, ink, dash], at) => {
    const line = h(`line.${ink}`, { x2: 22, y1: 3, y2: 3, "stroke-dasharray": dash.join(" ") });
    return h("li", h("svg", { width: 22, height: 6, "aria-hidden": "true" }, line), `${name} `, latest[at]);
  });
  const element = h("section.panel", h("h2", title), h("ul.legend", ...legend), canvas);
  let plot = null;
  let made = "";

  function build(width, data) {
    plot?.destroy();
    const ink = inks(element, ["quiet", "line", ...series.map(one => one[1])]);
    const axis = { stroke: ink.quiet, grid: { stroke: ink.line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const lines = series.map(one => ({ stroke: ink[one[1]], width: 1.5, dash: one[2], points: { show: false } }));
    const options = {
      width,
      height: 150,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 26, 0, 0],
      scales: { x: { range: span }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 70, size: 26, values: (_, all) => all.map(one => clock(one * 1000, false)) },
        { ...axis, size: 58, values: (_, all) => all.map(format) },
      ],
      series: [{}, ...lines],
    };
    plot = new window.uPlot(options, data, canvas);
  }

  element.draw = history => {
    const data = [history.times, ...series.map(one => history[one[3]])];
    latest.forEach((node, at) => say(node, format(data[at + 1].at(-1) ?? null)));
    const width = canvas.clientWidth;
    const now = `${width} ${getComputedStyle(element).color}`; // its size and the theme
    if (now === made) plot.setData(data);
    else if (width) build(width, data);
    made = now;
  };
  return element;
}
