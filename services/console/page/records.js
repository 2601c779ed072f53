// What is on record: decisions as sentences, receipts with their ranges, drills with their verdicts.

import { h, mark } from "./dom.js";
import { ago, stamp } from "./instants.js";

const SHOWN = 12;
const GRAVE = { failover: "warning", switchover: "warning", acquired: "good", resigned: "warning" };
const RECEIPT = {
  open: ["warning", "open: it is not known yet whether the region comes back with its data"],
  healed: ["good", "healed: nothing is missing"],
  confirmed_lost: ["bad", "confirmed lost: the region came back without its data"],
};
const VERDICT = { valid: "good", invalid: "bad", unknown: "unknown", none: "unknown" };

/** What the controllers decided, newest first. */
export function decisions(picture, instants) {
  const problem = picture.history_problem ? problemLine("The history cannot be read now", picture.history_problem) : null;
  if (!picture.history.length) return [problem, h("p", { class: "empty", key: "none" }, picture.history_problem ? "None is known." : "Nothing has happened yet.")];
  const line = (entry) => h("li", { key: String(entry.sequence) },
    h("p", { class: "when small quiet" }, h("time", { datetime: new Date(entry.at_ms).toISOString() }, stamp(entry.at_ms)), ` · ${ago(entry.at_ms, instants.unixMs())} · `,
      h("span", { class: "kind", "data-level": GRAVE[entry.kind] ?? false }, entry.kind), entry.epoch ? ` · epoch ${entry.epoch.join(":")}` : ""),
    h("p", { class: "what" }, entry.sentence, h("span", { class: "quiet" }, ` (${entry.by || entry.region})`)));
  const [first, rest] = [picture.history.slice(0, SHOWN), picture.history.slice(SHOWN)];
  return [problem,
    h("ol", { class: "entries", key: "entries" }, first.map(line)),
    rest.length ? h("details", { key: "more" }, h("summary", {}, `${rest.length} earlier`), h("ol", { class: "entries" }, rest.map(line))) : null];
}

/** What lost regions took with them. */
export function receipts(picture, instants) {
  const problem = picture.receipts_problem ? problemLine("Receipts cannot be read now", picture.receipts_problem) : null;
  if (!picture.receipts.length) {
    return [problem, h("p", { class: "empty", key: "none" }, picture.receipts_problem ? "None is known." : "None: no region was ever lost, left or out of reach.")];
  }
  return [problem, picture.receipts.map((receipt) => oneReceipt(receipt, instants))];
}

function oneReceipt(receipt, instants) {
  const [level, meaning] = RECEIPT[receipt.state] ?? ["unknown", receipt.state];
  const left = counted(receipt.remaining);
  return h("details", { key: receipt.receipt_id, class: "receipt", once: receipt.state === "open" ? { open: "" } : {} },
    h("summary", {}, mark(level, receipt.state), h("span", {}, h("strong", {}, `${receipt.incarnation}${receipt.was_active ? " (active)" : ""}`), ` ${receipt.kind}, ${receipt.state === "open" ? `${left} missing` : receipt.state.replace("_", " ")}`, h("span", { class: "quiet small" }, ` · ${ago(receipt.created_ms, instants.unixMs())}`))),
    h("p", {}, meaning, receipt.closed_because ? ` (${receipt.closed_because})` : "", "."),
    h("p", { class: "small" }, `Written ${stamp(receipt.created_ms)} by ${receipt.issued_by}, epoch ${receipt.epoch.join(":")}: ${receipt.reason}. What was acknowledged after ${stamp(receipt.last_contact_ms)} is not known to the survivors (${receipt.survivors.join(", ") || "none"}).`,
      receipt.accepted_loss_events === null ? "" : ` The loss of ${receipt.accepted_loss_events} events was accepted.`),
    receipt.ranges.length ? ranges(receipt) : h("p", { class: "small" }, "No range is listed: nothing was known to exist that no survivor holds."),
    h("p", { class: "small mono wrap" }, `meridian receipts show ${receipt.receipt_id}`));
}

function ranges(receipt) {
  const shown = receipt.ranges.slice(0, 40);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Ranges of ${receipt.receipt_id}` }, h("table", {},
    h("thead", {}, h("tr", {}, ["log", "partition", "from", "to", "events", "still missing from"].map((name) => h("th", { scope: "col", key: name }, name)))),
    h("tbody", {}, shown.map((range) => {
      const still = receipt.remaining.find((left) => left.log === range.log && left.partition === range.partition);
      return h("tr", { key: `${range.log} ${range.partition} ${range.start}` }, h("th", { scope: "row", class: "mono" }, range.log),
        h("td", { class: "number" }, String(range.partition)), h("td", { class: "number" }, String(range.start)), h("td", { class: "number" }, String(range.end)),
        h("td", { class: "number" }, range.events === null ? "unknown" : String(range.events)), h("td", { class: "number" }, still ? String(still.start) : "nothing"));
    })),
    shown.length < receipt.ranges.length ? h("tfoot", {}, h("tr", {}, h("td", { colspan: "6" }, `${receipt.ranges.length - shown.length} more ranges: see the command below.`))) : null));
}

function counted(found) {
  const known = found.reduce((sum, range) => sum + (range.events ?? 0), 0);
  return `${found.every((range) => range.events !== null) ? "" : "at least "}${known} event${known === 1 ? "" : "s"}`;
}

/** Drills that were run. */
export function drills(picture) {
  const { runs, problem } = picture.drills;
  if (!runs.length) return h("p", { class: "empty", key: "none" }, problem ? `${problem}. ` : "No drill was run yet. ", h("code", {}, "region-sim run --help"), " runs one; ", h("code", {}, "--drills"), " names where they lie.");
  return h("ul", { class: "drills", key: "drills" }, runs.map((run) => h("li", { key: `${run.drill} ${run.run}` },
    mark(VERDICT[run.verdict] ?? "unknown", run.verdict),
    h("div", {},
      h("p", {}, run.report ? h("a", { href: run.report, target: "_blank", rel: "noopener" }, run.drill) : run.drill, " ", h("strong", {}, run.verdict === "none" ? "no verdict" : run.verdict),
        h("span", { class: "quiet small" }, ` · ${begun(run.run)}${run.backend ? ` · ${run.backend}` : ""}${run.rto_seconds === null ? "" : ` · RTO ${run.rto_seconds.toFixed(1)} s`}${run.lost === null ? "" : ` · ${run.lost} lost`}`)),
      h("p", { class: "small" }, run.sentence)))));
}

function begun(run) {
  const found = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)/.exec(run);
  return found ? `${found[2]}-${found[3]} ${found[4]}:${found[5]}` : run;
}

function problemLine(what, why) {
  return h("p", { class: "notice", "data-level": "unknown", key: "problem" }, mark("unknown"), h("span", {}, `${what}: ${why}. What is shown may be out of date.`));
}
