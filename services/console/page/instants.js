// Ages and what is left, counted from the console's own monotonic clock: this machine's wall clock is compared to none.

/** When something happened, as the console said it, and what this page has counted since. */
export class Instants {
  #times = null;
  #heardAt = -Infinity;
  #heardWallMs = 0;

  /** Take what the console said of the time. */
  take(times) {
    this.#times = times;
    this.#heardAt = performance.now();
    this.#heardWallMs = Date.now();
  }

  /** Milliseconds since the console was last heard. A machine that slept counts its sleep by the wall clock only. */
  silenceMs() {
    if (this.#times === null) return Infinity;
    return Math.max(0, performance.now() - this.#heardAt, Date.now() - this.#heardWallMs);
  }

  /** The console's monotonic clock now. */
  nowMs() {
    return this.#times === null ? 0 : this.#times.now_ms + this.silenceMs();
  }

  /** The console's wall clock now, for ages of what is on record. */
  unixMs() {
    return this.#times === null ? 0 : this.#times.unix_ms + this.silenceMs();
  }

  /** Milliseconds since an instant of the console; null for never. */
  ageMs(instantMs) {
    return instantMs === null || instantMs === undefined ? null : Math.max(0, this.nowMs() - instantMs);
  }

  /** Milliseconds until the lease ends; null when it is not known. */
  leaseLeftMs() {
    const until = this.#times?.lease_until_ms ?? null;
    return until === null ? null : Math.max(0, until - this.nowMs());
  }

  get times() {
    return this.#times;
  }
}

/** `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`. */
export function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** `11-21 22:57:44`, in UTC. */
export function stamp(unixMs) {
  return unixMs > 0 ? new Date(unixMs).toISOString().slice(5, 19).replace("T", " ") : "never";
}

/** When something on record happened: the time, and how long ago in a whole unit. */
export function ago(unixMs, nowMs) {
  const age = nowMs - unixMs;
  return age < 1000 ? "now" : `${duration(age < 10000 ? Math.floor(age / 1000) * 1000 : age).replace(".0 s", " s")} ago`;
}
