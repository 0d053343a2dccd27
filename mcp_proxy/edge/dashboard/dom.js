/** The page's only way to the DOM: nodes and text, never markup. Names on this page come from anybody. */

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/**
 * Make an element: attributes by name, `on` handlers by event; children are nodes or text.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Node|string|number|null|undefined)} children
 */
export function h(tag, props = {}, ...children) {
  return dress(document.createElement(tag), props, children);
}

/** Make an SVG element; see `h`. */
export function svg(tag, props = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), props, children);
}

function dress(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, react] of Object.entries(value)) node.addEventListener(event, react);
    } else if (value !== undefined && value !== null && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Show a text, if it is another one than is shown. */
export function say(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Set an attribute if it changes; null takes it away. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Return a name from outside as it can be trusted to look: characters that turn the direction of
 * text, or cannot be seen, are spelled.
 * @param {unknown} name
 */
export function plain(name) {
  return String(name ?? "").replace(
    UNSEEN,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Return a name from outside as an element that keeps its direction of writing to itself. */
export function named(name, more = "") {
  const text = plain(name);
  return h("bdi", { class: `name ${more}`.trim(), title: text }, text);
}

/**
 * Show items as children, keeping the node of each by its key: what stays is not touched.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Element & {patch?: (item: T) => void}} make
 */
export function keyed(parent, items, keyOf, make) {
  const known = (parent.keyed ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) {
    if (!wanted.has(key)) {
      node.remove();
      known.delete(key);
    }
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = known.get(key);
    if (!node) known.set(key, (node = make(item)));
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
    node.patch?.(item);
  }
}

/** Make a table row whose cells are patched by functions of the item. */
export function row(item, cells, props = {}) {
  const made = cells.map((cell) => cell(item));
  const node = h("tr", props, ...made.map(([element]) => element));
  node.patch = (now) => made.forEach(([, patch]) => patch?.(now));
  return node;
}

/** A cell of text, to the right if it is a number. */
export function cell(read, label, props = {}) {
  return (item) => {
    const node = h("td", { "data-label": label, ...props }, read(item));
    return [node, (now) => say(node, read(now))];
  };
}

/** A cell of a number: tabular figures, to the right. */
export function figure(read, label, more = "") {
  return cell(read, label, { class: `num ${more}`.trim() });
}

/** A cell with a node that patches itself. */
export function holding(make, label, props = {}) {
  return (item) => {
    const inner = make(item);
    return [h("td", { "data-label": label, ...props }, inner), (now) => inner.patch?.(now)];
  };
}

/**
 * Make a table inside a region that scrolls for itself.
 * @param {string} caption read aloud, not seen
 * @param {(string|{text: string, num?: boolean, hide?: boolean})[]} heads
 */
export function table(caption, heads, more = "") {
  const body = h("tbody");
  const head = heads.map((one) => {
    const about = typeof one === "string" ? { text: one } : one;
    const kind = [about.num ? "num" : "", about.more ?? ""].join(" ").trim();
    return h("th", { scope: "col", class: kind || null }, about.text);
  });
  const element = h(
    "div",
    { class: `scroll ${more}`.trim(), role: "region", "aria-label": caption, tabindex: "0" },
    h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, ...head)), body),
  );
  return { element, body };
}

/** A panel with a heading. */
export function panel(title, ...children) {
  return h("section", { class: "panel" }, h("h2", {}, title), ...children);
}

/** What stands where there is nothing yet, and what to do about it. */
export function empty(title, ...more) {
  return h("div", { class: "empty" }, h("p", {}, h("strong", {}, title)), ...more);
}
