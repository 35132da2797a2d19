// Draws everything that has a time, on one axis: the spectrogram, the scores of the classes with their events, relevance and agreement.

import { fit } from "./colours.js";
import { WINDOW, cellAt, clockWords, nameOf } from "./store.js";

const ROWS = 7, ROW = 25, SOUND = 112, CURVES = 70, AXIS = 24, GAP = 8;
const HEIGHT = SOUND + GAP + ROWS * ROW + GAP + CURVES + AXIS;
const STEPS = [5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600]; // between marks of time, s
const SHOWN = 0.05; // a probability below this leaves its cell empty

export function spanOf(width, store) { return Math.min(store.kept, store.span ?? (width < 560 ? 30 : 60)); }

// The part of the time axis that is drawn: from, to (s), and the place of a time (px).
export function axisOf(canvas, store, edge) {
  const width = canvas.clientWidth, gutter = width < 560 ? 78 : 112, span = spanOf(width, store);
  const end = edge + 1, from = end - span;
  const scale = (width - gutter) / span;
  return { from, to: end, gutter, scale, width, x: (at) => gutter + (at - from) * scale, time: (x) => from + (x - gutter) / scale };
}

export function drawLanes(canvas, store, source, view, colours) {
  const { context } = fit(canvas, HEIGHT);
  const axis = axisOf(canvas, store, view.edge);
  if (axis.width < 50) return;
  context.clearRect(0, 0, axis.width, HEIGHT);
  let top = 0;
  if (!store.ended) drawWindow(context, source, axis, colours);
  drawSound(context, source, axis, top, colours);
  top += SOUND + GAP;
  drawClasses(context, store, source, axis, top, colours);
  top += ROWS * ROW + GAP;
  drawCurves(context, source, axis, top, colours);
  top += CURVES;
  if (source.newest < 0) return; // there is no time yet
  drawTimes(context, source, axis, top, colours);
  drawCursor(context, axis, view, colours);
}

function label(context, text, y, colours, size = 12.5, paint = colours.dim) {
  context.fillStyle = paint;
  context.font = `${size}px system-ui, sans-serif`;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillText(text, 0, y);
}

function short(context, text, most) {
  if (context.measureText(text).width <= most) return text;
  while (text.length > 1 && context.measureText(`${text}…`).width > most) text = text.slice(0, -1);
  return `${text}…`;
}

// The ten seconds of the newest window: their scores are computed again every second until they are final.
function drawWindow(context, source, axis, colours) {
  if (source.newest < 0) return;
  const left = Math.max(axis.gutter, axis.x(source.newest + 1 - WINDOW)), right = Math.min(axis.width, axis.x(source.newest + 1));
  context.fillStyle = colours.window;
  context.beginPath();
  context.roundRect(left, SOUND + 2, right - left, HEIGHT - SOUND - AXIS - 2, 6);
  context.fill();
}

function drawSound(context, source, axis, top, colours) {
  context.save();
  context.beginPath();
  context.roundRect(axis.gutter, top, axis.width - axis.gutter, SOUND, 6);
  context.clip();
  context.fillStyle = colours.lane;
  context.fillRect(axis.gutter, top, axis.width - axis.gutter, SOUND);
  context.imageSmoothingEnabled = true;
  for (const segment of source.segments.values()) {
    const left = axis.x(segment.index);
    if (left > axis.width || left + axis.scale < axis.gutter) continue;
    context.drawImage(soundImage(segment, colours), left, top, axis.scale + 0.6, SOUND);
    if (segment.no_sound) hatch(context, left, top, axis.scale, SOUND, colours);
  }
  context.restore();
  label(context, "Sound", top + 9, colours, 12.5, colours.text);
  label(context, axis.gutter > 100 ? "7.5 kHz" : "7.5k", top + 30, colours, 11);
  label(context, axis.gutter > 100 ? "125 Hz" : "125", top + SOUND - 9, colours, 11);
}

function soundImage(segment, colours) {
  if (segment.drawn && segment.drawnWith === colours.version) return segment.drawn;
  const bands = 64, frames = segment.mel.length / bands, image = new OffscreenCanvas(frames, bands), pixels = new ImageData(frames, bands);
  for (let frame = 0; frame < frames; frame++) {
    for (let band = 0; band < bands; band++) {
      pixels.data.set([...colours.sound[segment.mel[frame * bands + band]], 255], ((bands - 1 - band) * frames + frame) * 4);
    }
  }
  image.getContext("2d").putImageData(pixels, 0, 0);
  Object.assign(segment, { drawn: image, drawnWith: colours.version });
  return image;
}

