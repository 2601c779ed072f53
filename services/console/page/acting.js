// Acting from the page, with what the command line asks for: who, why, the target typed, and for a forced failover the
// loss typed as well. The console passes it on; what a controller refuses is shown in its words.

import { h, mark, patch } from "./dom.js";

const POLL_MS = 300;
const FOLLOW_MS = 60000;
const FORMS = {
  switchover: {
    title: (to) => `Switch over to ${to}`,
    does: (to, active) => `${active || "The active region"} stops showing rankings, everything it acknowledged is proven to be in ${to}, then the lease moves. Nothing is lost. If a step takes too long it is aborted and handed back.`,
    verb: "Switch over",
    needsTarget: true,
  },
  failover: {
    title: (to) => `Force a failover to ${to}`,
    does: (to) => `${to} becomes active although it may lack something that others acknowledged. How much is known to be missing is asked first; what was acknowledged after the last contact comes on top, and a receipt lists all of it.`,
    verb: "Ask what would be lost",
    needsTarget: true,
    isGrave: true,
  },
  pause: {
    title: () => "Pause",
    does: () => "No region takes over by itself until the pause ends, not even when the active one dies.",
    verb: "Pause",
    needsTarget: false,
  },
  resume: { title: () => "Resume", does: () => "Ends the pause: regions take over by themselves again.", verb: "Resume", needsTarget: false },
};
const PAUSES = [["900", "15 minutes"], ["3600", "1 hour"], ["14400", "4 hours"], ["86400", "24 hours"]];

export class Acting {
  #dialog;
  #picture = null;
  #form = null;
  #by = "";
  #token = "";

  constructor(dialog) {
    this.#dialog = dialog;
    dialog.addEventListener("close", () => {
      this.#form = null;
      patch(dialog);
    });
  }

