// A report about one recording: the parts of the live page, with a player instead of the stream.

import { Colours, fit } from "./colours.js";
import { axisOf, drawLanes, sayTime, steppedTo } from "./lanes.js";
import { showEvents, showTop } from "./panels.js";
import { drawBox, drawHeat, drawPicture } from "./picture.js";
import { Store, bytes, cellAt, clockWords, eventsAt, imageAt } from "./store.js";
import { drawStrip } from "./strip.js";
import { useThemeButton } from "./theme.js";

const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent), store = new Store(), colours = new Colours();
const ID = "recording", BANDS = 64;
const source = fill(data), video = document.querySelector("video");
let time = source.first < 0 ? 0 : source.first + 0.5, stale = true, drawn = null;

// The store, as if the whole recording had been seen live.
function fill(report) {
  const { seconds, labels, latency_segments, model, engine } = report;
  store.begin({ run: ID, model, engine, version: report.version, kept: Math.max(1, seconds), sources: [{ id: ID, labels, latency_segments, live: false }] });
  store.ended = store.oldestFirst = true;
  store.mostEvents = Infinity;
  store.span = 60;
  const one = store.sources.get(ID), mel = bytes(report.mel), attention = bytes(report.attention), cells = report.grid[0] * report.grid[1];
  let picture = null;
  for (let index = 0; index < seconds; index++) {
    picture = report.pictures[index] ?? picture;
    const patch = mel.subarray(index * report.columns * BANDS, (index + 1) * report.columns * BANDS), quality = report.missing[index] ?? "";
    one.segments.set(index, {
      index, pictures: picture ? [picture] : [], mel: patch, images: [], drawn: null, frames: 1,
      no_sound: quality.includes("s"), no_picture: quality.includes("p"),
    });
  }
  report.scores.forEach(([relevance, agreement, ...classes], place) => {
    const index = report.first_scored + place, rows = [], heat = attention.subarray(place * cells, (place + 1) * cells), sum = heat.reduce((a, b) => a + b, 0) || 1;
    for (let row = 0; row < report.grid[0]; row++) rows.push([...heat.subarray(row * report.grid[1], (row + 1) * report.grid[1])].map((value) => value / sum));
    one.cells.set(index, {
      index, age: latency_segments - 1, final: true, relevance: relevance / 1000, agreement: agreement / 1000,
      classes: classes.map((value) => value / 1000), attention: rows, level_dbfs: null,
    });
    one.scored = index;
  });
  for (const event of report.events) store.event({ ...event, source: ID });
  Object.assign(one, { first: seconds ? 0 : -1, newest: seconds - 1, state: "online" });
  return one;
}

// The player. A recording inside the report becomes an object of the browser, in which it can seek.

if (video) {
  const inside = at("media");
  if (inside) video.src = URL.createObjectURL(new Blob([bytes(inside.textContent.trim())], { type: inside.dataset.type }));
  video.addEventListener("timeupdate", () => { if (!video.paused) show(video.currentTime); });
  video.addEventListener("seeked", () => show(video.currentTime));
  video.addEventListener("error", () => {
    at("media-note").textContent = `${data.unplayed} The pictures and the timeline do not need it.`;
  }, true);
  addEventListener("resize", () => { stale = true; });
  for (const name of ["loadedmetadata", "play", "pause"]) video.addEventListener(name, () => { stale = true; });
} else {
  at("focus").classList.add("still");
}

function show(seconds) {
  time = Math.max(0, Math.min(seconds, source.newest + 0.999));
  stale = true;
}

function seek(seconds) {
  show(seconds);
  if (video && video.readyState > 0) video.currentTime = time;
}