function hatch(context, x, y, width, height, colours) {
  context.strokeStyle = colours.bad;
  context.lineWidth = 1;
  for (let step = 6; step < height; step += 10) {
    context.beginPath();
    context.moveTo(x, y + step);
    context.lineTo(x + width, y + step - 6);
    context.stroke();
  }
}

// Chooses the classes that have something to show; a class keeps its row while it has.
export function chooseRows(store, source, from) {
  const peaks = source.labels.map(() => 0);
  for (const cell of source.cells.values()) {
    if (cell.index >= from) source.labels.forEach((_, id) => { peaks[id] = Math.max(peaks[id], cell.classes[id]); });
  }
  for (const event of store.eventsOf(source.id)) {
    const id = source.labels.findIndex((one) => one.label === event.label);
    if (id >= 0 && (event.end_s ?? Infinity) > from) peaks[id] += 1;
  }
  const best = peaks.map((_, id) => id).sort((a, b) => peaks[b] - peaks[a]).slice(0, ROWS);
  source.rows = source.rows.filter((id) => best.includes(id));
  for (const id of best) if (!source.rows.includes(id)) source.rows.push(id);
  return source.rows.map((id) => ({ id, faint: peaks[id] < SHOWN }));
}

function drawClasses(context, store, source, axis, top, colours) {
  const rows = source.scored < 0 ? [] : chooseRows(store, source, axis.from), events = store.eventsOf(source.id);
  rows.forEach(({ id, faint }, number) => {
    const y = top + number * ROW, entry = source.labels[id];
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(axis.gutter, y + ROW - 0.5);
    context.lineTo(axis.width, y + ROW - 0.5);
    context.stroke();
    context.font = "12.5px system-ui, sans-serif";
    label(context, short(context, entry.name, axis.gutter - 8), y + ROW / 2, colours, 12.5, faint ? colours.dim : colours.text);
    context.save();
    context.beginPath();
    context.rect(axis.gutter, y, axis.width - axis.gutter, ROW);
    context.clip();
    for (const cell of source.cells.values()) drawCell(context, cell, cell.classes[id], axis, y, source.latency_segments, colours);
    for (const event of events) if (event.label === entry.label) drawEvent(context, event, axis, y, colours);
    context.restore();
  });
  if (!rows.length) {
    label(context, "Classes", top + ROW / 2, colours, 12.5, colours.text);
    context.fillStyle = colours.dim;
    context.textAlign = "center";
    context.fillText(short(context, "the first scores come after two seconds", axis.width - axis.gutter), (axis.gutter + axis.width) / 2, top + (ROWS * ROW) / 2);
  }
}

