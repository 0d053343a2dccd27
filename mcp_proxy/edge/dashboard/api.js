/** Our own endpoints, asked with the token; it is kept for this tab alone. */

const KEPT = "mcp-sidecar-token";

/** An endpoint wants MCP_ADMIN_TOKEN. */
export class TokenWanted extends Error {}

/** An endpoint answered, and not well. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the token of this tab, or "". */
export const token = () => sessionStorage.getItem(KEPT) ?? "";

/** Keep a token for this tab; "" forgets it. */
export function keepToken(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

/** Return the address of an endpoint: beside the page, also where a proxy puts a path before it. */
export const beside = (path) => new URL(path, document.baseURI);

/** Return request headers with the token; a header is bytes, so it goes as UTF-8. */
export function headers(more = {}) {
  const kept = token();
  if (!kept) return more;
  const spelled = String.fromCharCode(...new TextEncoder().encode(kept));
  return { ...more, Authorization: `Bearer ${spelled}` };
}

/**
 * Ask for JSON; throws TokenWanted or Refused. `also` are statuses whose body counts all the same.
 * @param {string} path
 * @param {{method?: string, body?: object, also?: number[]}} [options]
 */
export async function ask(path, { method = "GET", body, also = [] } = {}) {
  const heard = await fetch(beside(path), {
    method,
    headers: headers(body ? { "Content-Type": "application/json" } : {}),
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(10_000),
  });
  if (heard.status === 401) throw new TokenWanted();
  const said = await heard.json().catch(() => ({}));
  if (!heard.ok && !also.includes(heard.status)) {
    throw new Refused(heard.status, said.detail ?? `status ${heard.status}`);
  }
  return said;
}