// Without an event: the label that came nearest to one, by its own threshold.
function nearestWords() {
  let best = null;
  for (const cell of source.cells.values()) source.labels.forEach(({ name, thresholds }, id) => {
    const share = thresholds ? cell.classes[id] / thresholds.on : 0;
    if (share > (best?.share ?? 0)) best = { share, name, on: thresholds.on, score: cell.classes[id], at: cell.index };
  });
  const percent = (value) => `${Math.round(value * 100)} %`;
  if (!best) return source.cells.size ? "No label came near one: every score is below 0.1 %." : "";
  return `Nearest came ${best.name}: ${percent(best.score)} at ${clockWords(source, best.at)}; an event of it begins at ${percent(best.on)}.`;
}

if (!data.events.length) at("nearest").textContent = nearestWords();

// Drawing

function frame() {
  requestAnimationFrame(frame);
  if (video && !video.paused) show(video.currentTime);
  if (source.newest < 0 || (!stale && imageAt(source, time) === drawn)) return;
  stale = false;
  drawAll();
  drawn = source.shown;
}

function edgeOf() {
  const span = Math.min(store.kept, store.span || store.kept);
  return Math.max(span - 1, Math.min(source.newest, Math.floor(time) + Math.floor(span / 2)));
}

function drawAll() {
  const options = { heat: at("heat").checked, strength: at("strength").value / 100, boxes: at("boxes").checked, names: true };
  drawPicture(at("picture"), store, source, time, colours, options);
  drawOver(options);
  drawLanes(at("lanes"), store, source, { edge: edgeOf(), time, paused: true }, colours);
  drawWhole();
  showTop(at("top"), at("background"), source, time);
  at("now-title").textContent = `Top five at ${clockWords(source, time)}`;
  showEvents(at("event-list"), at("none"), store, source, (event) => seek(event.start_s + 0.001));
  at("moment").textContent = `${clockWords(source, time)}, one picture of ${data.step > 1 ? `${data.step} seconds` : "each second"}`;
  sayTime(at("lanes"), at("picture"), store, source, time);
}

// Attention and boxes over the player's own picture.
function drawOver(options) {
  if (!video || !video.videoWidth) return;
  const canvas = at("over"), scale = Math.min(video.clientWidth / video.videoWidth, video.clientHeight / video.videoHeight);
  const width = video.videoWidth * scale, height = video.videoHeight * scale;
  for (const [key, value] of Object.entries({ width, height, left: (video.clientWidth - width) / 2, top: (video.clientHeight - height) / 2 })) canvas.style.setProperty(key, `${value}px`);
  const { context } = fit(canvas), cell = cellAt(source, time);
  context.clearRect(0, 0, width, height);
  if (options.heat && cell) drawHeat(context, cell.attention, width, height, options.strength * 0.8);
  if (options.boxes) for (const event of eventsAt(store, source, time)) drawBox(context, source, event, width, height, true);
}

function drawWhole() {
  const canvas = at("whole");
  drawStrip(canvas, store, source, 0, source.newest + 1, colours);
  const { context, width, height } = fit(canvas);
  context.fillStyle = colours.text;
  context.fillRect((time / (source.newest + 1)) * width - 1, 0, 2, height);
}

// Choosing a time

at("whole").addEventListener("pointerdown", (event) => {
  const box = at("whole").getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * (source.newest + 1));
});
at("lanes").addEventListener("pointerdown", (event) => {
  const canvas = at("lanes");
  seek(axisOf(canvas, store, edgeOf()).time(event.clientX - canvas.getBoundingClientRect().left));
});
at("lanes").addEventListener("keydown", (event) => {
  const wanted = steppedTo(event, time, source.newest + 0.5);
  if (wanted !== undefined) seek(wanted);
});
for (const id of ["heat", "strength", "boxes"]) at(id).addEventListener("input", () => { stale = true; });
at("span").addEventListener("change", () => { store.span = Number(at("span").value) || store.kept; stale = true; });
addEventListener("resize", () => { stale = true; });
useThemeButton(at("theme"), () => { colours.read(); stale = true; });
requestAnimationFrame(frame);