  /** Keep up with what may be asked for. */
  take(picture) {
    this.#picture = picture;
    if (this.#form !== null) this.#draw();
  }

  /** Ask the operator. */
  open(verb, to = "") {
    this.#form = { verb, to, typed: "", reason: "", seconds: "3600", active: this.#picture.active, loss: null, lossTyped: "", refusal: "", steps: [], phase: "asking", operationId: newId() };
    this.#draw();
    this.#dialog.showModal();
  }

  #draw() {
    const form = this.#form;
    const kind = FORMS[form.verb];
    const isOver = form.phase === "over" || form.phase === "following";
    patch(this.#dialog,
      h("form", { method: "dialog", class: "act", "data-grave": kind.isGrave ?? false, onsubmit: (event) => this.#submit(event), key: "form" },
        h("h2", { id: "act-title" }, kind.title(form.to)),
        h("p", {}, kind.does(form.to, form.active)),
        isOver ? null : this.#standing(form),
        isOver ? null : this.#fields(form, kind),
        h("div", { role: "alert", key: "refusal" }, form.refusal ? h("p", { class: "refusal" }, mark("bad", "refused"), h("span", {}, form.refusal)) : null),
        form.loss === null || isOver ? null : this.#lossField(form),
        h("ol", { class: "steps", "aria-live": "polite", key: "steps" }, form.steps.map((step, index) => h("li", { key: String(index) }, step))),
        h("div", { class: "buttons", key: "buttons" },
          h("button", { type: "button", key: "close", onclick: () => this.#dialog.close() }, isOver ? "Close" : "Cancel"),
          isOver ? null : h("button", { type: "submit", class: kind.isGrave ? "grave primary" : "primary", key: "go", disabled: !this.#isReady() }, this.#verb(form, kind)))));
  }

  #verb(form, kind) {
    if (form.phase === "sending") return "Asking…";
    return form.loss === null ? kind.verb : `Fail over, accepting ${form.loss} lost`;
  }

  #standing(form) {
    const region = this.#picture.regions.find((each) => each.name === form.to);
    if (region === undefined) return null;
    const words = region.blocker ? region.blocker : `${region.name} is ready: ${region.lag_words} behind`;
    return h("p", { class: "takes", key: "standing", "data-level": region.blocker ? "warning" : "good" }, mark(region.blocker ? "warning" : "good"), h("span", {}, words));
  }

  #fields(form, kind) {
    const wantsToken = this.#picture.operating.wants_token;
    return [
      kind.needsTarget ? field("typed", `Type ${form.to} to confirm`, { autocomplete: "off", autocapitalize: "none", spellcheck: "false", autofocus: true, oninput: (event) => this.#set("typed", event) }) : null,
      field("reason", "Why; it stands in the history and the receipt", { required: true, maxlength: "200", autofocus: !kind.needsTarget, oninput: (event) => this.#set("reason", event) }),
      field("by", "By whom", { required: true, maxlength: "200", autocomplete: "username", oninput: (event) => this.#setBy(event) }, this.#by),
      form.verb === "pause" ? h("p", { class: "field", key: "seconds" }, h("label", { for: "field-seconds" }, "For how long"),
        h("select", { id: "field-seconds", onchange: (event) => this.#set("seconds", event) }, PAUSES.map(([value, words]) => h("option", { key: value, once: value === "3600" ? { selected: "" } : {}, value }, words)))) : null,
      wantsToken ? field("token", "Operator's token", { type: "password", required: true, autocomplete: "current-password", oninput: (event) => this.#setToken(event) }, this.#token) : null,
    ];
  }

  #lossField(form) {
    return field("loss", `Type ${form.loss} to accept that so many events may be lost`, { inputmode: "numeric", autocomplete: "off", oninput: (event) => this.#set("lossTyped", event) });
  }

  #set(name, event) {
    this.#form[name] = event.target.value;
    this.#draw();
  }

  #setBy(event) {
    this.#by = event.target.value;
    this.#draw();
  }

  #setToken(event) {
    this.#token = event.target.value;
    this.#draw();
  }

  #isReady() {
    const form = this.#form;
    const typed = !FORMS[form.verb].needsTarget || form.typed === form.to;
    const loss = form.loss === null || form.lossTyped.trim() === String(form.loss);
    return form.phase === "asking" && typed && loss && form.reason.trim() !== "" && this.#by.trim() !== "";
  }

  async #submit(event) {
    event.preventDefault();
    if (!this.#isReady()) return;
    const form = this.#form;
    form.phase = "sending";
    form.refusal = "";
    this.#draw();
    const answer = await this.#send(form);
    if (this.#form !== form) return;
    form.phase = "asking";
    if (answer.ok) this.#taken(form, answer.said);
    else this.#refused(form, answer.said);
    if (this.#form === form) this.#draw();
  }

  async #send(form) {
    try {
      const session = await (await fetch("/v1/session", { cache: "no-store" })).json();
      const headers = { "Content-Type": "application/json", "X-Meridian-Session": session.session };
      if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
      const body = { operation_id: form.operationId, by: this.#by.trim(), reason: form.reason.trim() };
      if (FORMS[form.verb].needsTarget) Object.assign(body, { to: form.to, typed: form.typed });
      if (form.verb === "pause") body.seconds = Number(form.seconds);
      if (form.loss !== null) body.accept_loss_events = form.loss;
      const answer = await fetch(`/v1/operate/${form.verb}`, { method: "POST", headers, body: JSON.stringify(body) });
      return { ok: answer.ok, said: await answer.json() };
    } catch (problem) {
      return { ok: false, said: { detail: `the console does not answer (${problem.message}); it is not known whether it was taken`, remedy: "Ask again: it is the same operation." } };
    }
  }

  #refused(form, said) {
    if (form.verb === "failover" && typeof said.loss_events === "number" && form.loss !== said.loss_events) {
      const isFirst = form.loss === null;
      form.loss = said.loss_events;
      form.lossTyped = "";
      form.refusal = `${isFirst ? "Before it is done: " : "The number has changed: "}${said.detail}.`;
      return;
    }
    form.refusal = `Refused: ${said.detail ?? said.title ?? "no reason was given"}. ${said.remedy ?? ""}`.trim();
  }

  #taken(form, said) {
    if (said.operation_id === undefined || said.state === undefined) {
      form.phase = "over";
      form.steps.push(said.detail ?? (form.verb === "pause" ? "paused" : "done"));
      return;
    }
    form.phase = "following";
    form.steps.push(`${said.kind} ${said.operation_id} to ${said.target}: ${said.state}`);
    this.#follow(form, said.state, performance.now() + FOLLOW_MS);
  }

  async #follow(form, before, until) {
    let state = before;
    while (this.#form === form && state !== "done" && state !== "aborted") {
      if (performance.now() > until) {
        form.steps.push(`still ${state} after ${FOLLOW_MS / 1000} s; the page goes on showing it`);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      const found = await fetch(`/v1/operations/${form.operationId}`, { cache: "no-store" }).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
      if (found === null || found.state === state) continue;
      state = found.state;
      form.steps.push(found.detail ? `${state}: ${found.detail}` : state);
      if (this.#form === form) this.#draw();
    }
    if (this.#form !== form) return;
    form.phase = "over";
    this.#draw();
  }
}

function field(name, label, attributes, value = "") {
  const id = `field-${name}`;
  return h("p", { class: "field", key: name }, h("label", { for: id }, label), h("input", { id, name, once: { value }, ...attributes }));
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
