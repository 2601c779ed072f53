// Puts the page together: what the console says goes into one place, and everything is drawn from there.

import { Acting } from "./acting.js";
import { copies, models } from "./copies.js";
import { h, patch } from "./dom.js";
import { Feed } from "./feed.js";
import { Instants } from "./instants.js";
import { headline, isStale, notices, now, spoken, staleBanner } from "./now.js";
import { decisions, drills, receipts } from "./records.js";
import { regions } from "./regions.js";

const TICK_MS = 500;
const LINES = { up: "live", down: "not live", deaf: "hears nobody" };

const at = (id) => document.getElementById(id);
const instants = new Instants();
const acting = new Acting(at("act"));
let picture = null;
let line = "connecting";
let said = "";
let widthPx = document.documentElement.clientWidth;

new Feed({
  told(all) {
    picture = all.picture;
    instants.take(all.times);
    acting.take(picture);
    draw();
  },
  times(times) {
    instants.take(times);
    drawAges();
  },
  line(words) {
    if (line === words) return;
    line = words;
    drawAges();
  },
});
setInterval(() => {
  if (!document.hidden) drawAges();
}, TICK_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) drawAges();
});

function draw() {
  patch(at("deployment"), picture.deployment_id);
  patch(at("pausing"), pausing());
  patch(at("copies-body"), copies(picture, widthPx));
  patch(at("models-body"), models(picture));
  patch(at("drills-body"), drills(picture));
  drawAges();
}

/** What changes by time alone. */
function drawAges() {
  drawLine();
  if (picture === null) {
    if (line !== null && line !== "connecting") {
      patch(at("stale"), h("p", { class: "stale-banner", key: "banner" }, h("strong", {}, "NOTHING IS KNOWN."), ` ${line}.`));
    }
    return;
  }
  const head = headline(picture, instants);
  patch(at("stale"), staleBanner(picture, instants, line));
  patch(at("now"), now(picture, instants));
  patch(at("notices"), notices(picture, instants));
  patch(at("regions-body"), regions(picture, instants, acting));
  patch(at("decisions-body"), decisions(picture, instants));
  patch(at("receipts-body"), receipts(picture, instants));
  const stale = isStale(instants) || !picture.known ? "yes" : "no";
  if (document.body.dataset.stale !== stale) document.body.dataset.stale = stale;
  if (document.body.dataset.level !== head.level) {
    document.body.dataset.level = head.level;
    at("icon").href = `/page/icon-${head.level}.svg`;
  }
  const title = `${head.level === "unknown" ? "? " : ""}${head.title}${picture.known && picture.epoch ? `, ${picture.epoch.join(":")}` : ""} · Meridian`;
  if (document.title !== title) document.title = title;
  speak();
}

function drawLine() {
  const isDeaf = picture !== null && picture.controllers_answering === 0;
  const state = line === "connecting" ? "waiting" : line !== null || isStale(instants) ? "down" : isDeaf ? "deaf" : "up";
  const node = at("line");
  if (node.dataset.line !== state) node.dataset.line = state;
  patch(node, LINES[state] ?? "connecting");
}

/** Say a change aloud, once; what is bad or unknown interrupts. */
function speak() {
  const { level, words } = spoken(picture, instants, line);
  if (words === said) return;
  said = words;
  const isGrave = level === "bad" || level === "unknown";
  patch(at("alarmed"), isGrave ? words : "");
  patch(at("spoken"), isGrave ? "" : words);
}

function pausing() {
  if (!picture.operating.allowed) return h("span", { class: "quiet small", title: picture.operating.why_not }, "read-only");
  const verb = picture.pause ? "resume" : "pause";
  return h("button", { type: "button", key: "pause", onclick: () => acting.open(verb) }, picture.pause ? "Resume…" : "Pause…");
}

// Asking for the width at each update would have the browser lay everything out each time.
new ResizeObserver(([entry]) => {
  widthPx = entry.contentRect.width;
  if (picture !== null) patch(at("copies-body"), copies(picture, widthPx));
}).observe(at("copies-body"));
