// The head of the page: what holds now, how old that is, and what is under way.

import { h, mark } from "./dom.js";
import { duration } from "./instants.js";

const STALE_MS = 3000;
let leaseLongestMs = 1000;

/** Whether what is shown may be older than it looks. */
export function isStale(instants) {
  return instants.silenceMs() > STALE_MS;
}

/** What holds now; of a page that hears nothing, what was last heard, said as that. */
export function headline(picture, instants) {
  if (!isStale(instants)) return picture.headline;
  const was = picture.headline.level === "unknown" ? "" : `Last heard: ${picture.headline.title}. `;
  return {
    level: "unknown",
    title: "Not known: this page hears nothing",
    sentence: `${was}Everything below is as it was ${duration(instants.silenceMs())} ago.`,
    next_step: "It is asking again by itself; `meridian status` asks without this page.",
  };
}

/** The loud line over a page that is out of date, and over data that no controller vouches for. */
export function staleBanner(picture, instants, line) {
  if (isStale(instants)) {
    const age = instants.times === null ? "" : ` What is shown is ${duration(instants.silenceMs())} old.`;
    return banner("OUT OF DATE.", `${line ?? "The console was not heard lately"}.${age}`);
  }
  if (picture.controllers_answering === 0) {
    const ages = Object.values(instants.times.heard_ms).map((at) => instants.ageMs(at)).filter((age) => age !== null);
    const last = ages.length ? `The last answer is ${duration(Math.min(...ages))} old` : "None has answered since the console was started";
    return banner("NO CONTROLLER ANSWERS.", `${last}. What is shown is not what holds now.`);
  }
  return line === null ? null : banner("NOT LIVE.", `${line}.`);
}

function banner(loud, words) {
  return h("p", { class: "stale-banner", key: "banner" }, h("strong", {}, loud), ` ${words}`);
}

/** The one thing to read, and the figures beside it. */
export function now(picture, instants) {
  const head = headline(picture, instants);
  const code = (words) => words.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
  return [
    h("div", { class: "now-words", key: "words" },
      h("div", { class: "now-mark" }, mark(head.level)),
      h("div", {},
        h("h1", { id: "headline" }, head.title),
        h("p", { class: "now-sentence" }, head.sentence),
        head.next_step ? h("p", { class: "now-next" }, code(head.next_step)) : null)),
    h("dl", { class: "figures", key: "figures" },
      figure("Active region", picture.known ? picture.active || "none" : last(picture.active), picture.known && picture.serving ? "its gate is open" : picture.known && picture.active ? "its gate is shut" : ""),
      figure("Epoch", picture.epoch ? picture.epoch.join(":") : "unknown", picture.epoch ? "generation : revision" : ""),
      lease(picture, instants),
      figure("Worst lag", picture.worst_lag_words, ""),
      figure("Open receipts", picture.receipts_open ?? "unknown", picture.receipts_open ? "a loss is not settled yet" : ""),
      store(picture, instants)),
  ];
}

function last(active) {
  return active ? `unknown (was ${active})` : "unknown";
}

function figure(name, value, note) {
  return h("div", { class: "figure", key: name }, h("dt", {}, name), h("dd", {}, String(value)), note ? h("dd", { class: "note" }, note) : null);
}

function lease(picture, instants) {
  const left = picture.known && !isStale(instants) ? instants.leaseLeftMs() : null;
  if (left === null) {
    return figure("Lease left", picture.known && !picture.active ? "none held" : "unknown", picture.active ? `known to ${picture.active} only` : "");
  }
  leaseLongestMs = Math.max(leaseLongestMs, left);
  const share = Math.round((left / leaseLongestMs) * 100);
  return h("div", { class: "figure", key: "Lease left" }, h("dt", {}, "Lease left"),
    h("dd", {}, `${(left / 1000).toFixed(1)} s`),
    h("dd", { class: "meter", "aria-hidden": "true" },
      h("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none" }, h("rect", { class: "meter-ground", width: "100", height: "4" }), h("rect", { class: "meter-left", width: String(share), height: "4" }))));
}

function store(picture, instants) {
  const age = instants.ageMs(instants.times?.store_confirmed_ms);
  const votes = picture.sites.filter((site) => site.state === "ready").length;
  const leads = picture.sites.find((site) => site.leads);
  const away = picture.sites.filter((site) => site.state !== "ready" && site.state !== "unknown").map((site) => site.name);
  return h("div", { class: "figure", key: "Coordination" }, h("dt", {}, "Coordination"),
    h("dd", {}, `${votes} of ${picture.sites.length} votes`),
    h("dd", { class: "note" }, [
      away.length ? `away: ${away.join(", ")}; ` : "",
      leads ? `etcd leads from ${leads.name}; ` : "",
      age === null ? "not heard" : `heard ${duration(age)} ago`,
    ].join("")));
}

/** A pause, an operation under way, a broken history: what changes how everything else is to be read. */
export function notices(picture, instants) {
  const found = [];
  if (picture.pause) {
    const left = Math.max(0, picture.pause.until_ms - instants.unixMs());
    found.push(notice("pause", "warning", "Paused.", `${picture.pause.by}, for another ${duration(left)}: ${picture.pause.reason}. No region takes over by itself meanwhile.`));
  }
  if (picture.operation) {
    const o = picture.operation;
    const where = o.source ? `${o.source} to ${o.target}` : `to ${o.target}`;
    const loss = o.accepted_loss_events === null ? "" : ` A loss of ${o.accepted_loss_events} events was accepted.`;
    found.push(notice("operation", "warning", `Under way: ${o.kind} ${where}.`, `${o.state}${o.detail ? ` (${o.detail})` : ""}; asked by ${o.by}: ${o.reason}.${loss}`));
  }
  if (picture.history_broken) found.push(notice("history", "bad", "The history was tampered with.", `${picture.history_broken}.`));
  const [there, away] = [picture.sites.filter((site) => site.state === "ready"), picture.sites.filter((site) => !["ready", "unknown"].includes(site.state))];
  if (picture.known && there.length && away.length) {
    found.push(notice("votes", "warning", `Only ${there.length} of ${picture.sites.length} votes answer.`, `${away.map((site) => `${site.name}: ${site.reason}`).join("; ")}. Without a majority nothing can be decided.`));
  }
  for (const alarm of picture.alarms.slice(0, 5)) found.push(notice(`alarm ${alarm}`, "bad", "Replication alarm.", alarm));
  return found;
}

function notice(key, level, loud, words) {
  return h("p", { class: "notice", "data-level": level, key }, mark(level), h("span", {}, h("strong", {}, loud), ` ${words}`));
}

/** What is said aloud when it changes. */
export function spoken(picture, instants, line) {
  const head = headline(picture, instants);
  const under = picture.operation ? ` ${picture.operation.kind} to ${picture.operation.target}: ${picture.operation.state}.` : "";
  const isOld = picture.controllers_answering === 0 || isStale(instants) || line !== null;
  const silent = isOld ? " What is shown is out of date." : "";
  const paused = picture.pause ? ` Paused by ${picture.pause.by}.` : "";
  const epoch = picture.epoch && head.level !== "unknown" ? `, epoch ${picture.epoch.join(":")}` : "";
  return { level: head.level, words: `${head.title}${epoch}.${under}${paused}${silent}` };
}
