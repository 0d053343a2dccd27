/** The event stream, read with fetch: EventSource cannot carry a token. */

import { beside, headers } from "./api.js";

const FIRST_PAUSE = 500; // milliseconds
const LONGEST_PAUSE = 5000;

/**
 * Cut the text of an event stream into events (WHATWG HTML section 9.2.6).
 * @param {(id: string, data: string) => void} told
 */
export function reader(told) {
  let rest = "";
  return (text) => {
    rest += text;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      let id = "";
      const data = [];
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line.startsWith("id:")) id = line.slice(3).trim();
      }
      if (data.length) told(id, data.join("\n"));
    }
  };
}

/** Follow the events, and come back after every end with the id of the last one that was seen. */
export class Feed {
  #told;
  #changed;
  #last = "";
  #leave = null;
  #wake = null;
  #begun = false;

  /**
   * @param {(events: object[]) => void} told many at once
   * @param {(state: "connecting"|"live"|"waiting"|"refused") => void} changed
   */
  constructor(told, changed) {
    this.#told = told;
    this.#changed = changed;
  }

  /** Begin, or try again at once. */
  start() {
    this.#wake?.();
    if (this.#begun) return;
    this.#begun = true;
    this.#follow();
  }

  /** Let go of the stream and begin anew: the token has changed. */
  restart() {
    this.#leave?.abort();
    this.start();
  }

  async #follow() {
    let pause = FIRST_PAUSE;
    this.#changed("connecting");
    for (;;) {
      let state = "waiting";
      try {
        state = await this.#listen(() => (pause = FIRST_PAUSE));
      } catch {
        // gone, or not there: both are waited for
      }
      this.#changed(state);
      await this.#rest(state === "refused" ? LONGEST_PAUSE : pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  #rest(time) {
    return new Promise((go) => {
      const timer = setTimeout(go, time);
      this.#wake = () => {
        clearTimeout(timer);
        go();
      };
    });
  }

  async #listen(connected) {
    this.#leave = new AbortController();
    const known = this.#last ? { "Last-Event-ID": this.#last } : {};
    const heard = await fetch(beside("api/events?replay=1000"), {
      headers: headers(known),
      cache: "no-store",
      signal: this.#leave.signal,
    });
    if (heard.status === 401) return "refused";
    if (!heard.ok) return "waiting";
    connected();
    this.#changed("live");
    let batch = [];
    const read = reader((id, data) => {
      if (id) this.#last = id;
      batch.push(JSON.parse(data));
    });
    const texts = heard.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await texts.read();
      if (done) return "waiting";
      read(value);
      if (batch.length) this.#told(batch);
      batch = [];
    }
  }
}
