// The replication map: an arrow from each region to each that copies from it; the line's shape says how it is, and a
// table says the same in words.

import { h, mark } from "./dom.js";

const BOX = { width: 118, height: 46 };
const NARROW_PX = 480;

/** The drawing and the table. */
export function copies(picture, widthPx) {
  if (!picture.regions.length) return [];
  const arrows = picture.arrows;
  const said = arrows.map((arrow) => `${arrow.target} copies from ${arrow.source}: ${arrow.words}`).join(". ");
  return [
    drawing(picture, arrows, widthPx < NARROW_PX, said),
    h("p", { class: "key small quiet", key: "key" }, "Line: solid is level, dashed is behind, dotted is unknown, crossed is cut off or stopped."),
    table(picture),
  ];
}

function drawing(picture, arrows, isNarrow, said) {
  const { width, height, places } = layout(picture.regions.map((region) => region.name), isNarrow);
  return h("svg", { class: "map", key: isNarrow ? "narrow" : "wide", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Replication map. ${said}` },
    h("defs", {}, h("marker", { id: "tip", viewBox: "0 0 8 8", refX: "7", refY: "4", markerWidth: "7", markerHeight: "7", orient: "auto" }, h("path", { d: "M0 0L8 4L0 8z", class: "tip" }))),
    arrows.map((arrow) => line(arrow, places)),
    picture.regions.map((region) => box(region, places[region.name])));
}

function layout(names, isNarrow) {
  if (names.length === 2) {
    const [one, other] = names;
    return isNarrow
      ? { width: 320, height: 250, places: { [one]: [160, 32], [other]: [160, 218] } }
      : { width: 640, height: 130, places: { [one]: [80, 65], [other]: [560, 65] } };
  }
  const radius = isNarrow ? 95 : 150;
  const [width, height] = isNarrow ? [340, 320] : [640, 400];
  const places = {};
  names.forEach((name, index) => {
    const turn = (2 * Math.PI * index) / names.length - Math.PI / 2;
    places[name] = [width / 2 + (isNarrow ? 1 : 1.5) * radius * Math.cos(turn), height / 2 + radius * Math.sin(turn)];
  });
  return { width, height, places };
}

function box(region, [x, y]) {
  const left = x - BOX.width / 2;
  const top = y - BOX.height / 2;
  return h("g", { key: `box ${region.name}`, class: "map-box", "data-role": region.role },
    h("rect", { x: String(left), y: String(top), width: String(BOX.width), height: String(BOX.height), rx: "6" }),
    h("text", { x: String(x), y: String(y - 3), class: "map-name" }, region.name),
    h("text", { x: String(x), y: String(y + 14), class: "map-role" }, region.role === "active" && !region.serving ? "active, gate shut" : region.role));
}

function line(arrow, places) {
  const [x1, y1] = places[arrow.source];
  const [x2, y2] = places[arrow.target];
  const length = Math.hypot(x2 - x1, y2 - y1);
  const [dx, dy] = [(x2 - x1) / length, (y2 - y1) / length];
  const [nx, ny] = [-dy * 13, dx * 13]; // two ways beside each other, each on its right
  const edge = Math.min(BOX.width / 2 / Math.max(Math.abs(dx), 1e-9), BOX.height / 2 / Math.max(Math.abs(dy), 1e-9)) + 5;
  const from = [x1 + dx * edge + nx, y1 + dy * edge + ny];
  const to = [x2 - dx * edge + nx, y2 - dy * edge + ny];
  const middle = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
  const isUpright = Math.abs(dy) > Math.abs(dx);
  const anchor = isUpright ? (nx > 0 ? "start" : "end") : "middle";
  const at = isUpright ? [middle[0] + (nx > 0 ? 9 : -9), middle[1] + 4] : [middle[0], middle[1] + (ny > 0 ? 18 : -8)];
  const cross = arrow.level === "bad" ? h("path", { class: "cross", d: `M${middle[0] - 6} ${middle[1] - 6}l12 12m0 -12l-12 12` }) : null;
  return h("g", { key: `${arrow.source}>${arrow.target}`, class: "map-line", "data-level": arrow.level },
    h("line", { x1: String(from[0]), y1: String(from[1]), x2: String(to[0]), y2: String(to[1]), "marker-end": "url(#tip)" }),
    cross,
    h("text", { x: String(at[0]), y: String(at[1]), "text-anchor": anchor }, arrow.label));
}

function table(picture) {
  const living = picture.copies.filter((copy) => !copy.is_over);
  const over = picture.copies.length - living.length;
  return h("div", { class: "scroll", key: "table", tabindex: "0", role: "region", "aria-label": "Copies" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "log"), h("th", { scope: "col" }, "into"), h("th", { scope: "col" }, "from"), h("th", { scope: "col" }, "how far"))),
    h("tbody", {},
      living.map((copy) => h("tr", { key: `${copy.target} ${copy.log}` },
        h("th", { scope: "row", class: "mono" }, copy.log), h("td", {}, copy.target), h("td", {}, copy.source || "nobody"),
        h("td", {}, mark(copy.level), ` ${copy.words}`))),
      living.length ? null : h("tr", { key: "none" }, h("td", { colspan: "4" }, "No copy is known: no replicator has answered yet."))),
    over ? h("tfoot", {}, h("tr", {}, h("td", { colspan: "4" }, `${over} more ${over === 1 ? "log is" : "logs are"} complete: their lives are over and all of them is here.`))) : null));
}

/** Which versions rank, region by region. */
export function models(picture) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Models of each region" }, h("table", {},
    h("thead", {}, h("tr", {}, ["region", "champion", "serves", "proven", "challenger", "shadow", "standby", "device"].map((name) => h("th", { scope: "col", key: name }, name)))),
    h("tbody", {}, picture.regions.map((region) => {
      const m = region.models;
      const cell = (value, missing) => h("td", {}, value || h("span", { class: "quiet" }, missing));
      const missing = m.level === "unknown" ? "unknown" : "–";
      return h("tr", { key: region.name }, h("th", { scope: "row" }, region.name),
        cell(m.named, missing), cell(m.serving, missing),
        h("td", { class: "wordy" }, mark(m.level), ` ${m.words}`),
        cell(m.challenger, missing), cell(m.shadow, missing), cell(m.standby, missing), cell(m.device, missing));
    }))));
}
