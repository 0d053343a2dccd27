/** The page's only way to the DOM: nodes and text, never markup. Names on this page come from anybody. */

const SHAPES = new Set(["svg", "line", "polyline", "rect", "circle"]);
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/**
 * Make an element, `h("td.num", {title: "…"}, "text", node)`; functions among the attributes are handlers.
 * @param {string} spec tag and classes
 */
export function h(spec, ...rest) {
  const [tag, ...classes] = spec.split(".");
  const node = SHAPES.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  const props = rest[0]?.constructor === Object ? rest.shift() : {};
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") node[name] = value;
    else mark(node, name, value);
  }
  node.append(...rest);
  return node;
}

/** Show a text, if it is another one than is shown. */
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

/** Set an attribute if it changes; null takes it away. */
export function mark(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Return a name as it can be trusted to look: signs that turn the text or are not seen are spelled. */
export const plain = name =>
  String(name ?? "").replace(
    UNSEEN,
    sign => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** Return a name as an element that keeps its direction of writing to itself. */
export function named(name) {
  const text = plain(name);
  return h("bdi.name", { title: text }, text);
}

/** Show items as children, and keep the node of each by its key: what stays is not touched. */
export function keyed(parent, items, keyOf, make) {
  const known = (parent.keyed ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) {
    if (wanted.has(key)) continue;
    node.remove();
    known.delete(key);
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

/**
 * A table in a region that scrolls for itself; `show(items)` fills it, and hides it when there are none.
 * @param {string} caption read aloud, not seen
 * @param {[label: string, read: (item: any) => string|Node, kind?: string][]} columns
 * @param {(item: any) => string} keyOf
 * @param {string} [more] classes
 */
export function grid(caption, columns, keyOf, more = "cards") {
  const body = h("tbody");
  const heads = columns.map(([label, , kind = ""]) => h("th", { scope: "col", class: kind }, label));
  const element = h(
    `div.scroll.${more}`,
    { role: "region", "aria-label": caption, tabindex: 0 },
    h("table", h("caption.unseen", caption), h("thead", h("tr", ...heads)), body),
  );
  element.show = items => {
    element.hidden = !items.length;
    keyed(body, items, keyOf, item => row(item, columns));
  };
  return element;
}

function row(item, columns) {
  const patches = [];
  const cells = columns.map(([label, read, kind = ""]) => {
    const made = read(item);
    const cell = h("td", { class: kind, "data-label": label }, made);
    patches.push(made instanceof Node ? now => made.patch?.(now) : now => say(cell, read(now)));
    return cell;
  });
  const node = h("tr", ...cells);
  node.patch = now => now !== item && patches.forEach(patch => patch(now));
  return node;
}

/** Make a node that follows an item by `patch`. */
export function live(node, patch, item) {
  node.patch = patch;
  patch(item);
  return node;
}

/** A button that submits nothing. */
export const button = (text, onclick, spec = "button", more = {}) => h(spec, { type: "button", onclick, ...more }, text);

/** A panel with a heading. */
export const panel = (title, ...children) => h("section.panel", h("h2", title), ...children);

/** What stands where there is nothing yet, and what to do about it. */
export const empty = (title, ...more) => h("div.empty", h("p", h("strong", title)), ...more);
