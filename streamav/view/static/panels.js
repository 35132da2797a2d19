// Writes the parts of the page that are text: state, top scores, figures, events. Text is set as text, never as HTML.

import { drawHeat } from "./picture.js";
import { cellAt, clockWords, nameOf } from "./store.js";

const TONES = { online: "good", starting: "wait", warming_up: "wait", degraded: "warn", lost: "bad", disabled: "warn" };
const STAGES = [["capture_s", "capture", "a"], ["wait_s", "queue", "b"], ["features_s", "features", "c"], ["model_s", "model", "d"], ["publish_s", "publish", "e"]];

export function tone(state) { return TONES[state] ?? "wait"; }
export function stateWords(state) { return state.replace("_", " "); }

export function element(tag, values = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(values)) {
    if (key === "text") made.textContent = value;
    else if (key === "class") made.className = value;
    else if (key.startsWith("--")) made.style.setProperty(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function put(node, text) { if (node.textContent !== text) node.textContent = text; }

function milliseconds(seconds) { return seconds < 0.0995 ? `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`; }

export function showState(node, store, source) {
  const warming = source.state === "warming_up" && source.newest >= 0 && !store.ended;
  const quiet = source.state === "online" || store.ended;
  const key = quiet ? "" : `${source.state}|${source.reason}|${warming ? source.newest - source.first + 1 : ""}`;
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.dataset.tone = tone(source.state);
  node.replaceChildren();
  if (quiet) return;
  node.append(element("strong", { text: `${source.id}: ${stateWords(source.state)}` }));
  if (source.reason) node.append(` – ${source.reason}. `);
  if (source.remedy) node.append(source.remedy);
  if (warming) {
    const seconds = Math.min(10, source.newest - source.first + 1);
    node.append(element("progress", { max: 10, value: seconds, "aria-label": `${seconds} of 10 seconds` }), ` ${seconds} of 10 s`);
  }
}

export function showTop(list, background, source, time) {
  const cell = cellAt(source, time);
  if (!cell) {
    if (list.children.length || !background.textContent) list.replaceChildren();
    return put(background, "The first scores come after two seconds.");
  }
  const best = source.labels.map((label, id) => ({ ...label, share: cell.classes[id] })).sort((a, b) => b.share - a.share).slice(0, 5);
  while (list.children.length < best.length) {
    list.append(element("li", {}, element("span"), element("span"), element("div", { class: "bar" }, element("i"), element("b"))));
  }
  best.forEach((one, place) => {
    const item = list.children[place], [name, value, bar] = item.children, on = one.thresholds?.on;
    put(name, one.name + (one.thresholds ? "" : " (switched off)"));
    put(value, `${Math.round(one.share * 100)} %`);
    item.className = on !== undefined && one.share >= on ? "above" : "";
    bar.style.setProperty("--share", one.share);
    bar.lastChild.hidden = on === undefined;
    if (on !== undefined) bar.style.setProperty("--mark", on);
  });
  const rest = Math.round(cell.classes.at(-1) * 100);
  put(background, `Background ${rest} %. These scores are ${cell.final ? "final" : "provisional"}. The mark is where an event begins.`);
}

export function showFigures(parts, store, source) {
  const times = source.times;
  if (!times) return put(parts.words, "No second has been processed yet.");
  const total = STAGES.reduce((sum, [key]) => sum + times[key], 0);
  put(parts.words, `${milliseconds(total)} from the end of a second to its first scores. They are final after ${source.latency_segments} s.`);
  STAGES.forEach(([key, name, paint], place) => {
    if (!parts.bar.children[place]) {
      parts.bar.append(element("i", { "--paint": `var(--${paint})` }));
      parts.split.append(element("li", { "--paint": `var(--${paint})` }));
    }
    parts.bar.children[place].style.setProperty("--share", Math.max(0.001, times[key] / (total || 1)));
    put(parts.split.children[place], `${name} ${milliseconds(times[key])}`);
  });
  const told = source.telemetry, level = source.cells.get(source.scored)?.level_dbfs;
  figures(parts.list, [
    ["Real-time factor", source.factor.toFixed(3), source.factor < 1 ? `busy ${Math.max(1, Math.round(source.factor * 100))} % of the time` : "too slow for a live source"],
    ["Sound late by", source.skew === null ? "–" : `${source.skew} ms`, source.skew === null ? "not measured" : "against the picture"],
    ["Dropped", String(source.dropped), "seconds since the start"],
    ["Loudness", level === null || level === undefined ? "–" : `${Math.round(level)} dBFS`, "of the newest second"],
    ["Pictures", told ? `${told.frames_per_second.toFixed(1)} / s` : `${source.segments.get(source.newest)?.frames ?? "–"} / s`, told ? "arrive" : "processed"],
  ]);
}

function figures(list, entries) {
  entries.forEach(([name, value, note], place) => {
    if (!list.children[place]) list.append(element("div", {}, element("dt"), element("dd")));
    const [term, content] = list.children[place].children;
    put(term, name);
    const key = `${value}|${note}`;
    if (content.dataset.key === key) return;
    content.dataset.key = key;
    content.replaceChildren(value, element("small", { text: note }));
  });
}

export function eventState(event) {
  if (event.end_reason === "retracted") return "retracted";
  if (event.end_s === null) return event.confirmed ? "going on" : "not confirmed yet";
  return event.end_reason === "ended" ? "ended" : `ended (${event.end_reason.replace("_", " ")})`;
}

function placeWords(event) {
  if (!event.box || !event.peak) return "somewhere";
  const [x, y] = event.peak;
  return `${["top", "middle", "bottom"][Math.min(2, Math.floor(3 * y))]} ${["left", "centre", "right"][Math.min(2, Math.floor(3 * x))]}`;
}

export function showBroker(node, store) {
  const broker = store.broker, key = broker && broker.state !== "online" && !store.ended ? `${broker.state}|${broker.reason}|${broker.remedy}` : "";
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.replaceChildren();
  if (!key) return;
  node.dataset.tone = tone(broker.state);
  node.append(element("strong", { text: "MQTT broker" }), ` – ${broker.reason}. ${broker.remedy}`);
}

export function showEvents(list, none, store, source, choose, actions = null) {
  const events = store.eventsOf(source.id).sort((a, b) => (a.start_s - b.start_s) * (store.oldestFirst ? 1 : -1));
  put(none, events.length ? "" : `${store.ended ? "No event was found" : "No event so far"}. An event is something that is heard and seen at the same time.`);
  none.hidden = events.length > 0;
  const known = new Map([...list.children].map((item) => [item.dataset.id, item]));
  events.forEach((event, place) => {
    const item = known.get(event.id) ?? element("li", { "data-id": event.id }, element("button", { type: "button" }));
    const key = JSON.stringify([event.phase, event.newest_s, event.score, event.end_reason, event.confirmed, Boolean(event.thumbnail)]);
    if (item.dataset.key !== key) { // in place: an event that goes on must not take the focus away every second
      item.dataset.key = key;
      item.event = event;
      item.firstChild.onclick = () => choose(event);
      fillItem(item.firstChild, source, event);
      const sayable = actions !== null && event.confirmed && event.end_reason !== "retracted";
      if (sayable && !item.children[1]) item.append(actions(source, item));
      if (!sayable) item.children[1]?.remove();
    }
    known.delete(event.id);
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
  });
  for (const item of known.values()) item.remove();
}

const THUMB = 64; // pixels

function heatMap(attention) {
  const canvas = element("canvas", { width: THUMB, height: THUMB, "aria-hidden": "true" });
  drawHeat(canvas.getContext("2d"), attention, THUMB, THUMB, 0.65);
  return canvas;
}

function fillItem(button, source, event) {
  const thumb = element("span", { class: "thumb" });
  if (event.thumbnail) thumb.append(element("img", { src: `data:image/jpeg;base64,${event.thumbnail}`, alt: "" }));
  if (event.heat?.length) thumb.append(heatMap(event.heat));
  if (event.box) {
    const [x0, y0, x1, y1] = event.box;
    thumb.append(element("i", { "--x": x0, "--y": y0, "--w": x1 - x0, "--h": y1 - y0 }));
  }
  const end = event.end_s ?? event.newest_s, length = Math.round(end - event.start_s);
  const what = element("span", { class: "what" },
    element("strong", { text: nameOf(source, event) }),
    element("span", { text: `${clockWords(source, event.start_s)}, ${length} s, ${eventState(event)}` }),
    element("span", { text: `${Math.round(event.score * 100)} %, ${placeWords(event)}` }));
  button.className = event.end_reason === "retracted" ? "gone" : event.end_s === null ? "open" : "";
  button.replaceChildren(thumb, what);
}
