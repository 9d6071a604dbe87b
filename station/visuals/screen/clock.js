// The time by the server's clock: a screen's own may be wrong for years, and nobody sets it.

export class Clock {
  #offset = Date.now() - performance.now();
  #format = null;
  #zone = "";

  // `now`: milliseconds since 1970 at the server. From then on the steady clock counts, whatever happens to the other.
  set(now) {
    if (Number.isFinite(now)) this.#offset = now - performance.now();
  }

  now() {
    return this.#offset + performance.now();
  }

  // `zone`: a name of the IANA database; one that the browser does not know is ignored.
  in(zone) {
    if (zone === this.#zone) return;
    try {
      this.#format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: zone || undefined });
      this.#zone = zone;
    } catch {
      if (this.#format === null) this.in("");
    }
  }

  // Hours and minutes of a time in milliseconds.
  text(time) {
    if (this.#format === null) this.#format = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
    return this.#format.format(time);
  }
}
