/** Our own endpoints, asked with the token; it is kept for this tab alone. */

const KEPT = "mcp-sidecar-token";

/** Return the token of this tab, or "". */
export const token = () => sessionStorage.getItem(KEPT) ?? "";

/** Keep a token for this tab; "" forgets it. */
export const keepToken = value => sessionStorage.setItem(KEPT, value);

/** Return the address of an endpoint: beside the page, also where a proxy puts a path before it. */
export const beside = path => new URL(path, document.baseURI).href;

/** Return request headers with the token; a header is bytes, so it goes as UTF-8. */
export function headers(more) {
  const spelled = String.fromCharCode(...new TextEncoder().encode(token()));
  return spelled ? { ...more, Authorization: `Bearer ${spelled}` } : more;
}

/**
 * Ask for JSON; throws an error with the `status`: 401 if the token is wanted, 0 if nobody answers.
 * Health tells something with 503, too.
 */
export async function ask(path, body) {
  const heard = await fetch(beside(path), {
    method: body ? "POST" : "GET",
    headers: headers(body ? { "Content-Type": "application/json" } : {}),
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(1e4),
  }).catch(() => failed(0, "The sidecar does not answer."));
  const said = await heard.json().catch(() => ({}));
  return heard.ok || said.upstream ? said : failed(heard.status, said.detail ?? `status ${heard.status}`);
}

function failed(status, message) {
  throw Object.assign(new Error(message), { status });
}
