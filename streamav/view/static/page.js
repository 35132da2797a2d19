// The page: connects, keeps what arrives in the store, and draws it by media time.

import { Colours } from "./colours.js";
import { axisOf, drawLanes, sayTime, steppedTo } from "./lanes.js";
import { link } from "./link.js";
import { element, showBroker, showEvents, showFigures, showState, showTop, stateWords, tone } from "./panels.js";
import { drawPicture } from "./picture.js";
import { actionsOf, setUpReview } from "./review.js";
import { Store, clockWords, imageAt, nameOf, playhead } from "./store.js";
import { drawStrip } from "./strip.js";
import { useThemeButton } from "./theme.js";
import { choose as chooseLabels, follow, recount, setUpTuning } from "./tuning.js";
import { drawZones, load as loadZones, setUpZones } from "./zones.js";

const store = new Store(), colours = new Colours();
const at = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const FRAME_MS = 50, TEXT_MS = 200;
let focus = null, pinned = null, drawnMs = 0, textMs = 0, connected = false, announced = new Set(), review = false;

// Connection

function take(message) {
  if (message.type === "hello") begin(message);
  else store.take(message, performance.now());
  if (message.type === "event") announce(message);
  if (message.type === "end") showConnection();
}

function begin(message) {
  const again = message.run === store.run, time = pinned;
  if (!again) announced = new Set();
  store.take(message, performance.now());
  if (!store.sources.has(focus)) focus = null;
  const chosen = store.sources.size === 1 ? [...store.sources.keys()][0] : (focus ?? fromAddress()), same = again && chosen === focus;
  showSources();
  choose(chosen);
  if (same) pinned = time;
  showConnection();
  if (message.review && !review) begunReview(message);
}

function begunReview({ changes, journal }) {
  review = true;
  const current = () => {
    const source = store.sources.get(focus) ?? [...store.sources.values()][0];
    return { source, time: pinned ?? Math.max(0, source.newest), label: labelOf(source) };
  };
  at("missed").hidden = false;
  setUpReview(current);
  if (journal) setUpTuning(current, changes);
  if (changes) setUpZones(current);
}

function labelOf(source) { return store.eventsOf(source.id).at(-1)?.label; }

function fromAddress() {
  let named = location.hash.slice(1);
  try { named = decodeURIComponent(named); } catch { /* a mangled address names no source */ }
  return store.sources.has(named) ? named : null;
}

function showConnection() {
  const node = at("connection");
  node.dataset.tone = store.ended ? "wait" : connected ? "good" : "bad";
  node.textContent = store.ended ? "the run has ended" : connected ? "live" : store.run ? "connection lost, trying again" : "connecting";
  if (store.model) at("run").textContent = `${store.model.name} ${store.model.version} on ${store.engine}`;
}

function announce(event) {
  const source = store.sources.get(event.source);
  if (event.end_reason && source && review && focus === event.source) recount(source, event.label);
  if (!event.confirmed || event.end_reason || announced.has(event.id)) return;
  announced.add(event.id);
  if (source && review && focus === event.source) follow(source, event.label);
  if (source) at("news").textContent = `${nameOf(source, event)} at ${event.source}, ${clockWords(source, event.start_s)}`;
}

// Several sources

function choose(id) {
  focus = id;
  pinned = null;
  history.replaceState(null, "", id && store.sources.size > 1 ? `#${encodeURIComponent(id)}` : location.pathname);
  at("overview").hidden = id !== null || store.sources.size < 2;
  at("focus").hidden = id === null;
  for (const button of at("sources").children) button.setAttribute("aria-current", String(button.dataset.source === (id ?? "")));
  at("event-list").replaceChildren();
  if (review && id !== null) { chooseLabels(store.sources.get(id), labelOf(store.sources.get(id))); loadZones(store.sources.get(id)); }
  at("state").dataset.key = "?";
  textMs = 0;
}

// The buttons and cards of several sources. Who was on one of them stays on it when the connection brings them again.
function showSources() {
  const many = store.sources.size > 1, before = document.activeElement?.closest("#sources button, #overview button");
  at("sources").hidden = !many;
  at("sources").replaceChildren(...(many ? [tab(null, "All sources"), ...[...store.sources.keys()].map((one) => tab(one, one))] : []));
  at("overview").replaceChildren(...(many ? [...store.sources.values()].map(card) : []));
  if (before) buttonOf(before.dataset.source, before.parentElement?.id)?.focus();
}

function buttonOf(id, where = "sources") { return [...at(where).children].find((button) => button.dataset.source === id); }

function tab(id, text) {
  const button = element("button", { type: "button", text, class: id ? "badge" : "", "data-source": id ?? "" });
  button.addEventListener("click", () => choose(id));
  return button;
}