function drawCell(context, cell, share, axis, y, latency, colours) {
  if (share < SHOWN) return;
  const left = axis.x(cell.index) + 1, wide = Math.max(2, axis.scale - 2), tall = ROW - 10;
  if (left > axis.width || left + wide < axis.gutter) return;
  const firm = cell.final ? 1 : Math.min(0.8, cell.age / latency);
  context.globalAlpha = 0.15 + 0.85 * share;
  context.fillStyle = context.strokeStyle = colours.accent;
  context.beginPath();
  context.roundRect(left, y + 5 + tall * (1 - firm), wide, tall * firm, cell.final ? 2.5 : 0);
  context.fill();
  if (!cell.final) {
    context.lineWidth = 1.6;
    context.beginPath();
    context.roundRect(left + 0.8, y + 5.8, Math.max(1, wide - 1.6), tall - 1.6, 2.5);
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawEvent(context, event, axis, y, colours) {
  const left = axis.x(event.start_s), right = axis.x(event.end_s ?? event.newest_s);
  if (right < axis.gutter || left > axis.width) return;
  context.strokeStyle = event.end_reason === "retracted" ? colours.dim : colours.event;
  context.lineWidth = 2;
  context.setLineDash(event.confirmed ? [] : [4, 3]);
  context.beginPath();
  if (event.end_s === null) { // still open on its right side
    context.moveTo(right, y + 2);
    context.lineTo(left + 4, y + 2);
    context.quadraticCurveTo(left, y + 2, left, y + 6);
    context.lineTo(left, y + ROW - 7);
    context.quadraticCurveTo(left, y + ROW - 3, left + 4, y + ROW - 3);
    context.lineTo(right, y + ROW - 3);
  } else {
    context.roundRect(left, y + 2, right - left, ROW - 5, 5);
  }
  context.stroke();
  context.setLineDash([]);
}

function drawCurves(context, source, axis, top, colours) {
  const low = top + CURVES - 6, tall = CURVES - 14, middle = low - tall / 2;
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  for (const y of [low, middle, low - tall]) {
    context.beginPath();
    context.moveTo(axis.gutter, y);
    context.lineTo(axis.width, y);
    context.stroke();
  }
  curve(context, source, axis, (cell) => low - cell.relevance * tall, colours.relevance, low);
  curve(context, source, axis, (cell) => middle - (cell.agreement * tall) / 2, colours.agreement, null);
  label(context, "Relevance", top + 16, colours, 12.5, colours.relevance);
  label(context, "Agreement", top + CURVES - 20, colours, 12.5, colours.agreement);
}

// Steps, one for each second; dashed while provisional.
function curve(context, source, axis, place, paint, ground) {
  const cells = [...source.cells.values()].sort((a, b) => a.index - b.index);
  context.save();
  context.beginPath();
  context.rect(axis.gutter, 0, axis.width - axis.gutter, HEIGHT);
  context.clip();
  if (ground !== null) {
    context.fillStyle = paint;
    context.globalAlpha = 0.16;
    for (const cell of cells) context.fillRect(axis.x(cell.index), place(cell), axis.scale + 0.5, ground - place(cell));
    context.globalAlpha = 1;
  }
  context.strokeStyle = paint;
  context.lineWidth = 2;
  for (const final of [true, false]) {
    context.setLineDash(final ? [] : [3, 3]);
    context.beginPath();
    cells.forEach((cell, number) => {
      if (cell.final !== final) return;
      const before = cells[number - 1];
      context.moveTo(axis.x(cell.index), before?.index === cell.index - 1 ? place(before) : place(cell));
      context.lineTo(axis.x(cell.index), place(cell));
      context.lineTo(axis.x(cell.index + 1), place(cell));
    });
    context.stroke();
  }
  context.restore();
}

function drawTimes(context, source, axis, top, colours) {
  const step = STEPS.find((one) => (axis.to - axis.from) / one <= 8) ?? STEPS.at(-1);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = "11.5px system-ui, sans-serif";
  for (let at = Math.max(0, Math.ceil(axis.from / step) * step); at <= axis.to; at += step) {
    const x = axis.x(at), words = clockWords(source, at), half = context.measureText(words).width / 2;
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, top - 2);
    context.lineTo(x, top + 4);
    context.stroke();
    if (x - half < axis.gutter - 12 || x + half > axis.width) continue;
    context.fillStyle = colours.dim;
    context.fillText(words, x, top + 14);
  }
}

function drawCursor(context, axis, view, colours) {
  const x = axis.x(view.time);
  if (x < axis.gutter) return;
  context.strokeStyle = colours.text;
  context.lineWidth = view.paused ? 2 : 1.2;
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, HEIGHT - AXIS);
  context.stroke();
}

// What is at a time, in words, for a screen reader.
function wordsAt(store, source, time) {
  const cell = cellAt(source, time), when = clockWords(source, time);
  if (!cell) return `${when}: no scores yet`;
  const best = cell.classes.indexOf(Math.max(...cell.classes));
  const what = best < source.labels.length ? source.labels[best].name : "background";
  const open = store.eventsOf(source.id).filter((one) => one.start_s <= time && time < (one.end_s ?? one.newest_s));
  const events = open.length ? `, event ${open.map((one) => nameOf(source, one)).join(" and ")}` : "";
  return `${when}: ${what} ${Math.round(cell.classes[best] * 100)} percent, ${cell.final ? "final" : "provisional"}${events}`;
}

// Tells a screen reader what the timeline and the picture show.
export function sayTime(lanes, picture, store, source, time) {
  const words = wordsAt(store, source, time);
  picture.setAttribute("aria-label", `Picture at ${words}`);
  lanes.setAttribute("aria-valuemin", String(Math.max(0, source.newest + 1 - store.kept)));
  lanes.setAttribute("aria-valuemax", String(Math.max(0, source.newest)));
  lanes.setAttribute("aria-valuenow", String(Math.max(0, Math.floor(time))));
  lanes.setAttribute("aria-valuetext", words);
}

// The time that a key chooses on the timeline, in the middle of a second; undefined for other keys. End chooses the given end.
export function steppedTo(event, time, end) {
  const now = Math.floor(time) + 0.5;
  const steps = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageUp: now + 10, PageDown: now - 10, Home: 0, End: end };
  if (event.key in steps) event.preventDefault();
  return steps[event.key];
}
