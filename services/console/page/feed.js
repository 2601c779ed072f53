// The console's events: everything on connecting, changes as they come, a beat each second. When the line breaks it is
// made again, soon and then less often, and why it broke is asked for, so that the page can say it.

const SILENT_MS = 4000;
const BACK_OFF_MS = [250, 500, 1000, 2000, 4000, 8000];
const ASK_MS = 2000;

export class Feed {
  #source = null;
  #tries = 0;
  #timer = 0;
  #heardAt = 0;
  #taken;

  /** `taken.told(told)`: all of it; `taken.times(times)`: a beat; `taken.line(words)`: null while it is up. */
  constructor(taken) {
    this.#taken = taken;
    setInterval(() => this.#watchdog(), 1000);
    window.addEventListener("online", () => this.#again());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#source === null) this.#again();
    });
    window.addEventListener("pagehide", () => this.#close());
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) this.#again();
    });
    this.#connect();
  }

  #connect() {
    this.#close();
    this.#heardAt = performance.now();
    const source = new EventSource("/v1/watch");
    this.#source = source;
    source.addEventListener("state", (event) => this.#heard(source, event, (said) => this.#taken.told(said)));
    source.addEventListener("beat", (event) => this.#heard(source, event, (said) => this.#taken.times(said)));
    source.addEventListener("error", () => this.#lost(source));
  }

  #heard(source, event, take) {
    if (source !== this.#source) return;
    this.#heardAt = performance.now();
    this.#tries = 0;
    this.#taken.line(null);
    take(JSON.parse(event.data));
  }

  #watchdog() {
    if (this.#source !== null && performance.now() - this.#heardAt > SILENT_MS) this.#lost(this.#source);
  }

  #lost(source) {
    if (source !== this.#source) return;
    this.#close();
    const wait = BACK_OFF_MS[Math.min(this.#tries, BACK_OFF_MS.length - 1)] * (0.8 + 0.4 * Math.random());
    this.#tries += 1;
    this.#timer = setTimeout(() => this.#connect(), wait);
    this.#askWhy();
  }

  async #askWhy() {
    try {
      const answer = await fetch("/v1/state", { signal: AbortSignal.timeout(ASK_MS), cache: "no-store" });
      const said = await answer.json();
      if (this.#tries === 0) return; // the line is up again meanwhile
      if (answer.ok) {
        this.#taken.told(said);
        this.#taken.line("no live updates: the line to the console breaks; asking again");
      } else {
        this.#taken.line(said.detail ?? `the console answers ${answer.status}`);
      }
    } catch {
      if (this.#tries !== 0) this.#taken.line("the console does not answer: was it ended, or is this machine offline?");
    }
  }

  #again() {
    this.#tries = 0;
    this.#connect();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }
}
