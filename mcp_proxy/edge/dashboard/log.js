/** The events that the page remembers: bounded, and two lists, so that calls do not push out changes. */

const RECENT = 2000;
const CHANGES = 500;
/** Of circuits, targets and the sidecar itself. */
export const STATES = /^(circuit|upstream)\.state_changed$|^proxy\.(started|draining)$/;

/** The events of late. */
export class Log {
  recent = [];
  changes = [];
  total = 0;
  lost = 0; // the sidecar's ring ran over before we had read

  /** Take events in. */
  add(batch) {
    for (const event of batch) {
      if (event.event === "events.lost") {
        this.lost += event.lost;
        continue;
      }
      this.total += 1;
      this.recent.push(event);
      if (STATES.test(event.event)) this.changes.push(event);
    }
    this.recent.splice(0, this.recent.length - RECENT);
    this.changes.splice(0, this.changes.length - CHANGES);
  }

  /** Return what is remembered of one request, in the order in which it happened. */
  of = requestId => this.recent.filter(event => event.request_id === requestId);
}
