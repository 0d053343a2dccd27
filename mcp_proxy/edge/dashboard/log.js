/** The events that the page remembers: bounded, and two lists, so that calls do not push out changes. */

const RECENT = 2000;
const CHANGES = 500;
const STATES = new Set(["circuit.state_changed", "upstream.state_changed", "proxy.started", "proxy.draining"]);

/** The events of late. */
export class Log {
  recent = [];
  changes = []; // of circuits, targets and the sidecar itself
  total = 0;
  lost = 0; // by us: the sidecar's ring ran over before we had read
  settled = false; // the past has been told
  #ids = new Set();

  /** Take events in; what is told again after a reconnection is taken once. */
  add(batch) {
    for (const event of batch) {
      if (event.event === "events.lost") {
        this.lost += event.lost;
        continue;
      }
      if (STATES.has(event.event) && !this.#ids.has(event.id)) {
        this.#ids.add(event.id);
        this.changes.push(event);
      }
      this.total += 1;
      this.recent.push(event);
    }
    if (this.recent.length > RECENT) this.recent.splice(0, this.recent.length - RECENT);
    while (this.changes.length > CHANGES) this.#ids.delete(this.changes.shift().id);
  }

  /** The stream is open; the past comes first, and is not announced. */
  connected() {
    this.settled = false;
    setTimeout(() => {
      this.settled = true;
    }, 1000);
  }

  /** Return what is remembered of one request, in the order in which it happened. */
  of(requestId) {
    return this.recent.filter((event) => event.request_id === requestId);
  }
}
