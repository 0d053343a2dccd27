/** The event stream, read with fetch: EventSource cannot carry a token. */

import { beside, headers } from "./api.js";

const FIRST_PAUSE = 500; // milliseconds
const LONGEST_PAUSE = 5000;

/** Cut the text of an event stream into events (WHATWG HTML section 9.2.6); ours end lines with LF. */
export function reader(told) {
  let rest = "";
  return text => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map(line => line.split(/: ?(.*)/, 2)));
      if (fields.data) told(fields.id, fields.data);
    }
  };
}

/** Follow the events, and come back after every end with the id of the last one that was seen. */
export class Feed {
  #told;
  #changed;
  #last = "";
  #leave;
  #wake = () => {};

  /**
   * @param {(events: object[]) => void} told many at once
   * @param {(state: string) => void} changed
   */
  constructor(told, changed) {
    this.#told = told;
    this.#changed = changed;
  }

  /** Let go of the stream and begin anew at once: the token has changed. */
  restart() {
    this.#leave?.abort();
    this.#wake();
  }

  /** Follow for ever. */
  async follow() {
    let pause = FIRST_PAUSE;
    for (;;) {
      const state = await this.#listen(() => (pause = FIRST_PAUSE)).catch(() => "reconnecting");
      this.#changed(state);
      await new Promise(go => {
        this.#wake = go;
        setTimeout(go, pause);
      });
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  async #listen(connected) {
    this.#leave = new AbortController();
    const heard = await fetch(beside("api/events?replay=1000"), {
      headers: headers(this.#last ? { "Last-Event-ID": this.#last } : {}),
      signal: this.#leave.signal,
    });
    if (!heard.ok) return heard.status === 401 ? "refused" : "reconnecting";
    connected();
    this.#changed("live");
    let batch = [];
    const read = reader((id, data) => {
      this.#last = id ?? this.#last;
      batch.push(JSON.parse(data));
    });
    const texts = heard.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await texts.read();
      if (done) return "reconnecting";
      read(value);
      this.#told(batch);
      batch = [];
    }
  }
}
