// One card a region: its part, whether it could take over and why not, how it is.

import { h, mark } from "./dom.js";
import { duration } from "./instants.js";

const STATE_LEVEL = { ready: "good", impaired: "warning", "not ready": "bad", silent: "bad", unknown: "unknown" };
const TAKE = {
  yes: ["good", "Could take over now"],
  active: ["good", "Is active"],
  no: ["bad", "Could not take over"],
  unknown: ["unknown", "Not known whether it could take over"],
};

/** All regions. `acting` has what may be asked for; `stale` greys everything. */
export function regions(picture, instants, acting) {
  return picture.regions.map((region) => card(region, picture, instants, acting));
}

function card(region, picture, instants, acting) {
  const title = `region-${region.name}`;
  return h("article", { class: "card", key: region.name, "data-role": region.role, "aria-labelledby": title },
    h("header", { class: "card-head" },
      h("h3", { id: title }, region.name),
      h("span", { class: "role", "data-role": region.role }, role(region)),
      h("span", { class: "mono quiet" }, region.incarnation)),
    region.heard ? h("p", { class: "heard", key: "heard" }, `${region.heard}${age(region, instants)}`) : null,
    takes(region, picture),
    h("dl", { class: "facts", key: "facts" },
      fact("Lag", region.lag_level, region.lag_words),
      fact("Canary", region.canary_level, region.canary_words),
      fact("Failover to it would take", null, region.forecast_words, region.forecast?.because),
      fact("Champion", region.models.level, champion(region.models))),
    processes(region),
    conditions(region),
    region.sentence ? h("p", { class: "sentence", key: "sentence" }, `Its last cycle: ${region.sentence}`) : null,
    buttons(region, picture, acting));
}

function role(region) {
  if (region.role === "active") return region.serving ? "active · serves" : "active · gate shut";
  return region.role;
}

function age(region, instants) {
  const heard = instants.ageMs(instants.times?.heard_ms[region.name]);
  return heard === null ? "" : `, for ${duration(heard)}`;
}

function takes(region, picture) {
  const isLost = region.promotable === "active" && region.heard !== "";
  const [level, words] = isLost ? ["warning", "Holds the lease, but its controller does not answer"] : TAKE[region.promotable];
  const held = region.promotable === "no" && picture.active && region.role !== "active" ? "warning" : level;
  return h("p", { class: "takes", key: "takes", "data-level": held },
    mark(held), h("span", {}, h("strong", {}, words), region.blocker ? `: ${region.blocker}` : ""));
}

function fact(name, level, words, because) {
  return h("div", { class: "fact", key: name }, h("dt", {}, name),
    h("dd", { "data-level": level ?? (words === "unknown" ? "unknown" : false) }, words === "unknown" || level === "bad" || level === "unknown" ? mark(level ?? "unknown") : null, ` ${words}`),
    because ? h("dd", { class: "note" }, because) : null);
}

function champion(models) {
  return models.serving ? `version ${models.serving}: ${models.words}` : models.words;
}

function processes(region) {
  return h("ul", { class: "processes", key: "processes", "aria-label": `Processes of ${region.name}` },
    region.processes.map((process) => {
      const level = STATE_LEVEL[process.state] ?? "unknown";
      const bare = level === "good";
      return h("li", { key: process.name, class: bare ? "process" : "process told" }, mark(level, process.state), h("span", { class: "process-name" }, process.name),
        bare ? null : h("span", { class: "process-reason" }, `${process.state}${process.reason ? `: ${process.reason}` : ""}`));
    }));
}

function conditions(region) {
  if (!region.conditions.length) return h("p", { class: "quiet small", key: "no conditions" }, "Its conditions are not known.");
  const holding = region.conditions.filter((each) => each.holds).length;
  return h("details", { key: "conditions" },
    h("summary", {}, `Conditions of a promotion: ${holding} of ${region.conditions.length} hold`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Conditions of ${region.name}` }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "condition"), h("th", { scope: "col" }, "is"), h("th", { scope: "col" }, "wanted"))),
      h("tbody", {}, region.conditions.map((each) => h("tr", { key: each.name },
        h("th", { scope: "row" }, mark(each.holds ? "good" : "bad", each.holds ? "holds" : "does not hold"), ` ${each.name}`),
        h("td", {}, each.value), h("td", {}, each.limit)))))));
}

function buttons(region, picture, acting) {
  if (!picture.operating.allowed || region.role === "active" || picture.operation) return null;
  return h("div", { class: "buttons", key: "buttons" },
    h("button", { type: "button", key: "switchover", onclick: () => acting.open("switchover", region.name) }, `Switch over to ${region.name}…`),
    h("button", { type: "button", class: "grave", key: "failover", onclick: () => acting.open("failover", region.name) }, `Force failover to ${region.name}…`));
}