function card(source) {
  const button = element("button", { type: "button", "data-source": source.id },
    element("span", { class: "name" }, element("strong", { text: source.id }), element("span", { class: "badge" })),
    element("canvas", { class: "small", role: "img", "aria-label": `Picture of ${source.id}` }),
    element("canvas", { class: "strip", "aria-hidden": "true" }),
    element("span", { class: "last" }));
  button.addEventListener("click", () => { choose(source.id); buttonOf(source.id).focus(); }); // the card itself is hidden now
  return button;
}

function drawCard(node, source, nowMs, texts) {
  const [name, picture, strip, last] = node.children, time = liveTime(source, nowMs), span = Math.min(store.kept, 60);
  drawPicture(picture, store, source, time, colours, { heat: true, strength: 0.55, boxes: true, names: true });
  drawStrip(strip, store, source, time + 1 - span, span, colours);
  if (!texts) return;
  const badge = name.lastChild, events = store.eventsOf(source.id), newest = events.at(-1);
  badge.textContent = stateWords(source.state);
  badge.dataset.tone = node.dataset.tone = tone(source.state);
  last.textContent = source.state === "lost" || source.state === "degraded" ? `${source.reason}. ${source.remedy}`
    : newest ? `${nameOf(source, newest)}, ${clockWords(source, newest.start_s)}` : source.state === "warming_up" ? "the first scores come after two seconds" : "no event so far";
}

// Drawing

function frame(nowMs) {
  requestAnimationFrame(frame);
  if (nowMs - drawnMs < FRAME_MS || !store.run) return;
  drawnMs = nowMs;
  const texts = nowMs - textMs > TEXT_MS;
  if (texts) textMs = nowMs;
  if (texts) for (const button of at("sources").children) {
    const source = store.sources.get(button.dataset.source);
    if (source) button.dataset.tone = tone(source.state);
  }
  if (focus === null) {
    for (const node of at("overview").children) drawCard(node, store.sources.get(node.dataset.source), nowMs, texts);
    return;
  }
  drawFocus(store.sources.get(focus), nowMs, texts);
}

function liveTime(source, nowMs) { return still.matches ? source.newest + 1 : playhead(source, nowMs); }

function drawFocus(source, nowMs, texts) {
  const edge = liveTime(source, nowMs);
  if (pinned !== null && pinned < source.newest + 1 - store.kept) pinned = null; // that second is no longer kept
  const time = pinned ?? edge, inside = pinned ?? Math.min(edge, source.newest + 0.999);
  drawPicture(at("picture"), store, source, inside, colours, {
    heat: at("heat").checked, strength: at("strength").value / 100, boxes: at("boxes").checked, names: true, over: review ? drawZones : null,
  });
  drawLanes(at("lanes"), store, source, { edge, time, paused: pinned !== null }, colours);
  if (!texts) return;
  showState(at("state"), store, source);
  at("picture").dataset.tone = store.ended ? "" : tone(source.state);
  showTop(at("top"), at("background"), source, pinned ?? Math.max(0, source.scored));
  at("now-title").textContent = pinned === null ? "Top five now" : `Top five at ${clockWords(source, pinned)}`;
  at("live").hidden = pinned === null;
  showFigures({ words: at("latency-words"), bar: at("latency"), split: at("split"), list: at("figures") }, store, source);
  showEvents(at("event-list"), at("none"), store, source, (event) => pin(source, event.start_s), review ? actionsOf : null);
  showBroker(at("broker"), store);
  showMoment(source, inside);
  if (store.model) at("run").textContent = `${store.model.name} ${store.model.version} on ${store.engine}`;
}

function showMoment(source, time) {
  if (source.newest < 0) { at("moment").textContent = "waiting for the first second"; return; }
  at("moment").textContent = `${clockWords(source, time)}, at the model's ${size(source, time)} pixels`;
  sayTime(at("lanes"), at("picture"), store, source, time);
}

function size(source, time) {
  const image = imageAt(source, time);
  return image ? `${image.naturalWidth} × ${image.naturalHeight}` : "";
}

// Choosing a time

function pin(source, time) {
  const least = Math.max(0, source.first, source.newest + 1 - store.kept);
  pinned = time === null || time > source.newest + 0.999 ? null : Math.max(least, time);
  textMs = 0;
}

at("lanes").addEventListener("pointerdown", (event) => {
  const source = store.sources.get(focus), canvas = at("lanes");
  const axis = axisOf(canvas, store, liveTime(source, performance.now()));
  pin(source, axis.time(event.clientX - canvas.getBoundingClientRect().left));
});
at("lanes").addEventListener("keydown", (event) => {
  const source = store.sources.get(focus), wanted = event.key === "Escape" ? null : steppedTo(event, pinned ?? source.newest, null);
  if (wanted !== undefined) pin(source, wanted);
});
at("live").addEventListener("click", () => { pinned = null; textMs = 0; at("lanes").focus(); });

addEventListener("hashchange", () => { if (store.run) choose(fromAddress() ?? (store.sources.size === 1 ? [...store.sources.keys()][0] : null)); });

useThemeButton(at("theme"), () => colours.read());
link(take, (now) => { connected = now; showConnection(); });
requestAnimationFrame(frame);
